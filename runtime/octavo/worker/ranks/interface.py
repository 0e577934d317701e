"""Interface of a network, by the address that this machine has there: NCCL wants its name."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

LOOPBACK = "lo"
_SIOCGIFADDR = 0x8915  # of linux/sockios.h
_NAME_BYTES = 15
_ADDRESS = slice(20, 24)  # in a `struct ifreq`, of the family internet
_IPV6_TABLE = Path("/proc/net/if_inet6")


def interface_of(address: str) -> str | None:
    """None where no interface has it as its first."""
    wanted = ipaddress.ip_address(address)
    if wanted.version == 6:
        return _of_ipv6(wanted)
    if wanted.is_loopback:
        return LOOPBACK  # all of 127/8 is its
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:_NAME_BYTES])
            try:
                found = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[_ADDRESS]
            except OSError:  # it has none
                continue
            if ipaddress.ip_address(found) == wanted:
                return name
    return None


def _of_ipv6(wanted: ipaddress.IPv6Address) -> str | None:
    if not _IPV6_TABLE.exists():
        return None
    for line in _IPV6_TABLE.read_text().splitlines():
        digits, *_, name = line.split()
        if ipaddress.IPv6Address(bytes.fromhex(digits)) == wanted:
            return name
    return None
