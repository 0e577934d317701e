"""No HTTP: what is said of bytes that are no request of HTTP/1.1, and what they may have been meant as."""

from __future__ import annotations

SHOWN_BYTES = 24
"""Of a read's beginning, by which other protocols are known."""
_TLS_HANDSHAKE = b"\x16\x03"
_HTTP2_PREFACE = b"PRI * HTTP/2"
_FORM = "Send METHOD PATH HTTP/1.1, then a line NAME: VALUE for each header, and an empty line."


def no_http(begin: bytes, why: str, *, is_plain: bool) -> str:
    """
    Args:
        begin: What the bytes begin with.
        why: In the parser's words; may be empty.
        is_plain: The port speaks no TLS.
    """
    if is_plain and begin.startswith(_TLS_HANDSHAKE):
        return (
            "The request is no HTTP but TLS, which this port does not speak. Ask it by http://, or start the "
            "server with --ssl-certfile and --ssl-keyfile."
        )
    if begin.startswith(_HTTP2_PREFACE):
        return (
            "The request is of HTTP/2, which this server does not speak. Have the client, or the proxy "
            "before it, use HTTP/1.1."
        )
    told = f" ({why.removesuffix('.')})" if why else ""
    return f"The request is no HTTP/1.1{told}. {_FORM}"
