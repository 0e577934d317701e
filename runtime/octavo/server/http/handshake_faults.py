"""Handshake faults: why TLS with a client did not come about, in words for the log, and how often it is told.

Whoever scans a port, or a client that tries again and again, would fill the log: each fault has one line in a
while, which says how often it came since the line before.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger("octavo.server")

QUIET_SECONDS = 60.0
"""Between two lines of one fault."""
MAX_FAULTS = 32
"""That are told apart; clients choose OpenSSL's words by what they send."""
NO_TLS = "the client speaks no TLS; it should ask by https://"
TOO_SLOW = "the client took too long"
HUNG_UP = "the client hung up, as some do that do not trust the server's certificate"
_OTHERS = "of several other kinds"
_NO_VERSION = "the client speaks no version of TLS that is spoken here (1.2 and 1.3)"
_UNTRUSTED = "the client does not trust the server's certificate"
_OF_REASON = {
    "HTTP_REQUEST": NO_TLS,
    "NO_SHARED_CIPHER": "the client and the server have no cipher in common (--ssl-ciphers)",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client showed no certificate, which --ssl-cert-reqs asks for",
    "SSLV3_ALERT_BAD_CERTIFICATE": _UNTRUSTED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": _UNTRUSTED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _UNTRUSTED,
    "TLSV1_ALERT_UNKNOWN_CA": _UNTRUSTED,
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_VERSION,
    "UNSUPPORTED_PROTOCOL": _NO_VERSION,
    "VERSION_TOO_LOW": _NO_VERSION,
    "WRONG_SSL_VERSION": _NO_VERSION,
}


def fault_of(error: Exception) -> str:
    """Of what a handshake raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or "nothing"
        return _OF_REASON.get(reason, f"OpenSSL says {reason.lower().replace('_', ' ')}")
    if isinstance(error, (TimeoutError, ConnectionAbortedError)):
        return TOO_SLOW
    return HUNG_UP


@dataclass(slots=True)
class _Told:
    at: float
    num_since: int = 0


class FaultLog:
    """Args:
    now: A clock that does not go back, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._told: dict[str, _Told] = {}

    def tell(self, fault: str, client: str) -> None:
        if fault not in self._told and len(self._told) >= MAX_FAULTS:
            fault = _OTHERS
        before, now = self._told.get(fault), self._now()
        if before is not None and now - before.at < QUIET_SECONDS:
            before.num_since += 1
            return
        self._told[fault] = _Told(now)
        since = {"times_since_last_line": before.num_since + 1} if before is not None else {}
        log.warning("TLS handshake failed", reason=fault, client=client, **since)
