"""Sockets. Takes the ports before anything slow happens."""

from __future__ import annotations

import socket

from octavo.errors import InvalidConfigurationError


def bind(host: str, port: int, flag: str) -> socket.socket:
    """Takes the port, early and without listening: a conflict shows before a model is loaded.

    Raises:
        InvalidConfigurationError: The port is in use or may not be used; the message names `flag`.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        message = f"host is {host!r}, which is no address of this machine ({error.strerror})."
        raise InvalidConfigurationError(message) from None
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise InvalidConfigurationError(
            f"{flag} is {port}, and {host}:{port} cannot be used ({error.strerror}). Stop what "
            f"listens there or give another port with {flag}."
        ) from None
    return listening
