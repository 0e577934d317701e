"""Labels and annotations that users put on children: any key but those that are Octavo's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from octavo_operator.api.v1alpha1.base import DNS_SUBDOMAIN, NAME_PART, cel, rules

LONGEST_PREFIX = 253
LONGEST_KEY = LONGEST_PREFIX + 1 + 63
_LABEL_KEY = rf"^({DNS_SUBDOMAIN}/)?{NAME_PART}$"
# Of an annotation Kubernetes looks at its key in lower case.
_ANNOTATION_KEY = rf"^({DNS_SUBDOMAIN.replace('a-z', 'A-Za-z')}/)?{NAME_PART}$"
_LABEL_VALUE = rf"^({NAME_PART})?$"

_OUR_KEYS = (
    "has a key that Octavo sets: octavo.dev/…, app.kubernetes.io/…, prometheus.io/…, kubectl's "
    "or pod-template-hash"
)
_OUR_PREFIXES = (
    "octavo.dev/",
    "app.kubernetes.io/",
    "prometheus.io/",
    "kubectl.kubernetes.io/",
    "pod-template-hash",
)
_NOT_OURS = cel(
    "self.all(key, !("
    + " || ".join(f"key.startsWith('{prefix}')" for prefix in _OUR_PREFIXES)
    + "))",
    _OUR_KEYS,
)
_MOST_BYTES = 200_000
_SMALL = cel(
    f"self.map(key, size(bytes(self[key]))).sum() <= {_MOST_BYTES}",
    f"has values of more than {_MOST_BYTES} bytes together, which Kubernetes does not keep",
)


def _not_ours(values: Mapping[str, str]) -> Mapping[str, str]:
    for key in values:
        if key.startswith(_OUR_PREFIXES):
            raise ValueError(f"{key!r} {_OUR_KEYS}")
    return values


LabelKey = Annotated[str, Field(max_length=LONGEST_KEY, pattern=_LABEL_KEY)]
AnnotationKey = Annotated[str, Field(max_length=LONGEST_KEY, pattern=_ANNOTATION_KEY)]
LabelValue = Annotated[str, Field(max_length=63, pattern=_LABEL_VALUE)]

UserLabels = Annotated[
    dict[LabelKey, LabelValue],
    Field(max_length=32, json_schema_extra=rules(_NOT_OURS)),
    AfterValidator(_not_ours),
]
UserAnnotations = Annotated[
    dict[AnnotationKey, Annotated[str, Field(max_length=4096)]],
    Field(max_length=32, json_schema_extra=rules(_NOT_OURS, _SMALL)),
    AfterValidator(_not_ours),
]
