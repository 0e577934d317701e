"""Pages of the site that lie outside docs/: README, chart, contributing, changelog, security, figures.

MkDocs reads one folder. These pages are read where GitHub shows them, and links between them and docs/ are
rewritten, so that a link works in the repository and on the site alike. A link to a file that is no page
(an example, a folder) becomes its text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# From the path in the repository to the path on the site.
OUTSIDE = {
    "README.md": "index.md",
    "charts/octavo/README.md": "reference/chart.md",
    "benchmarks/NOTES.md": "explanation/figures.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    root = Path(config.docs_dir).parent
    for source, target in OUTSIDE.items():
        files.append(File.generated(config, target, abs_src_path=str(root / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links of the repository into links of the site."""
    root = Path(config.docs_dir).parent
    here = _in_repository(page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return match.group(0)
        found = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        if not (root / found).exists():
            return match.group(0)  # broken: MkDocs says so
        on_site = OUTSIDE.get(found) or found.removeprefix("docs/")
        if files.get_file_from_path(on_site) is None:
            return text
        relative = posixpath.relpath(on_site, posixpath.dirname(page.file.src_uri) or ".")
        return f"[{text}]({relative}{'#' if anchor else ''}{anchor})"

    return _LINK.sub(link, markdown)


def _in_repository(on_site: str) -> str:
    sources = {target: source for source, target in OUTSIDE.items()}
    return sources.get(on_site, f"docs/{on_site}")
