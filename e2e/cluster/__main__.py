"""`python -m e2e.cluster`. A bare Python, which can only take a cluster down, tells which other to use."""

import sys

try:
    from e2e.cluster.cli import main
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] in ("e2e", "host", "images"):
        raise
    from e2e.cluster.cluster import COMMAND
    from host.progress import complain

    complain(
        f"This Python lacks {error.name}. `make .venv/.tools` makes one that has it: {COMMAND} "
        f"{' '.join(sys.argv[1:])}".rstrip()
        + ". To take a cluster down any Python will do: python3 -m e2e.cluster.down [--all]."
    )
    sys.exit(1)

main()
