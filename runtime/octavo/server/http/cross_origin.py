"""CORS and CSRF: which pages' requests are run, and whose answers a browser lets them read.

A browser lets any page send a plain POST, and keeps no more than the answer from it: the request has cost
what it costs. So a server that names origins refuses the others' requests itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from octavo.server.http.asgi import JSON, AsgiApp, Scope, header
from octavo.server.http.origin import ANY, normalized_origin
from octavo.server.openai.api_errors import ApiError

_METHODS = ("GET", "POST", "HEAD")


class AllowedOrigins:
    """`*`, or single origins. Raises `ValueError` for what is none."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(map(normalized_origin, origins))

    def check(self, scope: Scope) -> None:
        """Raises `ApiError` (403) for the request of a page that is neither allowed nor of this host.

        Programs send no `Origin`; a browser sends it with all that a page can cause on another's server.
        """
        origin = header(scope, b"origin")
        if origin is None or not self._origins.isdisjoint((ANY, origin)):
            return
        if not _is_of_host(origin, header(scope, b"host")):
            raise _not_allowed(origin)

    def around(self, app: AsgiApp) -> AsgiApp:
        """`app` with browsers' questions answered before it, and the headers that they look for."""
        return _Cors(
            app,
            allow_origins=self._origins,
            allow_methods=_METHODS,
            allow_headers=("*",),
            expose_headers=("X-Request-Id", "Retry-After"),
        )


class _Cors(CORSMiddleware):
    """Refuses in OpenAI's form."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        origin = request_headers["origin"]
        error = ApiError(400, f"{bytes(answer.body).decode()}.", code="invalid_cors_request")
        method = request_headers["access-control-request-method"]
        if method not in _METHODS:
            message = (
                f"Pages may not use the method {method[:32]!r}; {', '.join(_METHODS)} are allowed."
            )
            error = ApiError(400, message, code="invalid_cors_request")
        if not self.is_allowed_origin(origin):
            error = _not_allowed(origin)
        headers = {
            name: value for name, value in answer.headers.items() if not name.startswith("content-")
        }
        return Response(error.body(), error.status, headers, JSON)


def _is_of_host(origin: str, host: str | None) -> bool:
    """Whether the page came from where its request goes. The scheme may have ended at a proxy: it is
    taken to be the same."""
    scheme = origin.partition(":")[0]
    try:
        return normalized_origin(origin) == normalized_origin(f"{scheme}://{host}")
    except ValueError:
        return False


def _not_allowed(origin: str) -> ApiError:
    return ApiError(
        403,
        f"Pages of the origin {origin[:256]!r} may not use this server. Add the origin to --allowed-origins "
        "if they shall.",
        code="origin_not_allowed",
    )
