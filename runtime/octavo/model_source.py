"""Model source. Finds the folder behind a model's name: bundled, local, on the Hugging Face hub, or in an S3
bucket.

What leaves this module is a local folder, so that nothing downstream knows of hubs or credentials. Only
what serving the model takes is ever fetched (see `needed_files`): no second copy, no pickle and no code.
"""

from __future__ import annotations

import glob
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

from octavo.errors import DownloadFailedError, ModelInvalidError, ModelNotFoundError
from octavo.loading.checkpoint_files import weight_files
from octavo.loading.model_files import needed_files
from octavo.loading.progress import ByteCount, Tell
from octavo.loading.tokenizer_files import is_tokenizer_file

# Ten pieces are fetched at once, each in memory: a pod that downloads asks for 256 MiB.
_S3_PIECE_BYTES = 8 << 20
_GGUF = ".gguf"
_BUILTIN_NAMES = ("demo",)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[\w./-]{1,200}")
_HELP = (
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
    count = ByteCount(tell)
    if isinstance(source, HubModel):
        return _download_from_hub(source, download_dir, count)
    return _download_from_bucket(source, download_dir, count)


@contextmanager
def described(
    model: str, *, download_dir: Path | None = None, revision: str | None = None
) -> Iterator[Path]:
    """A folder with what describes `model`: of one that lies elsewhere neither weights nor tokenizer are
    downloaded.

    Args and errors: as of `resolve`.
    """
    source = parse(model, revision=revision)
    if isinstance(source, HubModel):
        yield _download_from_hub(source, download_dir, ByteCount(None), is_description=True)
    elif isinstance(source, BucketModel):
        # Under its final name a folder is complete, so this one has a place of its own.
        with tempfile.TemporaryDirectory() as place:
            yield _download_from_bucket(source, Path(place), ByteCount(None), is_description=True)
    else:
        yield resolve(model)


def default_served_name(model: str) -> str:
    """What clients call `model` when nobody says otherwise: without its scheme and its revision."""
    try:
        source = parse(model)
    except ModelNotFoundError:
        return model  # `resolve` refuses it, with the whole start-up's way of saying so
    return source.name if isinstance(source, BuiltinModel | HubModel) else model


def parse(model: str, *, revision: str | None = None) -> ModelSource:
    """Reads a model's name, touching the disk only to tell a folder `a/b` from a hub name `a/b`."""
    scheme, separator, rest = model.partition("://")
    if separator:
        if scheme == "builtin" and rest in _BUILTIN_NAMES:
            return BuiltinModel(rest)
        if scheme == "hf":
            return _hub_model(rest, model, revision)
        if scheme == "s3":
            return _bucket_model(rest, model)
        raise ModelNotFoundError(f"There is no model {model!r}. {_HELP}")
    path = Path(model).expanduser()
    looks_like_path = model.startswith((".", "/", "~"))
    if looks_like_path or (model and path.is_dir()):
        return LocalModel(path)
    return _hub_model(model, model, revision)


def _hub_model(text: str, model: str, revision: str | None) -> HubModel:
    name, at, own_revision = text.partition("@")
    chosen = own_revision if at else revision
    well_formed = _HUB_NAME.fullmatch(name) and ".." not in text
    if not well_formed or (chosen is not None and not _REVISION.fullmatch(chosen)):
        raise ModelNotFoundError(f"There is no model {model!r}. {_HELP}")
    return HubModel(name, chosen)


def _bucket_model(rest: str, model: str) -> BucketModel:
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket) or not prefix:
        raise ModelNotFoundError(f"There is no model {model!r}: it must read s3://bucket/prefix.")
    if ".." in PurePosixPath(prefix).parts:
        raise ModelNotFoundError(f"There is no model {model!r}: a prefix may not hold '..'.")
    return BucketModel(bucket, prefix)


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
    if folder.suffix == _GGUF and folder.is_file():
        raise _no_config(str(folder.parent), [folder.name])
    if not folder.is_dir():
        raise ModelNotFoundError(f"There is no folder {folder}. {_HELP}")
    if not (folder / "config.json").is_file():
        raise _no_config(str(folder), [path.name for path in folder.iterdir()])
    return folder.resolve()


def _no_config(place: str, names: Iterable[str]) -> ModelNotFoundError:
    """Of a folder, a repository or a bucket with these files."""
    files = sorted(name for name in names if name.endswith(_GGUF))
    if files:
        return ModelNotFoundError(
            f"{place} holds GGUF weights ({files[0]}), which are not read. Use the safetensors that they "
            "were made of, or some that are quantised as AWQ, GPTQ, compressed-tensors or FP8."
        )
    return ModelNotFoundError(f"{place} holds no config.json, so it is no model. {_HELP}")


def _download_from_hub(
    source: HubModel, download_dir: Path | None, count: ByteCount, *, is_description: bool = False
) -> Path:
    from huggingface_hub import errors

    at = f"{source.name}@{source.revision}" if source.revision else source.name
    try:
        return _hub_snapshot(source, download_dir, count, is_description=is_description)
    except (ModelInvalidError, ModelNotFoundError):
        raise
    except errors.GatedRepoError as error:
        raise DownloadFailedError(
            f"hf://{at} is gated: ask for access on its page, then set HF_TOKEN (or the model's "
            "secretRef)."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"The hub knows no model hf://{at}. Check the name; a private one needs HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFoundError(
            f"hf://{source.name} has no revision {source.revision!r}."
        ) from error
    except Exception as error:  # network, disk and hub errors have no common base
        raise DownloadFailedError(
            f"hf://{at} could not be fetched: {_first_line(error)}. Check the network (HF_ENDPOINT, "
            "proxy), HF_TOKEN and the free disk."
        ) from error


