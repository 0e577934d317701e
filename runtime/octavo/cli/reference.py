"""Reference of the flags: the table of docs/reference/cli.md, made from the options.

`python -m octavo.cli.reference` writes it; with `--check` it fails on drift. The page keeps its prose: what
stands between `<!-- generated: serve -->` and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import argparse
import enum
import re
import sys
from pathlib import Path

from octavo.config import EngineConfig
from octavo.options import OptionField, Panel, option_fields
from octavo.server.process.options import ServeOptions
from octavo.server.process.tls_options import TlsOptions

PAGE = Path("docs/reference/cli.md")
_SECTION = re.compile(r"(<!-- generated: serve -->\n).*?(<!-- end -->)", re.DOTALL)


def updated(page: str) -> str:
    """The page with its table made anew. Raises ValueError when it has no place for one."""
    text, count = _SECTION.subn(lambda found: f"{found[1]}\n{flags_table()}\n{found[2]}", page)
    if count != 1:
        raise ValueError(f"{PAGE} needs one `<!-- generated: serve -->` … `<!-- end -->`")
    return text


def flags_table() -> str:
    """Every flag of `octavo serve` with its default and meaning, by panel."""
    fields = [
        field for kind in (ServeOptions, TlsOptions, EngineConfig) for field in option_fields(kind)
    ]
    fields.sort(key=lambda field: list(Panel).index(field.option.panel))
    return "\n".join(["| flag | default | what |", "|---|---|---|", *map(_row, fields), ""])


def _row(field: OptionField) -> str:
    flags = list(field.flags)
    if field.kind is bool and field.default:
        flags.append(f"--no-{flags[0][2:]}")
    return f"| {', '.join(f'`{flag}`' for flag in flags)} | {_default(field)} | {_meaning(field)} |"


def _default(field: OptionField) -> str:
    if field.option.default:
        return field.option.default
    match field.default:
        case bool():
            return "on" if field.default else "off"
        case int() | float():
            return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        case enum.Enum():
            return f"`{field.default.value}`"
        case _:
            return f"`{field.default}`"


def _meaning(field: OptionField) -> str:
    if field.option.details:
        return field.option.details
    text = field.option.help.removesuffix(".")
    # A table's cells begin small, unless with a name such as OpenAI or MODEL.
    return text if text[1:2].isupper() else text[0].lower() + text[1:]


def main(arguments: list[str] | None = None) -> int:
    """Write the table of the page below `--root`, or with `--check` report that it differs."""
    parser = argparse.ArgumentParser(prog="octavo.cli.reference", description=main.__doc__)
    parser.add_argument("--root", type=Path, default=Path.cwd())
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    page = options.root / PAGE
    text = page.read_text(encoding="utf-8")
    if options.check:
        if text == updated(text):
            return 0
        print(f"{PAGE} is out of date: run `make reference`", file=sys.stderr)
        return 1
    page.write_text(updated(text), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
