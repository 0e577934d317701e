"""Names of models: what `hf://org/name`, `s3://bucket/prefix`, `builtin://demo` and a path stand for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from octavo.errors import ModelNotFoundError
from octavo.loading.tokenizer_files import is_tokenizer_file

GGUF = ".gguf"
_BUILTIN_NAMES = ("demo",)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[\w./-]{1,200}")
HELP = (
    "Use builtin://demo, hf://org/name[@revision], org/name, s3://bucket/prefix or a local folder "
    "with config.json."
)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository on the Hugging Face hub; `revision` None is its main branch."""

    name: str
    revision: str | None


@dataclass(frozen=True, slots=True)
class BucketModel:
    bucket: str
    prefix: str


@dataclass(frozen=True, slots=True)
class BuiltinModel:
    name: str


@dataclass(frozen=True, slots=True)
class LocalModel:
    folder: Path


ModelSource = HubModel | BucketModel | BuiltinModel | LocalModel


def parse(model: str, *, revision: str | None = None) -> ModelSource:
    """Reads a model's name, touching the disk only to tell a path `a/b` from a hub name `a/b`."""
    scheme, separator, rest = model.partition("://")
    if separator:
        if scheme == "builtin" and rest in _BUILTIN_NAMES:
            return BuiltinModel(rest)
        if scheme == "hf":
            return _hub_model(rest, model, revision)
        if scheme == "s3":
            return _bucket_model(rest, model)
        if scheme.lower() == "file":
            raise ModelNotFoundError(
                f"There is no model {model!r}: a folder is named by its path, without file://."
            )
        raise ModelNotFoundError(f"There is no model {model!r}. {HELP}")
    if _is_path(model):
        return LocalModel(Path(os.path.expanduser(model)))  # noqa: PTH111 (Path's raises for users unknown)
    return _hub_model(model, model, revision)


def _is_path(model: str) -> bool:
    """What no hub name looks like, and whatever is there under this name: a file or a link that leads nowhere
    is told as that, and not looked for on the hub."""
    return (
        model.startswith((".", "/", "~"))
        or model.endswith("/")
        or (model != "" and os.path.lexists(model))
    )


def _hub_model(text: str, model: str, revision: str | None) -> HubModel:
    name, at, own_revision = text.partition("@")
    chosen = own_revision if at else revision
    well_formed = _HUB_NAME.fullmatch(name) and ".." not in text
    if not well_formed or (chosen is not None and not _REVISION.fullmatch(chosen)):
        nor_folder = ", and no folder of that name" if text == model else ""
        raise ModelNotFoundError(f"There is no model {model!r}{nor_folder}. {HELP}")
    return HubModel(name, chosen)


def _bucket_model(rest: str, model: str) -> BucketModel:
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if not bucket or not prefix:
        raise ModelNotFoundError(f"There is no model {model!r}: it must read s3://bucket/prefix.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise ModelNotFoundError(
            f"There is no model {model!r}: {bucket!r} is no name of a bucket, which has 3 to 63 of a-z, 0-9, "
            "- and ., a letter or digit first and last."
        )
    if ".." in PurePosixPath(prefix).parts:
        raise ModelNotFoundError(f"There is no model {model!r}: a prefix may not hold '..'.")
    return BucketModel(bucket, prefix)


def no_config(place: str, names: Iterable[str]) -> ModelNotFoundError:
    """Of a folder, a repository or a bucket with these files."""
    files = sorted(name for name in names if name.endswith(GGUF))
    if files:
        return ModelNotFoundError(
            f"{place} holds GGUF weights ({files[0]}), which are not read. Use the safetensors that they "
            "were made of, or some that are quantised as AWQ, GPTQ, compressed-tensors or FP8."
        )
    return ModelNotFoundError(f"{place} holds no config.json, so it is no model. {HELP}")


def describes(path: str) -> bool:
    """Whether a file of a model says what it is, and is neither weights nor tokenizer."""
    return path.endswith(".json") and not is_tokenizer_file(path)


def first_line(error: BaseException) -> str:
    """Of what it says, for a message of one line, without the period at its end."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(" .") if text else type(error).__name__
