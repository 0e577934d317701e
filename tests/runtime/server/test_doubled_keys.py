from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.server.http.body import decode_object
from octavo.server.openai.api_errors import ApiError


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"model": "a", "model": "b"}', "model"),
        ('{"a": 1, "b": 2, "a": 1}', "a"),
        (
            '{"messages": [{"role": "user"}, {"role": "user", "content": "", "role": "tool"}]}',
            "messages[1].role",
        ),
        ('{"a": {"b": {"c" : 1, "d": [], "c"\n:2}}}', "a.b.c"),
        ('{"a": [1, {"b": 1, "b": 1}]}', "a[1].b"),
        ('{"a": [[], [{"b": 1, "b": 1}]]}', "a[1][0].b"),
        # The outer one is told: what it had first is not kept.
        ('{"a": {"b": 1, "b": 2}, "a": 3}', "a"),
        # Other spellings of the same key.
        (r'{"a": 1, "\u0061": 2}', "a"),
        (r'{"a\\": 1, "a\\": 2}', "a\\"),
        (r'{"a\"": 1, "a\"": 2}', 'a"'),
        (r'{"\":": 1, "\":": 2}', '":'),
        ('{"": 1, "": 2}', ""),
        ('{"é": 1, "\\u00e9": 2}', "é"),
        ("\ufeff" + '{"a": 1, "a": 2}', "a"),
        ('{"n": ' + "1" * 300 + ', "n": 1.5}', "n"),
        (f'{{"{"k" * 200}": 1, "{"k" * 200}": 2}}', "k" * 64),
    ],
)
def test_a_key_that_is_there_twice_is_told_with_its_path(text: str, path: str) -> None:
    with pytest.raises(ApiError) as refused:
        decode_object(text.encode())
    detail = refused.value.detail
    assert (refused.value.status, detail.code, detail.param) == (400, "invalid_json", path)
    assert detail.message.startswith(f"The body holds {path} twice")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {}}',
        '{"a": {"a": {"a": 1}}, "b": [{"a": 1}, {"a": 1}]}',
        '{"a": 1, "A": 2, "a ": 3}',
        # What looks like more keys than there are.
        r'{"a": "\"model\": 1, \"model\": 2", "b": ": ", "c": [":", ":"]}',
        r'{"path": "C:\\dir\\", "a\\": "\\"}',
        '{"ids": [1, 2, {"a": 1}], "n": ' + "1" * 300 + "}",
    ],
)
def test_keys_that_only_look_alike_are_taken(text: str) -> None:
    assert decode_object(text.encode())


def test_what_is_hidden_behind_a_doubled_key_may_be_deep() -> None:
    deep = "[" * 5000 + "]" * 5000
    for text in (f'{{"a": {deep}, "a": 1}}', f'{{"a": 1, "a": {deep}}}'):
        with pytest.raises(ApiError) as refused:
            decode_object(text.encode())
        assert refused.value.detail.code == "invalid_json"


class _Pairs(tuple[tuple[str, Any], ...]):
    """An object's members, as they are written."""

    __slots__ = ()


_KEYS = st.text(alphabet='ab\\":é \n', max_size=3)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(_KEYS, st.integers(-5, 5), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(st.tuples(_KEYS, inner), max_size=4).map(_Pairs),
    ),
    max_leaves=12,
)


def _written(value: Any, colon: str) -> str:
    if isinstance(value, _Pairs):
        members = (f"{json.dumps(key)}{colon}{_written(one, colon)}" for key, one in value)
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        return f"[{','.join(_written(one, colon) for one in value)}]"
    return json.dumps(value, ensure_ascii=False)


def _is_doubled(value: Any) -> bool:
    if isinstance(value, _Pairs):
        keys = [key for key, _ in value]
        return len(set(keys)) < len(keys) or any(_is_doubled(one) for _, one in value)
    return isinstance(value, list) and any(map(_is_doubled, value))


@given(_VALUES, st.sampled_from([":", ": ", " : ", "\t:"]))
def test_exactly_texts_with_a_doubled_key_are_refused(value: Any, colon: str) -> None:
    body = f'{{"x"{colon}{_written(value, colon)}}}'.encode()
    try:
        decode_object(body)
    except ApiError:
        assert _is_doubled(value)
    else:
        assert not _is_doubled(value)
