"""Every value that `spec.server` takes arrives in the server's options, and the names that it lets in are
answered by the server."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from octavo.options import option_fields
from octavo.server.http.addresses import url_host
from octavo.server.http.hosts import AllowedHosts
from octavo.server.process.options import ServeOptions
from octavo_operator.api.v1alpha1 import ServerSpec
from octavo_operator.crd import crd
from octavo_operator.render.command import serve_arguments
from octavo_operator.render.service import url
from tests.support.operator.builders import KEY, spec
from tests.support.runtime.command_line import parsed

OPTIONS = {field.spelling: field for field in option_fields(ServeOptions)}
VERSION = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SCHEMA = VERSION["properties"]["spec"]["properties"]["server"]["properties"]


def rule(name: str) -> str:
    """The pattern by which the API server checks an item."""
    (validation,) = SCHEMA[name]["items"]["x-kubernetes-validations"]
    found = re.fullmatch(r"self\.matches\(r'(.*)'\)", validation["rule"])
    assert found is not None
    return found[1]


def texts(name: str) -> st.SearchStrategy[list[str]]:
    """Lists of what the API server lets pass. `$` would let a line break pass in Python alone."""
    item = st.from_regex(rule(name)).filter(lambda text: "\n" not in text and len(text) <= 300)
    return st.lists(item, min_size=1, max_size=4, unique=True)


@given(texts("allowedOrigins"), texts("allowedHosts"))
@example(["chrome-extension://abc", "HTTPS://A.example:65535/"], ["*.Example.", "_x.a"])
@example(["moz-extension://3f2a1b00-5c1d-4e8f-9a70-0123456789ab", "http://2ndfloor:3000"], ["*"])
@example(["http://[::1]:3000", "https://[2001:db8::1.2.3.4]"], ["[::1]", "1:2:3:4:5:6:7::"])
@example(["https://example.org.", "http://-a_.0xfg", "http://0a.07-"], ["*"])
@settings(deadline=None, max_examples=100)
def test_every_list_of_the_spec_arrives_in_the_server(origins: list[str], hosts: list[str]) -> None:
    wanted = spec(server={"allowedOrigins": origins, "allowedHosts": hosts})
    options = parsed(serve_arguments(KEY, wanted))
    assert options.allowed_origins == tuple(origins)
    assert options.allowed_hosts[: len(hosts)] == tuple(hosts)


@given(st.ip_addresses(v=6), st.booleans(), st.text("0123456789abcdef:.", max_size=24))
@settings(deadline=None)
def test_an_address_of_version_6_is_one_to_the_operator_and_the_server_alike(
    address: IPv6Address, is_whole: bool, noise: str
) -> None:
    for text in (address.exploded if is_whole else str(address), noise):
        try:
            url_host(f"[{text}]")
            is_address = True
        except ValueError:
            is_address = False
        for name, value in (
            ("allowedOrigins", f"http://[{text}]:3000"),
            ("allowedHosts", f"[{text}]"),
        ):
            assert bool(re.search(rule(name), value)) is is_address, value


@pytest.mark.parametrize("names", ["octavo", "vllm"])
@pytest.mark.parametrize("is_public", [True, False])
def test_metrics_are_as_the_spec_has_them(names: str, is_public: bool) -> None:
    wanted = spec(server={"metricsNames": names, "publicMetrics": is_public})
    options = parsed(serve_arguments(KEY, wanted))
    assert (options.metrics_names, options.public_metrics) == (names, is_public)
    assert set(SCHEMA["metricsNames"]["enum"]) == set(OPTIONS["metrics_names"].choices)


def test_as_many_processes_answer_as_the_spec_says() -> None:
    assert parsed(serve_arguments(KEY, spec(server={"apiServerCount": 2}))).api_server_count == 2
    bounds = SCHEMA["apiServerCount"]
    option = OPTIONS["api_server_count"].option
    assert (bounds["minimum"], bounds["maximum"]) == (option.least, option.most)


@pytest.mark.parametrize(
    "value",
    [
        "https://a/x",
        "https://*.a",
        "a.b",
        "null",
        "",
        "http://1.2.3",
        "http://a.12",
        "http://a.0x1F",
        "http://0x",
        "http://::1",
        "http://[1.2.3.4]",
        "http://[1:2:3:4:5:6:7:8:9]",
        "http://[::1%25eth0]",
    ],
)
def test_what_the_flag_refuses_the_operator_refuses_too(value: str) -> None:
    with pytest.raises(ValidationError, match="must be"):
        spec(server={"allowedOrigins": [value]})
    assert not re.search(rule("allowedOrigins"), value)


@pytest.mark.parametrize("value", ["10.0.0.300", "1.2.3", "*.1.2.3.4", "0x1F", "[1.2.3.4]"])
def test_a_host_that_the_flag_refuses_the_operator_refuses_too(value: str) -> None:
    with pytest.raises(ValidationError, match="must be"):
        spec(server={"allowedHosts": [value]})
    assert not re.search(rule("allowedHosts"), value)


def test_the_service_is_answered_by_its_own_names_whatever_hosts_are_allowed() -> None:
    options = parsed(serve_arguments(KEY, spec(server={"allowedHosts": ["llm.example"]})))
    hosts = AllowedHosts(options.answered_hosts)
    for host in (urlsplit(url(KEY)).netloc, KEY.name, "llm.example", "10.0.0.1:8000"):
        hosts.check({"headers": [(b"host", host.encode())], "http_version": "1.1"})


@pytest.mark.parametrize("field", ServerSpec.model_fields)
def test_a_description_begins_as_the_help_of_its_flag(field: str) -> None:
    alias: Any = ServerSpec.model_fields[field].alias
    meaning = re.split(r"[.;](?: |$)", OPTIONS[field].option.help)[0]
    assert SCHEMA[alias]["description"].startswith(meaning)
