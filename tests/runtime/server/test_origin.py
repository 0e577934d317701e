"""Origins as their owners write them and as browsers send them."""

from __future__ import annotations

import ipaddress
import random

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.server.http.origin import normalized_origin


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("*", "*"),
        ("https://chat.example.org", "https://chat.example.org"),
        ("HTTPS://Chat.Example.org:443/", "https://chat.example.org"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://localhost:80", "https://localhost:80"),
        ("http://a.example:08080", "http://a.example:8080"),
        ("http://127.0.0.1:5173", "http://127.0.0.1:5173"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("http://[FE80::0A]", "http://[fe80::a]"),
        ("http://[::ffff:102:304]", "http://[::ffff:102:304]"),
        ("http://[::FFFF:1.2.3.4]:80", "http://[::ffff:102:304]"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("chrome-extension://mhjfbmdgcfjbbpaeojofohoefgiehjai", None),
        ("tauri://localhost", None),
        ("http://my_host.local.", None),
    ],
)
def test_it_is_written_as_browsers_send_it(written: str, sent: str | None) -> None:
    assert normalized_origin(written) == (sent or written)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "give"),
        ("null", "give"),
        ("chat.example.org", "give"),
        ("localhost:3000", "give"),
        ("https://", "give"),
        ("https:///", "give"),
        ("https://a.example//", "give"),
        ("https://a.example/chat", "without a path"),
        ("https://a.example?x", "without a path"),
        ("https://a.example#x", "without a path"),
        ("https://user@a.example", "give"),
        ("https://a.example:", "give"),
        ("https://a.example:port", "give"),
        ("https://a.example ", "give"),
        ("https://a .example", "give"),
        ("https://a.example\n", "give"),
        ("https://a.example:0", "port"),
        ("https://a.example:65536", "port"),
        ("https://*", r"\* stands"),
        ("https://*.example.org", r"\* stands"),
        ("*://a.example", "give"),
        ("https://bücher.example", "ASCII"),
        ("https://a.example,https://b.example", "give"),
        ("https://a.example,b.example", "letters"),
        ("http://127.1", "address"),
        ("http://010.0.0.1", "address"),
        ("http://0x7f000001", "address"),
        ("http://1.2.3.4.5", "address"),
        ("http://[::g]", "give"),
        ("http://[1:2]", "address"),
        ("http://[::1%eth0]", "give"),
        ("http://[1.2.3.4]", "address"),
        ("http://::1", "give"),
    ],
)
def test_what_no_browser_sends_is_refused(written: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        normalized_origin(written)


labels = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
hosts = st.one_of(
    st.lists(labels, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6)
    .map(str)
    .filter(lambda text: not ipaddress.IPv6Address(text).ipv4_mapped)
    .map("[{}]".format),
)
origins = st.tuples(
    st.sampled_from(["http", "https"]), hosts, st.none() | st.integers(1, 2**16 - 1)
)


@given(origins, st.randoms(use_true_random=False), st.booleans())
def test_all_ways_to_write_an_origin_become_one(
    origin: tuple[str, str, int | None], chance: random.Random, has_slash: bool
) -> None:
    """Against httpx, whose URLs drop a scheme's own port and write hosts in lower case."""
    scheme, host, port = origin
    plain = f"{scheme}://{host}" + ("" if port is None else f":{port}")
    shouted = "".join(
        character.upper() if chance.random() < 0.5 else character for character in plain
    )
    expected = httpx.URL(plain)
    sent = normalized_origin(shouted + "/" * has_slash)
    assert sent == f"{expected.scheme}://{expected.netloc.decode()}"
    assert normalized_origin(sent) == sent


@given(st.text(max_size=30) | st.from_regex(r"https?://[^ ]{1,12}(:[0-9]{1,6})?/?"))
def test_what_is_taken_is_written_in_one_way(text: str) -> None:
    try:
        sent = normalized_origin(text)
    except ValueError:
        return
    assert normalized_origin(sent) == sent
    assert sent == "*" or ("*" not in sent and sent.isascii() and sent == sent.lower())
    assert sent.count("/") == (0 if sent == "*" else 2)
