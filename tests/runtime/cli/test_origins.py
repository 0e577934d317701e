"""`--allowed-origins` and `--allowed-hosts`: one each, or a list in JSON, as vLLM's users write it."""

from __future__ import annotations

import pytest

from octavo.cli.serve import serve_options
from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError
from octavo.options import option_fields
from octavo.server.http.cross_origin import AllowedOrigins
from octavo.server.http.hosts import AllowedHosts
from octavo.server.process.options import ServeOptions
from octavo.server.process.tls_options import TlsOptions


def options(**given: list[str] | None) -> ServeOptions:
    fields = [
        field for kind in (ServeOptions, TlsOptions, EngineConfig) for field in option_fields(kind)
    ]
    flags = {field.spelling: field.default for field in fields}
    flags |= {
        "served_model_name": None,
        "api_key": None,
        "allowed_origins": None,
        "allowed_hosts": None,
    }
    return serve_options("builtin://demo", flags | given)


def origins(given: list[str] | None) -> tuple[str, ...]:
    return options(allowed_origins=given).allowed_origins


def test_one_each_or_a_list_in_json() -> None:
    assert origins(None) == ()
    assert origins(["*"]) == ("*",)
    both = ("https://a.example", "http://localhost:3000")
    assert origins(list(both)) == both
    assert origins(['["https://a.example", "http://localhost:3000"]']) == both


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("HTTPS://[2001:DB8:0:0:1:0:0:1]:443/", "https://[2001:db8::1:0:0:1]"),
        ("http://[::ffff:192.168.0.1]", "http://[::ffff:c0a8:1]"),
        ("http://[::ffff:c0a8:1]", "http://[::ffff:c0a8:1]"),
        ("http://[::]", "http://[::]"),
    ],
)
def test_the_origin_of_an_address_of_version_6_is_what_browsers_send(given: str, sent: str) -> None:
    assert origins([given]) == (given,)
    AllowedOrigins([given]).check({"headers": [(b"origin", sent.encode())]})
    of_its_host = {"headers": [(b"origin", sent.encode()), (b"host", given.split("/")[2].encode())]}
    AllowedOrigins([]).check(of_its_host)


@pytest.mark.parametrize(
    "given",
    ["http://[::1", "http://::1", "http://[1.2.3.4]", "http://[1::2::3]", "http://[fe80::1%eth0]"],
)
def test_an_address_that_no_page_can_have_is_refused(given: str) -> None:
    with pytest.raises(InvalidConfigurationError, match="allowed_origins holds"):
        origins([given])


@pytest.mark.parametrize(
    "given", ["a.example", "https://a.example/x", "https://*.example", "null", '["x"', "", "[5]"]
)
def test_what_is_no_origin_is_refused(given: str) -> None:
    with pytest.raises(InvalidConfigurationError, match="allowed_origins holds"):
        origins([given])


def test_hosts_are_names_without_scheme_and_port() -> None:
    assert options(allowed_hosts=None).answered_hosts == ()
    assert options(allowed_hosts=["LLM.example", "*.b.example"]).allowed_hosts == (
        "LLM.example",
        "*.b.example",
    )
    AllowedHosts(options(allowed_hosts=["[::1]", "2001:DB8::1", "10.0.0.1"]).answered_hosts)
    for given in (
        "[::1]:80",
        "[1.2.3.4]",
        "1::2::3",
        "fe80::1%eth0",
        "http://a.example",
        "a.example:8000",
        "",
        "*.",
        "a*.example",
        "a..b",
        "10.0.0.300",
        "1.2.3",
        "*.1.2.3.4",
    ):
        with pytest.raises(InvalidConfigurationError, match="allowed_hosts holds"):
            options(allowed_hosts=[given])
