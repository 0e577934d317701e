"""Environment of a download: credentials and addresses as a Secret or a file holds them.

Who made a Secret of a file (`--from-file`, `echo … | base64`) has a line end behind its value, and an editor
may have put a byte order mark before it. Neither is part of any of these values; with them a bucket tells of
a wrong signature, and clients of header injection.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from octavo.errors import DownloadFailedError

HUB = ("HF_", "HUGGING_FACE_HUB_")
BUCKET = ("AWS_",)
"""How the variables begin that a client reads."""
_PROXY = "_PROXY"
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
)
_AROUND = "\ufeff \t\r\n\v\f"


def clean_environment(
    model: str, prefixes: tuple[str, ...], environment: MutableMapping[str, str] = os.environ
) -> None:
    """Takes off what stands around the values that the download of `model` reads, proxies' too.

    Raises `DownloadFailedError`, which names the variable and not its value, where no request could carry a
    credential.
    """
    for name, value in list(environment.items()):
        if not (name.startswith(prefixes) or name.upper().endswith(_PROXY)):
            continue
        stripped = value.strip(_AROUND)
        if stripped != value:
            environment[name] = stripped
        if name in _CREDENTIALS and not (stripped.isascii() and stripped.isprintable()):
            raise DownloadFailedError(
                f"{model} could not be fetched: {name} holds characters that are not printable ASCII, which "
                "no request can carry. Set it anew (in a cluster: in the Secret that model.secretRef names)."
            )
