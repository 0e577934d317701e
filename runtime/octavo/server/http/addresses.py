"""IP addresses as a URL holds them: one way of writing each, the one that browsers send (WHATWG's URL
Standard, "IPv6 serializer"), in brackets where it is of version 6."""

from __future__ import annotations

import ipaddress


def url_host(text: str) -> str:
    """The address, with or without brackets, as it stands in a URL.

    Raises:
        ValueError: It is none, or has a zone, which no URL of a browser has.
    """
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    address = ipaddress.ip_address(bare)
    if isinstance(address, ipaddress.IPv4Address):
        if bare != text:
            raise ValueError(f"{text!r} is no address of version 6")
        return str(address)
    if address.scope_id is not None:
        raise ValueError(f"{text!r} has a zone")
    mapped = address.ipv4_mapped
    if mapped is None:
        return f"[{address}]"
    # Python writes the version 4 address in decimals, some of its releases, and browsers never do.
    high, low = divmod(int(mapped), 2**16)
    return f"[::ffff:{high:x}:{low:x}]"
