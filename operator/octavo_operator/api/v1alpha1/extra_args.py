"""Extra arguments. `spec.extraArgs`: flags of `octavo serve` that no field is for, of newer runtimes too.

What a field says, or the operator itself, is refused with the name of the field: a flag has one source. So is
what reads any file of the container, where Secrets are that who writes specs may not read.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, WithJsonSchema

from octavo_operator.api.v1alpha1.base import cel, rules
from octavo_operator.api.v1alpha1.engine import EngineSpec
from octavo_operator.api.v1alpha1.server import ServerSpec

_FORM = r"^--[a-z][a-z0-9-]*(=.*)?$"
_FORM_HELP = (
    "must be --flag or --flag=value in one item, the flag in lower case with dashes, such as "
    "--tool-call-parser=granite"
)
_REFUSAL = " must not be among extraArgs: "
_LONGEST = 1024
MOST = 32


def _flags(model: type[BaseModel], path: str) -> dict[str, str]:
    found = {}
    for name, field in model.model_fields.items():
        flag = name.replace("_", "-")
        found[f"--{flag}"] = f"{path}.{field.alias}"
        if bool in get_args(field.annotation):
            found[f"--no-{flag}"] = f"{path}.{field.alias}"
    return found


_PORTS = "the Service and the probes lead to the operator's"
_NODES = "a replica is one pod"
_TLS = "TLS ends before the Service"
_KEYS = "spec.auth, with a Secret"
_DRAIN = "spec.rollout.drainTimeout"
_GRACE = "spec.rollout.drainTimeout, of which half is for who still comes; pods are killed when it is over"
REFUSED: dict[str, str] = {
    **_flags(EngineSpec, "spec.engine"),
    **_flags(ServerSpec, "spec.server"),
    "--kv-cache-memory-bytes": "spec.engine.kvCacheMemory",
    "--model": "spec.model.uri",
    "--revision": "spec.model.uri, as hf://org/name@revision",
    "--served-model-name": "spec.model.servedNames",
    "--download-dir": "spec.model.cache",
    "--drain-timeout": _DRAIN,
    "--shutdown-timeout": _DRAIN,
    "--drain-grace": _GRACE,
    "--shutdown-grace": _GRACE,
    "--api-key": _KEYS,
    "--api-key-file": _KEYS,
    "--host": _PORTS,
    "--port": _PORTS,
    "--ops-port": _PORTS,
    "--ssl-certfile": _TLS,
    "--ssl-keyfile": _TLS,
    "--ssl-ca-certs": _TLS,
    "--ssl-cert-reqs": _TLS,
    "--ssl-ciphers": _TLS,
    "--enable-ssl-refresh": _TLS,
    "--no-enable-ssl-refresh": _TLS,
    "--nnodes": _NODES,
    "--node-rank": _NODES,
    "--master-addr": _NODES,
    "--master-port": _NODES,
    "--chat-template": "it reads any file of the container; a model's folder holds chat_template.jinja",
    "--help": "it serves nothing",
}
"""The flags that no item may be, each with the field that is for it, or why there is none."""


def _checked(text: str) -> str:
    flag = text.partition("=")[0]
    if re.fullmatch(_FORM, text) is None:
        raise ValueError(f"{text!r} {_FORM_HELP}")
    if flag in REFUSED:
        raise ValueError(f"{flag}{_REFUSAL}{REFUSED[flag]}")
    return text


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _refusal() -> dict[str, Any]:
    flags = "|".join(flag.removeprefix("--") for flag in sorted(REFUSED))
    whys = ", ".join(f"{_text(flag)}: {_text(why)}" for flag, why in sorted(REFUSED.items()))
    name = "self.split('=', 2)[0]"
    message = f"{name} + {_text(_REFUSAL)} + {{{whys}}}[{name}]"
    rule = cel(f"!self.matches('^--({flags})(=|$)')", "must not be a flag that a field is for")
    return rule | {"messageExpression": message}


Argument = Annotated[
    str,
    AfterValidator(_checked),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": _LONGEST,
            **rules(cel(f"self.matches(r'{_FORM}')", _FORM_HELP), _refusal()),
        }
    ),
]
