"""Model source. Finds the folder behind a model's name: bundled, local, on the Hugging Face hub, or in an S3
bucket.

What leaves this module is a local folder, so that nothing downstream knows of hubs or credentials. Only
what serving the model takes is ever fetched (see `needed_files`): no second copy, no pickle and no code.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from octavo.absent_folder import why_no_folder
from octavo.errors import DownloadFailedError, ModelNotFoundError
from octavo.loading.content import content_of
from octavo.loading.headers import TensorHeader
from octavo.loading.progress import ByteCount, Tell
from octavo.model_sources.bucket import bucket_headers, download_from_bucket
from octavo.model_sources.environment import BUCKET, HUB, clean_environment
from octavo.model_sources.hub import commit_of, download_from_hub, hub_headers
from octavo.model_sources.names import (
    GGUF,
    HELP,
    BucketModel,
    BuiltinModel,
    HubModel,
    LocalModel,
    no_config,
    parse,
)

__all__ = [
    "BucketModel",
    "BuiltinModel",
    "Description",
    "HubModel",
    "LocalModel",
    "commit_of",
    "content_of",
    "default_served_name",
    "described",
    "parse",
    "resolve",
]


def resolve(
    model: str,
    *,
    download_dir: Path | None = None,
    revision: str | None = None,
    tell: Tell | None = None,
) -> Path:
    """The folder that holds `model`, downloaded first where needed; a finished download is used again.

    Args:
        model: `builtin://demo`, `hf://org/name[@revision]`, `org/name`, `s3://bucket/prefix` or a folder.
        download_dir: Where downloads are kept; None is the Hugging Face cache.
        revision: Branch, tag or commit of a hub model; one in `model` itself takes precedence.
        tell: Hears of the bytes of a download, from threads of its own.

    Raises `ModelNotFoundError` when no such model exists, `ModelInvalidError` when it holds no weights that
    could be loaded, `DownloadFailedError` when fetching it failed.
    """
    source = parse(model, revision=revision)
    if isinstance(source, BuiltinModel):
        return _builtin(source)
    if isinstance(source, LocalModel):
        return _local(source)
    clean_environment(model, HUB if isinstance(source, HubModel) else BUCKET)
    count = ByteCount(tell)
    if isinstance(source, HubModel):
        with _telling_of_folders(model):
            return download_from_hub(source, download_dir, count)
    return download_from_bucket(source, download_dir, count)


@dataclass(frozen=True, slots=True)
class Description:
    """What describes a model.

    Args:
        folder: Its JSON files, and whatever else of it is on this machine.
        headers: Of the tensors of a model that lies elsewhere; None where they are in the folder.
        is_local: Nothing of it lies elsewhere, so that what is not in the folder is missing.
    """

    folder: Path
    headers: Mapping[str, TensorHeader] | None
    is_local: bool = False


@contextmanager
def described(
    model: str, *, download_dir: Path | None = None, revision: str | None = None
) -> Iterator[Description]:
    """What describes `model`: of one that lies elsewhere neither weights nor tokenizer are downloaded, but
    the headers of its weights alone.

    Args and errors: as of `resolve`.
    """
    source = parse(model, revision=revision)
    if isinstance(source, HubModel):
        clean_environment(model, HUB)
        with _telling_of_folders(model):
            folder = download_from_hub(source, download_dir, ByteCount(None), is_description=True)
            headers = hub_headers(source, folder)
        yield Description(folder, headers)
    elif isinstance(source, BucketModel):
        clean_environment(model, BUCKET)
        # Under its final name a folder is complete, so this one has a place of its own.
        with tempfile.TemporaryDirectory() as place:
            folder = download_from_bucket(source, Path(place), ByteCount(None), is_description=True)
            yield Description(folder, bucket_headers(source, folder))
    else:
        yield Description(resolve(model), None, is_local=True)


def default_served_name(model: str) -> str:
    """What clients call `model` when nobody says otherwise: without its scheme and its revision."""
    try:
        source = parse(model)
    except ModelNotFoundError:
        return model  # `resolve` refuses it, with the whole start-up's way of saying so
    return source.name if isinstance(source, BuiltinModel | HubModel) else model


@contextmanager
def _telling_of_folders(model: str) -> Iterator[None]:
    """Who wrote `a/b` may have meant a folder: what fails on the hub says that there is none here."""
    try:
        yield
    except (ModelNotFoundError, DownloadFailedError) as error:
        if "://" in model:
            raise
        raise type(error)(f"{error} There is no folder {model} here either.") from error


def _builtin(source: BuiltinModel) -> Path:
    folder = Path(str(resources.files("octavo.builtin").joinpath(source.name)))
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(
            f"builtin://{source.name} is not part of this installation ({folder} is empty). Install "
            "octavo from a complete wheel."
        )
    return folder


def _local(source: LocalModel) -> Path:
    folder = source.folder
    if folder.suffix == GGUF and os.path.isfile(folder):  # noqa: PTH113 (Path's raises without the right)
        raise no_config(str(folder.parent), [folder.name])
    problem = why_no_folder(folder)
    if problem is not None:
        raise ModelNotFoundError(f"{problem} {HELP}")
    if not (folder / "config.json").is_file():
        raise no_config(str(folder), [path.name for path in folder.iterdir()])
    return folder.resolve()
