"""Models in S3 buckets: what serving one takes is downloaded, and complete once it has its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from octavo.errors import DownloadFailedError, ModelInvalidError, ModelNotFoundError
from octavo.loading.checkpoint_files import Listing, choose_weight_files
from octavo.loading.headers import TensorHeader, read_headers
from octavo.loading.model_files import needed_files
from octavo.loading.progress import ByteCount
from octavo.model_sources.hosts import asked_host
from octavo.model_sources.names import BucketModel, describes, first_line, no_config
from octavo.model_sources.partial_folder import partial_folder

# Ten pieces are fetched at once, each in memory: a pod that downloads asks for 256 MiB.
_S3_PIECE_BYTES = 8 << 20


def download_from_bucket(
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
    with _translated_errors(url, filesystem):
        needed = _needed_from_bucket(source, filesystem, url)
        # Fetched beside the target and renamed: a folder under its final name is complete.
        with partial_folder(target.parent) as partial:
            wanted = [one for one in needed if not is_description or describes(one)]
            _fetch_files(filesystem, f"{source.bucket}/{source.prefix}", wanted, partial, count)
            _move_into_place(partial, target)
    return target


def bucket_headers(source: BucketModel, folder: Path) -> dict[str, TensorHeader]:
    """Of the weights, by requests for these bytes alone.

    Args:
        folder: With the index of shards, if there is one.
    """
    url = f"s3://{source.bucket}/{source.prefix}"
    prefix = f"{source.bucket}/{source.prefix}/"
    filesystem = _s3_filesystem(url)
    with _translated_errors(url, filesystem):
        keys = (str(key).lstrip("/").removeprefix(prefix) for key in filesystem.find(prefix))
        names = frozenset(key for key in keys if "/" not in key)
        chosen = choose_weight_files(Listing(url, names, lambda name: (folder / name).read_bytes()))

        def read(name: str, start: int, end: int) -> bytes:
            return bytes(filesystem.cat_file(prefix + name, start=start, end=end))

        return read_headers(url, chosen.names, read)


@contextmanager
def _translated_errors(url: str, filesystem: Any) -> Iterator[None]:
    try:
        yield
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
        host = asked_host(error, _endpoint(filesystem))
        place = f"{url} could not be fetched from {host}" if host else f"{url} could not be fetched"
        raise DownloadFailedError(
            f"{place}: {first_line(error)}. Check the AWS credentials, AWS_ENDPOINT_URL and the free disk."
        ) from error


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
        raise no_config(url, paths)
    return needed_files(paths, lambda path: bytes(filesystem.cat_file(folder + path)), url)


def _endpoint(filesystem: Any) -> str:
    """What its client took from the environment, a profile and the region; empty where it has none yet."""
    try:
        return str(filesystem.s3.meta.endpoint_url)
    except Exception:  # nothing that fails here may hide what failed before
        return ""


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
