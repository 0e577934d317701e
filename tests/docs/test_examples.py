"""Examples of the Python API ask the demo model as it was trained to be asked: through its chat template."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    *(
        pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, block in enumerate(
            re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        )
    ),
    pytest.param((ROOT / "runtime/octavo/llm.py").read_text("utf-8"), id="docstrings of LLM"),
]
DEMO = re.compile(r'LLM\("builtin://demo".*?(?=```|"""|\Z)', re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_demo_model_is_asked_in_a_chat(block: str) -> None:
    """A question that it gets as a raw prompt it continues with anything."""
    for example in DEMO.findall(block):
        assert "llm.chat(" in example
        assert not re.search(r"llm\.generate\(\[[\"']", example), example


def test_there_are_examples() -> None:
    assert sum(bool(DEMO.search(str(block.values[0]))) for block in BLOCKS) >= 5
