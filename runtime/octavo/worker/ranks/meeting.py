"""Meeting of nodes: torch's key-value store on the first node, where the others find it.

It listens on the group's address alone. Values are JSON of known types, or what Gloo tells itself of its
sockets; nothing that comes over it is ever run.
"""

from __future__ import annotations

import socket
import time
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
from torch._C._distributed_c10d import TCPStore

from octavo.config import NodePlace
from octavo.errors import InvalidConfigurationError, OctavoError

_T = TypeVar("_T")
_DISCARD_PORT = 9
_KNOCK_SECONDS = 0.2


class Meeting:
    """
    Args:
        address: Of this node, by which the others reach it.
        first_address: Of the first node.
    """

    def __init__(self, store: Any, address: str, first_address: str) -> None:
        self._store = store
        self.address = address
        self.first_address = first_address

    @classmethod
    def open(cls, place: NodePlace, timeout_seconds: float) -> Meeting:
        """On the first node. Raises `InvalidConfigurationError` where it cannot listen there."""
        address = _resolved(place)
        try:
            listener = socket.create_server(
                (address, place.master_port), family=_family(address), backlog=128
            )
        except OSError as error:
            raise InvalidConfigurationError(
                f"master_addr and master_port are {place.master_addr} and {place.master_port}, where node 0 "
                f"cannot listen: {error.strerror}. Give an address of this machine and a free port."
            ) from error
        store = _store(address, place.master_port, timeout_seconds, listener.detach())
        return cls(store, address, address)

    @classmethod
    def find(cls, place: NodePlace, timeout_seconds: float) -> Meeting:
        """From the other nodes. Raises `InvalidConfigurationError` where it is not found in time."""
        address = _resolved(place)
        try:
            _wait_for_listener(address, place.master_port, timeout_seconds)
            store = _store(address, place.master_port, timeout_seconds, None)
        except (OSError, RuntimeError) as error:
            raise InvalidConfigurationError(
                f"Node 0 is not found at {place.master_addr}:{place.master_port} after {timeout_seconds:g} s "
                "(--distributed-timeout-seconds). Is it there, and does a policy let this node through?"
            ) from error
        return cls(store, _own_address(address), address)

    def take_place(self, node_rank: int) -> bool:
        """False where another node has it already."""
        return bool(self._store.add(f"place/{node_rank}", 1) == 1)

    def post(self, key: str, message: msgspec.Struct) -> None:
        """Nothing happens where nobody is there any more."""
        try:
            self._store.set(key, msgspec.json.encode(message))
        except RuntimeError:
            return

    def read(self, key: str, kind: type[_T], seconds: float) -> _T:
        """Raises TimeoutError, and `OctavoError` for what is no such message."""
        try:
            self._store.wait([key], timedelta(seconds=max(seconds, 0.01)))
            data = self._store.get(key)
        except RuntimeError as error:
            raise TimeoutError from error
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:
            raise OctavoError(f"{key} of the group's store is not understood: {error}.") from error


def _wait_for_listener(address: str, port: int, seconds: float) -> None:
    """Torch's store would try for up to twice its timeout. Raises `OSError` where nobody listens in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            left = max(deadline - time.monotonic(), _KNOCK_SECONDS)
            socket.create_connection((address, port), timeout=left).close()
        except OSError:
            if time.monotonic() + _KNOCK_SECONDS >= deadline:
                raise
            time.sleep(_KNOCK_SECONDS)
        else:
            return


def _store(address: str, port: int, timeout_seconds: float, listener: int | None) -> Any:
    return TCPStore(
        address,
        port,
        is_master=listener is not None,
        timeout=timedelta(seconds=timeout_seconds),
        wait_for_workers=False,
        master_listen_fd=listener,
    )


def _resolved(place: NodePlace) -> str:
    try:
        found = socket.getaddrinfo(place.master_addr, place.master_port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidConfigurationError(
            f"master_addr is {place.master_addr}, which has no address: {error.strerror}. Give one that this "
            "machine can resolve."
        ) from error
    return str(found[0][4][0])


def _own_address(other: str) -> str:
    """By which packets to `other` leave; none is sent."""
    with socket.socket(_family(other), socket.SOCK_DGRAM) as probe:
        probe.connect((other, _DISCARD_PORT))
        return str(probe.getsockname()[0])


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
