"""Grammar trial's process: `python -m octavo.engine.grammars.trial_process`, which an engine starts with its
first grammar.

It compiles what standard input brings, one line of JSON each, and answers with a line when that is done; a
grammar that costs more than it may ends it. It ends with its standard input, and alone where its engine was
killed under a grammar.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from pathlib import Path

import msgspec

from octavo.engine.grammars.compiler import GrammarCompiler
from octavo.engine.grammars.trial import TrialModel, TrialTask
from octavo.errors import OctavoError
from octavo.structured_outputs import StructuredOutputsParams
from octavo.tokenizer import load_tokenizer

_MOST_BYTES = 2 * 2**30
"""Beyond what the process has before; a grammar may take 100 MB."""
_ANSWER = b"\n"
_PLAIN = StructuredOutputsParams(json_object=True)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # reaches the whole group; the engine decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    model = msgspec.json.decode(sys.stdin.buffer.readline(), type=TrialModel)
    folder = Path(model.folder)
    compiler = GrammarCompiler(lambda: load_tokenizer(folder), model.vocab_size, max_kept=1)
    decoder = msgspec.json.Decoder(TrialTask | None)
    for line in sys.stdin.buffer:
        task = decoder.decode(line)
        if task is not None:
            with contextlib.suppress(OctavoError):
                compiler.prepare(_PLAIN, task.end_token_ids)  # reads the tokenizer, within no limit
                _limit(model.cpu_seconds)
                compiler.prepare(task.outputs, task.end_token_ids)
        answers.write(_ANSWER)
    return 0


def _limit(cpu_seconds: int) -> None:
    """From now on the kernel ends the process at so much more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        most = pages * resource.getpagesize() + _MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    sys.exit(main())
