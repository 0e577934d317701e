"""Outside suites against a live server: `python -m suites [NAME …]`, or `make suites`.

Clients, frameworks and harnesses are run as their users run them, against `octavo serve builtin://demo` and
an encoder. What passes must pass. What does not is told in `known_failures.toml` with its reason, and one of
these that passes fails the run too, so that the list stays true.
"""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer

from suites.environment import SUITES, Suite, available, prepare
from suites.known import compare, read_known
from suites.report import results
from suites.servers import servers

app = typer.Typer(add_completion=False)


@app.command()
def main(
    names: Annotated[list[str] | None, typer.Argument(help="Suites. [default: all]")] = None,
    lists: Annotated[bool, typer.Option("--list", help="Name the suites and end.")] = False,
) -> None:
    """Run outside suites and compare their results with what is known."""
    chosen = choose(names or [])
    if lists:
        print(*(suite.name for suite in chosen), sep="\n")
        return
    able = [suite for suite in chosen if available(suite)]
    prepare(able)
    known = read_known()
    complaints: list[str] = []
    passed = failed = 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers end with the run
    with servers() as environment:
        for suite in able:
            found = results(suite, {**os.environ, **environment})
            verdict = compare(suite.name, found, known)
            passed += verdict.passed
            failed += verdict.known
            complaints += verdict.complaints
            print(f"{suite.name}: {verdict}", *verdict.complaints, sep="\n  ", flush=True)
    left_out = [suite.name for suite in chosen if suite not in able]
    if left_out:
        print(f"not run, for the lack of node or go: {', '.join(left_out)}")
    print(f"{passed} passed, {failed} known to fail, {len(complaints)} not as expected")
    if complaints:
        raise typer.Exit(1)


def choose(names: list[str]) -> list[Suite]:
    """All without a name; exits where one is unknown."""
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        raise typer.BadParameter(f"no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
    return [SUITES[name] for name in names or SUITES]


if __name__ == "__main__":
    app()
