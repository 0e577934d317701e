"""Messages of the runtime in the words of the spec. It speaks of its flags and of folders in its container;
who wrote an LLMDeployment knows fields and URIs. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from octavo_operator.api.v1alpha1 import EngineSpec
from octavo_operator.api.v1alpha1.extra_args import REFUSED
from octavo_operator.manifest import Manifest
from octavo_operator.names import DRAFT_CLAIM_PATH, MODELS_PATH, SERVE_CONTAINER

DRAFT_FIELD = "spec.engine.speculative.model: "
"""How what is wrong with a draft model or a head begins: two models are looked for."""

_EXTRA_FIELD = "spec.extraArgs: "
_OLDER = "the runtime's image is older than the operator (spec.runtime): "
_FIELDS = {
    f"--{name.replace('_', '-')}": f"spec.engine.{field.alias or name}"
    for name, field in EngineSpec.model_fields.items()
}
_FLAG = re.compile("|".join(rf"(?<![\w-]){flag}(?![\w-])" for flag in _FIELDS))
# Where the runtime names both.
_TWICE = re.compile(r"(spec\.engine\.\w+)((?: \w+)?) \(\1\)")
_UNKNOWN = re.compile(r"No such option: (--[\w-]+)")
# As the runtime begins them; what guesses of itself has no model.
_OF_DRAFT = re.compile(
    r"speculative_config\.model: |"
    r"(?:speculative_config|spec\.engine\.speculative) has method (?:draft_model|eagle3), and |"
    r"(?=The draft model in |The EAGLE-3 head in )"
)
_UNBOUND = re.compile(r"unbound immediate PersistentVolumeClaims|storageclass\S* \S+ not found")
_FORMS = re.compile(r"Use builtin://demo, hf://.*", re.DOTALL)
_FORMS_OF_SPEC = "Use hf://org/name[@revision], s3://bucket/prefix, pvc://claim/path with config.json, or builtin://demo."


@dataclass(frozen=True, slots=True)
class Written:
    """What in a pod stands for what the spec says."""

    claims: Mapping[str, str]
    """Those that its containers mount, by their paths."""
    extra_flags: frozenset[str]
    """Those of `spec.extraArgs`."""


def written_in(pod: Manifest) -> Written:
    return Written(claims_of(pod), _extra_flags(pod))


def in_words_of_spec(message: str, written: Written) -> str:
    for path, claim in written.claims.items():
        message = re.sub(rf"(?<![\w/.-]){path}(?![\w-])", f"pvc://{claim}", message)
    message = _FORMS.sub(_FORMS_OF_SPEC, message)
    source = _source_of_flags(message, written.extra_flags)
    message = _FLAG.sub(lambda found: _FIELDS[found[0]], message)
    message = _TWICE.sub(r"\1\2", message)
    if source:
        return source + message
    return DRAFT_FIELD + message[found.end() :] if (found := _OF_DRAFT.match(message)) else message


def _source_of_flags(message: str, extra_flags: frozenset[str]) -> str:
    """Where the flags come from that the message is about, if it is not a field of their name."""
    if any(re.search(rf"(?<![\w-]){flag}(?![\w-])", message) for flag in extra_flags):
        return _EXTRA_FIELD
    return _OLDER if _UNKNOWN.match(message) else ""


def _extra_flags(pod: Manifest) -> frozenset[str]:
    """What `serve` is given beside the flags that a field or the operator sets, which `extraArgs` may not
    have."""
    return frozenset(
        flag
        for container in pod.get("spec", {}).get("containers", ())
        if container.get("name") == SERVE_CONTAINER
        for argument in container.get("args", ())
        if (flag := argument.partition("=")[0]).startswith("--") and flag not in REFUSED
    )


def claims_of(pod: Manifest) -> dict[str, str]:
    """The claims that its containers mount, by their paths."""
    spec = pod.get("spec", {})
    names = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in spec.get("volumes", ())
        if "persistentVolumeClaim" in volume
    }
    return {
        mount["mountPath"]: names[mount["name"]]
        for container in spec.get("containers", ())
        for mount in container.get("volumeMounts", ())
        if mount["name"] in names
    }


def of_an_unbound_claim(message: str, claims: Mapping[str, str]) -> str | None:
    """What the scheduler's `message` says, if it says that a claim has no volume. It names not the claim, and
    seldom the class."""
    if not claims or _UNBOUND.search(message) is None:
        return None
    named = [
        f"{claim} (spec.model.cache.storageClassName)" if path == MODELS_PATH else claim
        for path, claim in claims.items()
    ]
    names = " ".join(sorted(set(claims.values())))
    return (
        f"no volume is bound to {' or '.join(named)}: its storage class may not exist or not make one, which "
        f"`kubectl describe pvc {names}` tells; {message}"
    )


def of_a_missing_claim(message: str, claims: Mapping[str, str]) -> str | None:
    """What the scheduler's `message` says, if it says that the draft's claim does not exist."""
    claim = claims.get(DRAFT_CLAIM_PATH)
    if claim is None or f'persistentvolumeclaim "{claim}" not found' not in message:
        return None
    return f"{DRAFT_FIELD}there is no claim {claim} in this namespace"
