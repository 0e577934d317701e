"""Page in the browser: `GET /`, a chat and the load of the server, from the files in `server/page/`.

One document holds its style and script, named to the browser by their hashes: nothing is fetched from
elsewhere, and nothing that a model writes can run. Where the server needs a key, whoever brings none gets a
form that asks for it; the page then sends it as any client does.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_FOLDER = files("octavo.server") / "page"


@dataclass(frozen=True, slots=True)
class Page:
    """Both documents, HTML in UTF-8, and the headers that either is sent with."""

    document: bytes
    sign_in: bytes
    headers: Mapping[str, str]


@cache
def load_page() -> Page:
    """Reads and puts together the files."""
    parts = {
        name: (_FOLDER / file).read_text("utf-8")
        for name, file in (("style", "page.css"), ("script", "page.js"), ("sign_in", "sign_in.js"))
    }
    return Page(
        _filled("page.html", parts),
        _filled("sign_in.html", parts),
        {
            "Cache-Control": "no-store",
            "Content-Security-Policy": _policy(parts),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _filled(file: str, parts: Mapping[str, str]) -> bytes:
    document = (_FOLDER / file).read_text("utf-8")
    for name, text in parts.items():
        document = document.replace(f"{{{{{name}}}}}", text)
    return document.encode()


def _policy(parts: Mapping[str, str]) -> str:
    # The form replaces itself by the page, and a document keeps the policy that it came with.
    scripts = " ".join(_hash(parts[name]) for name in ("script", "sign_in"))
    return (
        f"default-src 'none'; style-src {_hash(parts['style'])}; script-src {scripts}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
