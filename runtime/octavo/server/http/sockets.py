"""Sockets. Takes the ports before anything slow happens."""

from __future__ import annotations

import functools
import resource
import socket

from octavo.errors import InvalidConfigurationError

EVERY_ADDRESS = "::"
_UNACKNOWLEDGED_SECONDS = 75.0
_MAX_CONNECTIONS = 10_000
_OTHER_FILES = 256


@functools.cache
def most_connections() -> int:
    """How many connections the process can have: as many as make sense, or as it may open files."""
    wanted = _MAX_CONNECTIONS + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return (
        _MAX_CONNECTIONS
        if soft == resource.RLIM_INFINITY
        else max(1, min(wanted, soft) - _OTHER_FILES)
    )


def bind(host: str, port: int, flag: str) -> socket.socket:
    """Takes the port, early and without listening: a conflict shows before a model is loaded.

    Args:
        host: `::` is every address, of version 4 of IP too, and of that alone where there is no version 6.

    Raises:
        InvalidConfigurationError: The port is in use or may not be used; the message names `flag`.
    """
    is_of_both = host == EVERY_ADDRESS and socket.has_dualstack_ipv6()
    if host == EVERY_ADDRESS and not is_of_both:
        host = "0.0.0.0"  # noqa: S104
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        message = f"host is {host!r}, which is no address of this machine ({error.strerror})."
        raise InvalidConfigurationError(message) from None
    listening = socket.socket(family, kind, protocol)
    if is_of_both:  # whatever the system's own choice is (net.ipv6.bindv6only)
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # what was sent to nobody does not stay in the kernel
        unread = int(_UNACKNOWLEDGED_SECONDS * 1000)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread)
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        shown = f"[{host}]" if ":" in host else host
        raise InvalidConfigurationError(
            f"{flag} is {port}, and {shown}:{port} cannot be used ({error.strerror}). Stop what "
            f"listens there or give another port with {flag}."
        ) from None
    return listening
