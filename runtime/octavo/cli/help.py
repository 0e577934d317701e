"""Help of a command: every flag whole, however narrow the terminal.

typer's own tables give each flag a cell of what room is left, and cut it there.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand


class Command(TyperCommand):
    """A command whose options stand under the headings of their panels, as plain text."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            heading = "Arguments" if isinstance(parameter, TyperArgument) else "Options"
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None) or heading
                panels.setdefault(panel, []).append(record)
        for panel in sorted(panels, key=lambda name: name == "Options"):  # --help comes last
            with formatter.section(panel):
                formatter.write_dl(panels[panel])
