"""Host that was asked for a model: what the errors of HTTP clients leave out, and what a firewall or a proxy
must let through."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit


def asked_host(error: BaseException, endpoint: str) -> str:
    """The host, with its port where it has one, whose answer or silence `error` tells; never credentials.

    Args:
        endpoint: The URL that was asked first: whoever answers there may send on to another host, which holds
            the files.
    """
    for each in _causes(error):
        try:
            url = str(each.request.url)  # type: ignore[attr-defined]
        except (AttributeError, RuntimeError):  # httpx's own where none is set
            continue
        if host := _host(url):
            return host
    return _host(endpoint)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