def _hub_snapshot(
    source: HubModel, download_dir: Path | None, count: ByteCount, *, is_description: bool
) -> Path:
    """Where the hub cannot be asked, what was fetched before: the hub's own habit."""
    import httpx
    import huggingface_hub
    from huggingface_hub import errors

    from octavo.hub_bar import counting_bar

    try:
        needed = _needed_from_hub(source, download_dir)
    except errors.RevisionNotFoundError:
        raise
    except (
        errors.HfHubHTTPError,
        errors.OfflineModeIsEnabled,
        httpx.ConnectError,
        httpx.TimeoutException,
    ):
        fetched = _fetched_before(source, download_dir)
        if fetched is None:
            raise
        return fetched
    folder = huggingface_hub.snapshot_download(
        source.name,
        revision=source.revision,
        cache_dir=download_dir,
        allow_patterns=[
            glob.escape(path) for path in needed if not is_description or _describes(path)
        ],
        tqdm_class=counting_bar(count),
    )
    count.finish()
    return Path(folder)


def _fetched_before(source: HubModel, download_dir: Path | None) -> Path | None:
    """None when there is no download, or one that was interrupted before its weights were whole."""
    import huggingface_hub

    config = huggingface_hub.try_to_load_from_cache(
        source.name, "config.json", cache_dir=download_dir, revision=source.revision
    )
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    try:
        weight_files(folder)
    except ModelInvalidError:
        return None
    return folder


def _needed_from_hub(source: HubModel, download_dir: Path | None) -> list[str]:
    import huggingface_hub

    def read(path: str) -> bytes:
        file = huggingface_hub.hf_hub_download(
            source.name, path, revision=source.revision, cache_dir=download_dir
        )
        return Path(file).read_bytes()

    url = f"hf://{source.name}"
    paths = huggingface_hub.HfApi().list_repo_files(source.name, revision=source.revision)
    if "config.json" not in paths:
        raise _no_config(url, paths)
    return needed_files(paths, read, url)


def _download_from_bucket(
    source: BucketModel,
    download_dir: Path | None,
    count: ByteCount,
    *,
    is_description: bool = False,
) -> Path:
    url = f"s3://{source.bucket}/{source.prefix}"
    root = download_dir or Path.home() / ".cache" / "octavo" / "models"
    target = root / "s3" / source.bucket / source.prefix
    if (target / "config.json").is_file():
        return target
    filesystem = _s3_filesystem(url)
    try:
        needed = _needed_from_bucket(source, filesystem, url)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Fetched beside the target and renamed: a folder under its final name is complete.
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
        try:
            wanted = [one for one in needed if not is_description or _describes(one)]
            _fetch_files(filesystem, f"{source.bucket}/{source.prefix}", wanted, partial, count)
            _move_into_place(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{url} does not exist.") from error
    except (ModelInvalidError, ModelNotFoundError):
        raise
    except Exception as error:  # botocore's errors have no common base with the disk's
        if _is_lack_of_credentials(error):
            raise DownloadFailedError(
                f"{url} could not be fetched: there are no AWS credentials. Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY (in a cluster: as keys of the Secret that model.secretRef "
                "names)."
            ) from error
        raise DownloadFailedError(
            f"{url} could not be fetched: {_first_line(error)}. Check the AWS credentials, "
            "AWS_ENDPOINT_URL and the free disk."
        ) from error
    return target


def _fetch_files(
    filesystem: Any, folder: str, paths: Iterable[str], target: Path, count: ByteCount
) -> None:
    from fsspec.callbacks import Callback

    class Counting(Callback):  # type: ignore[misc]
        def relative_update(self, inc: int = 1) -> None:
            count.add(inc)

    keys = {path: f"{folder}/{path}" for path in paths}
    count.expect(sum(int(filesystem.info(key)["size"]) for key in keys.values()))
    for path, key in keys.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        filesystem.get_file(key, str(target / path), callback=Counting())
    count.finish()


def _needed_from_bucket(source: BucketModel, filesystem: Any, url: str) -> list[str]:
    folder = f"{source.bucket}/{source.prefix}/"
    keys = [str(key).lstrip("/") for key in filesystem.find(folder.rstrip("/"))]
    paths = [key.removeprefix(folder) for key in keys if key.startswith(folder)]
    if not paths:
        raise ModelNotFoundError(f"{url} does not exist.")
    if "config.json" not in paths:
        raise _no_config(url, paths)
    return needed_files(paths, lambda path: bytes(filesystem.cat_file(folder + path)), url)


def _describes(path: str) -> bool:
    return path.endswith(".json") and not is_tokenizer_file(path)


def _is_lack_of_credentials(error: Exception) -> bool:
    from botocore.exceptions import NoCredentialsError

    return isinstance(error, NoCredentialsError)


def _move_into_place(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError:
        # Another replica that shares the folder was faster; its download is as good as ours.
        if not (target / "config.json").is_file():
            raise


def _s3_filesystem(url: str) -> Any:
    import fsspec

    try:
        return fsspec.filesystem("s3", default_block_size=_S3_PIECE_BYTES)
    except ImportError as error:
        raise DownloadFailedError(
            f"{url} needs the s3fs package, which is not installed: pip install s3fs."
        ) from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
