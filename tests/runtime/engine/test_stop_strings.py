from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.engine.requests.stop_strings import StopStringFinder
from tests.support.runtime.counted_text import CountedWork

few_letters = st.text(alphabet="abc", max_size=30)
stops = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), min_size=1, max_size=3)


def read(pieces: list[str], stop_strings: list[str]) -> tuple[str, str | None, list[str]]:
    finder = StopStringFinder(stop_strings)
    shown = []
    for piece in pieces:
        match = finder.push(MarkedText(piece))
        shown.append(match.text.shown)
        if match.stop_string is not None:
            return "".join(shown), match.stop_string, shown
    shown.append(finder.flush().shown)
    return "".join(shown), None, shown


def read_whole(text: str, stop_strings: list[str]) -> tuple[str, str | None]:
    """Character by character, the definition."""
    for end in range(len(text) + 1):
        found = [stop for stop in stop_strings if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(few_letters, stops, st.data())
def test_the_result_does_not_depend_on_where_the_text_is_cut(
    text: str, stop_strings: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown, stop, _ = read(pieces, stop_strings)
    assert (shown, stop) == read_whole(text, stop_strings)


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    _, _, shown = read(["Hello\n", "\nUs", "ual\n", "\nUser:", " no"], ["\n\nUser:"])
    assert shown == ["Hello", "", "\n\nUsual", ""]


def test_what_was_held_back_comes_out_at_the_end() -> None:
    assert read(["abc\n"], ["\n\n"])[0] == "abc\n"


def test_without_stop_strings_text_passes() -> None:
    assert read(["ab", "c"], [])[2] == ["ab", "c", ""]


SPECIAL = MarkedText("<s>", ((0, 3),))


def read_marked(pieces: list[MarkedText], stop_strings: list[str]) -> tuple[MarkedText, str | None]:
    finder = StopStringFinder(stop_strings)
    shown = []
    for piece in pieces:
        match = finder.push(piece)
        shown.append(match.text)
        if match.stop_string is not None:
            return joined(shown), match.stop_string
    return joined([*shown, finder.flush()]), None


def read_marked_whole(text: MarkedText, stop_strings: list[str]) -> tuple[MarkedText, str | None]:
    """The definition: character by character, with the special tokens and as it shows."""
    hidden = {place for begin, end in text.hidden for place in range(begin, end)}
    inside = {place for begin, end in text.hidden for place in range(begin + 1, end)}
    shown_places = [place for place in range(len(text)) if place not in hidden]
    for end in range(1, len(text) + 1):
        found = []
        for stop in stop_strings:
            start = end - len(stop)
            if text.text[:end].endswith(stop) and not {start, end} & inside:
                found.append((start, stop))
            places = [place for place in shown_places if place < end]
            if end - 1 not in hidden and text[:end].shown.endswith(stop):
                found.append((places[-len(stop)], stop))
        if found:
            start, stop = min(found)
            return text[:start], stop
    return text, None


@given(
    st.lists(
        st.one_of(st.text(alphabet="abs<>", max_size=4).map(MarkedText), st.just(SPECIAL)),
        max_size=8,
    ),
    st.lists(st.text(alphabet="abs<>", min_size=1, max_size=6), min_size=1, max_size=3),
)
def test_a_stop_string_shows_neither_with_the_special_tokens_nor_without(
    pieces: list[MarkedText], stop_strings: list[str]
) -> None:
    whole = joined(pieces)
    expected = read_marked_whole(whole, stop_strings)
    assert read_marked(pieces, stop_strings) == expected
    assert read_marked([whole], stop_strings) == expected
    shown, _ = expected
    assert not any(stop in shown.shown for stop in stop_strings)


@pytest.mark.parametrize(
    ("stop", "begin", "repeated"),
    [
        ("\n\n", "", ["plain ", "words"]),
        ("\n\n", "\n", [SPECIAL]),
        ("\n\n", "", ["\n", SPECIAL, " "]),
        ("aab", "", ["a", SPECIAL]),
        ("ab" * 5000 + "c", "", ["a", SPECIAL, "b", SPECIAL]),
        ("a" * 9000 + "b", "", ["aa"]),
        ("a" * 900 + "b", "", ["a" * 899 + "c"]),
        ("s>" * 9000, "", [SPECIAL]),
    ],
)
def test_ten_times_the_text_is_ten_times_the_work(
    stop: str, begin: str, repeated: list[str | MarkedText], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the text has in common with the stop string's begin."""
    work = CountedWork(monkeypatch)
    marked = [MarkedText(piece) if isinstance(piece, str) else piece for piece in repeated]

    def num_characters_for(times: int) -> int:
        before = work.num_characters
        pieces = work.counted([MarkedText(begin), *marked * times])
        assert read_marked(pieces, [stop]) == (joined(pieces), None)
        return work.num_characters - before

    assert num_characters_for(2000) < 12 * num_characters_for(200)


def test_a_special_token_is_a_stop_string() -> None:
    finder = StopStringFinder(["<s>"])
    assert finder.push(MarkedText("ab<")).text.shown == "ab"
    match = finder.push(SPECIAL)
    assert (match.text.shown, match.stop_string) == ("<", "<s>")


def test_what_is_written_in_a_special_token_is_none() -> None:
    """Its text is not there: `<s>` holds no "s"."""
    finder = StopStringFinder(["s", ">"])
    assert finder.push(SPECIAL).stop_string is None
    assert finder.push(MarkedText("s")).stop_string == "s"


def test_a_stop_string_may_show_around_a_special_token() -> None:
    finder = StopStringFinder(["ab"])
    assert finder.push(MarkedText("xa")).text.shown == "x"
    assert finder.push(SPECIAL).text.shown == ""
    match = finder.push(MarkedText("b"))
    assert (match.text.shown, match.stop_string) == ("", "ab")
