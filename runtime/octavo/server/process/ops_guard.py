"""Guard of the ops port: what changes a server there, no page in somebody's browser may ask for.

The port has no key, and a browser sends some requests of any page without asking first.
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo.server.http.asgi import Scope, header
from octavo.server.http.hosts import ANY, AllowedHosts
from octavo.server.openai.api_errors import ApiError


class OpsGuard:
    """
    Args:
        hosts: Names that the server is asked by, as `AllowedHosts` takes them.
    """

    def __init__(self, hosts: Sequence[str] = (ANY,)) -> None:
        self._hosts = AllowedHosts(hosts)

    def check(self, scope: Scope) -> None:
        """Raises `ApiError` (403) for a page's request, and for one to a name that is not the server's."""
        if header(scope, b"origin") is not None or header(scope, b"sec-fetch-site") is not None:
            raise ApiError(
                403,
                "Requests of web pages are not taken here: send it without Origin, from a program.",
                code="origin_not_allowed",
            )
        self._hosts.check(scope)
