"""Server flags. `spec.server`: the flags of `octavo serve` that say who may ask, by which name, and what a
scrape finds."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from octavo_operator.api.v1alpha1.base import ApiModel, cel, rules

_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PART = r"[A-Za-z0-9_-]"
# What ends with a number, in decimals or after 0x, browsers read as an address: it must be one.
_NO_NUMBER = (
    rf"([A-Za-z_-]{_PART}*|[1-9][0-9]*[A-Za-z_-]{_PART}*|0[0-9]+[A-Za-z_-]{_PART}*|"
    rf"0[A-WYZa-wyz_-]{_PART}*|0[xX][0-9A-Fa-f]*[G-Zg-z_-]{_PART}*)"
)
_H = "[0-9A-Fa-f]{1,4}"
_V4 = rf"{_BYTE}(\.{_BYTE}){{3}}"
# Eight groups, or fewer around one `::`; the last two may be written as an address of version 4.
_V6 = (
    rf"(({_H}:){{7}}({_H}|:)|({_H}:){{6}}(:{_H}|:)|({_H}:){{5}}(:{_H}){{1,2}}|({_H}:){{5}}:|"
    rf"({_H}:){{4}}((:{_H}){{1,3}}|:)|({_H}:){{3}}((:{_H}){{1,4}}|:)|({_H}:){{2}}((:{_H}){{1,5}}|:)|"
    rf"{_H}:((:{_H}){{1,6}}|:)|:((:{_H}){{1,7}}|:)|"
    rf"(({_H}:){{6}}|::({_H}:){{0,5}}|{_H}::({_H}:){{0,4}}|({_H}:){{2}}:({_H}:){{0,3}}|"
    rf"({_H}:){{3}}:({_H}:){{0,2}}|({_H}:){{4}}:({_H}:)?|({_H}:){{5}}:){_V4})"
)
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST_OF_PAGES = rf"(({_PART}+\.)*{_NO_NUMBER}\.?|{_V4}|\[{_V6}\])"
_ORIGIN = rf"^(\*|[A-Za-z][A-Za-z0-9+.-]*://{_HOST_OF_PAGES}(:{_PORT})?/?)$"
_ORIGIN_HELP = (
    "must be * or scheme://host[:port] without a path, such as https://chat.example.org; the host is a name "
    "in letters, digits, '-', '_' and '.' whose last part is no number (12, 0x1f), an IPv4 address in full, "
    "or an IPv6 address in brackets"
)
_HOST = rf"^(\*|(\*\.)?({_PART}+\.)*{_NO_NUMBER}\.?|{_V4}|{_V6}|\[{_V6}\])$"
_HOST_HELP = (
    "must be a host's name or address without scheme and port, *.example.org, or *; a name's last part is "
    "no number (12, 0x1f), and an address is written in full"
)


def _checked(pattern: str, message: str) -> Callable[[str], str]:
    def checked(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"{text!r} {message}")
        return text

    return checked


def _schema(pattern: str, message: str) -> dict[str, Any]:
    rule = cel(f"self.matches(r'{pattern}')", message)
    return {"type": "string", "maxLength": 300, **rules(rule)}


Origin = Annotated[
    str,
    AfterValidator(_checked(_ORIGIN, _ORIGIN_HELP)),
    WithJsonSchema(_schema(_ORIGIN, _ORIGIN_HELP)),
]
Host = Annotated[
    str,
    AfterValidator(_checked(_HOST, _HOST_HELP)),
    WithJsonSchema(_schema(_HOST, _HOST_HELP)),
]
_IS_SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}


class MetricsNames(StrEnum):
    """Whose names the metrics have."""

    OCTAVO = "octavo"
    VLLM = "vllm"


class ServerSpec(ApiModel):
    """Flags of `octavo serve` in camelCase, as `spec.engine` has the engine's; what is absent takes the
    runtime's default. Descriptions and values are compared with the flags', as there."""

    allowed_origins: Annotated[tuple[Origin, ...], Field(min_length=1, max_length=32)] | None = (
        Field(
            default=None,
            description="Origin whose pages may use the API, others get 403. Such as "
            "https://chat.example.org; * is every page. Pages of the server's own host alone when absent.",
            json_schema_extra=_IS_SET,
        )
    )
    allowed_hosts: Annotated[tuple[Host, ...], Field(min_length=1, max_length=32)] | None = Field(
        default=None,
        description="Name under which clients reach the server. Beside the Service's own names and all "
        "addresses; *.example.org is all below, and requests to other names get 403. Any when absent.",
        json_schema_extra=_IS_SET,
    )
    metrics_names: MetricsNames | None = Field(
        default=None,
        description="Names of the metrics; vllm adds vLLM's to ours. Octavo's when absent.",
    )
    public_metrics: bool | None = Field(
        default=None,
        description="Serve /metrics on the OpenAI port too, without a key. Whoever reaches the Service "
        "reads them then.",
    )
    api_server_count: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description="Processes that answer the OpenAI port. For more than about 700 requests or 36,000 "
        "tokens a second, with as many CPUs in `resources.cpu`; each takes some 90 MB. 1 when absent.",
    )
