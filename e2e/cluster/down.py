"""`python3 -m e2e.cluster.down [--all]`: takes away what `up` brought, with a bare Python.

Who removes something should not first have to install what made it.
"""

from __future__ import annotations

import argparse
import signal
import sys

from e2e.cluster.cluster import remove_cluster
from host.errors import ToolError
from host.progress import complain, say


def main() -> int:
    """The exit status: 1 when something could not be removed, which is told."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        remove_cluster(options.name, everything=options.all)
    except ToolError as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        say("Interrupted; the same command goes on where this one stopped.")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m e2e.cluster.down", description=__doc__)
    parser.add_argument("--name", default="octavo", help="the cluster's name")
    parser.add_argument(
        "--all", action="store_true", help="all clusters, the registry, and the engine we started"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
