"""Entry of the command. What the script `octavo` and `python -m octavo` call: light, so that Ctrl-C finds it.

The commands' own imports take seconds on a busy machine: an interrupt among them ends the command as one
during its run does, with 130 and without a traceback.
"""

from __future__ import annotations

import sys

_INTERRUPTED = 130


def main() -> None:
    """Runs the command of `sys.argv` and exits with its status."""
    try:
        from octavo.cli.main import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = _INTERRUPTED
    sys.exit(status)
