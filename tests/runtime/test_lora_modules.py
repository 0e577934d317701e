"""`--lora-modules`, as vLLM has it: what it is given is read strictly, and what is wrong is quoted."""

from __future__ import annotations

import pytest

from octavo.errors import InvalidConfigurationError
from octavo.lora_modules import LoraModule, read_lora_modules


def test_both_forms_are_read() -> None:
    given = ["a=/a", '{"name": "b", "path": "/b", "base_model_name": "c"}']
    assert read_lora_modules(given) == [LoraModule("a", "/a"), LoraModule("b", "/b", "c")]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("a=", "; give name=path"),
        ("{", ": it is not JSON: "),
        ('{"name": "a"}', ": Object missing required field `path`."),
        ('{"name": "a", "path": ""}', ": Expected `str` of length >= 1"),
        ('{"name": "a", "path": "/a", "name": "b"}', ": it holds the key 'name' twice;"),
        ('{"name": "a", "path": "/a", "x": {"k": 1, "k": 2}}', ": it holds the key 'k' twice;"),
    ],
)
def test_what_is_wrong_is_quoted(given: str, why: str) -> None:
    with pytest.raises(InvalidConfigurationError) as caught:
        read_lora_modules([given])
    assert str(caught.value).startswith(f"lora_modules holds {given!r}{why}")
