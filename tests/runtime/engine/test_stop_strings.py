from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.engine.requests.stop_strings import StopStringFinder

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


@given(
    st.lists(
        st.one_of(st.text(alphabet="abs<>", max_size=4).map(MarkedText), st.just(SPECIAL)),
        max_size=8,
    ),
    st.lists(st.text(alphabet="abs<>", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_a_stop_string_shows_neither_with_the_special_tokens_nor_without(
    pieces: list[MarkedText], stop_strings: list[str]
) -> None:
    """Every cut is the whole, and what is shown holds no stop string."""

    def read_marked(cut: list[MarkedText]) -> tuple[MarkedText, str | None]:
        finder = StopStringFinder(stop_strings)
        shown = MarkedText()
        for piece in cut:
            match = finder.push(piece)
            shown += match.text
            if match.stop_string is not None:
                return shown, match.stop_string
        return shown + finder.flush(), None

    shown, stop = read_marked(pieces)
    whole = joined(pieces)
    assert (shown, stop) == read_marked([whole])
    assert not any(stop in shown.shown for stop in stop_strings)
    assert whole.text.startswith(shown.text)
    if stop is None:
        assert shown == whole


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
