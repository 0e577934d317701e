"""Parser of requests, on httptools', which reads on as HTTP/1.1 where a client wishes for another protocol.

A server may ignore such a wish (RFC 9110, 7.8); Java's client has it in each request for h2c. But llhttp
takes the end of such a head for the end of HTTP on the connection, and what follows for something else: the
body is lost, or read as another request. So the same head goes without its `Upgrade` to another parser, which
says nothing of it, and then what follows.
"""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class RequestParser:
    """Stands in a connection for the parser that uvicorn gave it.

    Args:
        connection: Hears of the parts of requests. Of one that wishes for another protocol it hears of an
            end too early, while `is_cut_short`.
    """

    def __init__(self, connection: HttpToolsProtocol) -> None:
        self._connection = connection
        self._parser = _parser_for(connection)

    @property
    def is_cut_short(self) -> bool:
        return self._parser.should_upgrade()

    def feed_data(self, data: bytes) -> None:
        """Raises `httptools.HttpParserError`, after which the connection is of no more use."""
        rest = memoryview(data)  # many requests in one read are not copied over and over
        while rest:
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
                head = self._head()
                self._parser = _parser_for(_Rest(self._connection))
                self._parser.feed_data(head)
            else:
                return

    def get_http_version(self) -> str:
        return self._parser.get_http_version()

    def get_method(self) -> bytes:
        return self._parser.get_method()

    def should_keep_alive(self) -> bool:
        return self._parser.should_keep_alive()

    def should_upgrade(self) -> bool:
        return False

    def _head(self) -> bytes:
        version = self.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.get_method(), self._connection.url, version)]
        for name, value in self._connection.headers:
            if name != b"upgrade":
                lines.append(b"%s: %s" % (name, value))
        return b"\r\n".join([*lines, b"", b""])


class _Rest:
    """Tells a connection what comes after a head that it knows."""

    def __init__(self, connection: HttpToolsProtocol) -> None:
        self._connection = connection
        self._is_known = True
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete

    def on_message_begin(self) -> None:
        if not self._is_known:
            self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._is_known:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_known:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_known:
            self._is_known = False
        else:
            self._connection.on_headers_complete()


def _parser_for(events: HttpToolsProtocol | _Rest) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(events)
    # What follows the last request of a connection does not spoil its answer (as in uvicorn).
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
