"""`--allowed-origins` and `--allowed-hosts`: one each, or a list in JSON, as vLLM's users write it."""

from __future__ import annotations

import pytest

from octavo.cli.serve import serve_options
from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError
from octavo.options import option_fields
from octavo.server.process.options import ServeOptions


def options(**given: list[str] | None) -> ServeOptions:
    fields = [field for kind in (ServeOptions, EngineConfig) for field in option_fields(kind)]
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
    for given in ("http://a.example", "a.example:8000", "", "*.", "a*.example", "a..b"):
        with pytest.raises(InvalidConfigurationError, match="allowed_hosts holds"):
            options(allowed_hosts=[given])
