"""Ranks of every family as processes: 2 and 4 of them answer as one does, greedy, token for token.
`make ranks` runs this, which starts some eighty processes.

Each engine has chunks of prompts, a cached prefix, sequences that lose their blocks, several completions of a
prompt, a grammar, penalties, log-probabilities, an adapter in the same batches, and then all of it again with
drafts: the model's own where it has no sliding windows, else those of who knows the answers. The tests of a
commit take four families so (`tests/runtime/worker/test_ranks.py`), and all of them as threads. Of those that
run by transformers' modules there is one for each way to share them.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import traceback
from pathlib import Path

from octavo.config import ModelImplementation
from octavo.models.registry import read_model_config
from octavo.models.sharing import sizes_that_share
from octavo.speculative_config import SpeculativeConfig, SpeculativeMethod
from tests.support.runtime.adapters import save_adapter
from tests.support.runtime.rank_answers import (
    answers_of,
    assert_same,
    executor_of,
    save_generic_model,
    save_model,
)
from tests.support.runtime.shared_kinds import KINDS

SIZES = (2, 4)
# Norms over all heads with experts, sinks with experts' biases, all heads on each, no plan.
GENERIC = ("olmoe", "gpt_oss", "beam", "persimmon")
_TIMEOUT_SECONDS = 600  # on a busy machine, too


def compare(work: Path, kind: str) -> list[str]:
    """What became of each size. Raises `AssertionError` where an answer differs."""
    folder, adapter = work / "model", work / "adapter"
    if kind in KINDS:
        family, changes = KINDS[kind]
        saved = save_model(folder, family, **{"intermediate_size": 90, **changes})
    else:
        saved = save_generic_model(folder, kind)
    model = read_model_config(folder, ModelImplementation.AUTO)
    names = {name for one in model.adaptable_projections() for name in one.names}
    # Far from the base, in every family.
    save_adapter(
        adapter,
        saved,
        rank=8,
        lora_alpha=64,
        picks=lambda name: name in names or not model.is_generic,
    )
    # A random Gemma 3 repeats what it read, whatever the adapter adds to its products.
    changes_answers = kind != "gemma3"
    guesses = None
    if not any(model.spec.windows):
        guesses = SpeculativeConfig(method=SpeculativeMethod.DRAFT_MODEL, model=str(folder))
    expected = answers_of(folder, executor_of(folder, 1), adapter)
    lines = []
    for size in sorted(set(SIZES) & set(sizes_that_share(model))):
        executor = executor_of(folder, size, guesses, distributed_timeout_seconds=_TIMEOUT_SECONDS)
        found = answers_of(folder, executor, adapter, drafts=True)
        assert_same(found, expected, tunes=changes_answers)
        lines.append(
            f"{kind:<16} {size} processes: the same ({len(found.tokens)} completions, "
            f"{found.num_preemptions} preemptions, {found.num_accepted} guesses came true)"
        )
        del executor
        gc.collect()  # with the executor its processes end
    return lines


def main() -> int:
    """Exit status 1 where an answer differs; all are tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=[*KINDS, *GENERIC], metavar="KIND")
    failed = []
    for kind in parser.parse_args().kinds:
        with tempfile.TemporaryDirectory() as work:
            try:
                print("\n".join(compare(Path(work), kind)), flush=True)
            except AssertionError as error:
                failed.append(kind)
                where = traceback.extract_tb(error.__traceback__)[-1]
                print(f"{kind:<16} differs: {str(error) or where.line}", flush=True)
    print(f"{', '.join(failed)} differ" if failed else "all are the same")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
