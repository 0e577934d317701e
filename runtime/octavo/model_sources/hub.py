"""Models on the Hugging Face hub: what serving one takes is downloaded into the hub's own cache."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from octavo.errors import DownloadFailedError, ModelInvalidError, ModelNotFoundError
from octavo.loading.checkpoint_files import Listing, choose_weight_files, weight_files
from octavo.loading.headers import TensorHeader, read_headers
from octavo.loading.model_files import needed_files
from octavo.loading.progress import ByteCount
from octavo.model_sources.hosts import asked_host
from octavo.model_sources.names import HubModel, describes, first_line, no_config

_MOVES = 3
"""So often a branch may move while it is listed and fetched."""


def download_from_hub(
    source: HubModel, download_dir: Path | None, count: ByteCount, *, is_description: bool = False
) -> Path:
    with _translated_errors(source):
        return _hub_snapshot(source, download_dir, count, is_description=is_description)


def commit_of(folder: Path) -> str | None:
    """The commit whose files the folder holds, as the hub's cache names it; None of any other folder."""
    is_snapshot = folder.parent.name == "snapshots"
    return folder.name if is_snapshot and re.fullmatch("[0-9a-f]{40}", folder.name) else None


def hub_headers(source: HubModel, folder: Path) -> dict[str, TensorHeader] | None:
    """Of the weights, by requests for these bytes alone; None where they are in the folder.

    Args:
        folder: With the index of shards, if there is one.
    """
    import huggingface_hub

    with _translated_errors(source):
        try:
            weight_files(folder)
        except ModelInvalidError:
            pass  # they are on the hub
        else:
            return None
        pinned = replace(source, revision=commit_of(folder) or source.revision)
        paths = huggingface_hub.HfApi().list_repo_files(source.name, revision=pinned.revision)
        names = frozenset(path for path in paths if "/" not in path)
        place = f"hf://{source.name}"
        chosen = choose_weight_files(
            Listing(place, names, lambda name: (folder / name).read_bytes())
        )
        return read_headers(
            place, chosen.names, lambda name, *span: _read_range(pinned, name, *span)
        )


def _read_range(source: HubModel, name: str, start: int, end: int) -> bytes:
    """Also where whoever answers knows no ranges: the answer is not read further.

    Raises `httpx.TimeoutException` where nothing comes for HF_HUB_DOWNLOAD_TIMEOUT seconds, as in downloads.
    """
    import huggingface_hub
    from huggingface_hub import constants, utils

    url = huggingface_hub.hf_hub_url(source.name, name, revision=source.revision)
    headers = {**utils.build_hf_headers(), "Range": f"bytes={start}-{end - 1}"}
    body = b""
    with utils.get_session().stream(
        "GET",
        url,
        headers=headers,
        follow_redirects=True,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
    ) as answer:
        utils.hf_raise_for_status(answer)
        first = start if answer.status_code == 200 else 0
        for piece in answer.iter_bytes():
            body += piece
            if len(body) >= first + end - start:
                break
    return body[first : first + end - start]


@contextmanager
def _translated_errors(source: HubModel) -> Iterator[None]:
    from huggingface_hub import constants, errors

    at = f"{source.name}@{source.revision}" if source.revision else source.name
    try:
        yield
    except (ModelInvalidError, ModelNotFoundError, DownloadFailedError):
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
        host = asked_host(error, constants.ENDPOINT)
        raise DownloadFailedError(
            f"hf://{at} could not be fetched from {host}: {first_line(error)}. Check the network "
            "(HF_ENDPOINT, proxy), HF_TOKEN and the free disk."
        ) from error


def _hub_snapshot(
    source: HubModel, download_dir: Path | None, count: ByteCount, *, is_description: bool
) -> Path:
    """Where the hub cannot be asked, what was fetched before: the hub's own habit."""
    import httpx
    import huggingface_hub
    from huggingface_hub import errors

    from octavo.model_sources.hub_bar import counting_bar

    for _ in range(_MOVES):
        try:
            commit, needed = _needed_from_hub(source, download_dir)
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
                glob.escape(path) for path in needed if not is_description or describes(path)
            ],
            tqdm_class=counting_bar(count),
        )
        if commit_of(Path(folder)) == commit:
            count.finish()
            return Path(folder)
    raise DownloadFailedError(
        f"hf://{source.name} got new commits while it was fetched, {_MOVES} times. Name one: "
        f"hf://{source.name}@COMMIT."
    )


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


def _needed_from_hub(source: HubModel, download_dir: Path | None) -> tuple[str | None, list[str]]:
    """The commit that the revision stands for at present, and which of its files to have."""
    import huggingface_hub

    def read(path: str) -> bytes:
        file = huggingface_hub.hf_hub_download(
            source.name, path, revision=source.revision, cache_dir=download_dir
        )
        return Path(file).read_bytes()

    url = f"hf://{source.name}"
    found = huggingface_hub.HfApi().model_info(source.name, revision=source.revision)
    paths = [file.rfilename for file in found.siblings or ()]
    if "config.json" not in paths:
        raise no_config(url, paths)
    return found.sha, needed_files(paths, read, url)
