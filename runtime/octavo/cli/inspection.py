"""`octavo inspect MODEL`: what a model is and takes, before anything of it is loaded."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli.flags import PATH
from octavo.config import EngineConfig, KVCacheDtype, ModelImplementation, Quantization

if TYPE_CHECKING:
    from octavo.worker.start.inspection import GpuFit, Inspection

_REFUSED = 3
_LEAST_GPU_BYTES, _MOST_GPU_BYTES = 1 << 20, 1 << 40


def inspect_command(
    model: Annotated[
        str,
        typer.Argument(
            help="builtin://demo, hf://org/name[@revision], org/name, s3://bucket/prefix or a folder."
        ),
    ],
    gpu_memory: Annotated[
        str | None, typer.Option(help="Ask about a GPU of this size, such as 80Gi.")
    ] = None,
    gpu_memory_utilization: Annotated[
        float | None, typer.Option(help="As of octavo serve.")
    ] = None,
    max_model_len: Annotated[int | None, typer.Option(min=2, help="As of octavo serve.")] = None,
    dtype: Annotated[str, typer.Option(help="As of octavo serve.")] = "auto",
    quantization: Annotated[Quantization | None, typer.Option(help="As of octavo serve.")] = None,
    kv_cache_dtype: Annotated[
        KVCacheDtype, typer.Option(help="As of octavo serve.")
    ] = KVCacheDtype.AUTO,
    model_impl: Annotated[
        ModelImplementation, typer.Option(help="As of octavo serve.")
    ] = ModelImplementation.AUTO,
    tensor_parallel_size: Annotated[
        int, typer.Option(min=1, help="As of octavo serve: tells what each rank takes.")
    ] = 1,
    enable_lora: Annotated[
        bool, typer.Option("--enable-lora", help="As of octavo serve: counts seats on a GPU.")
    ] = False,
    max_loras: Annotated[int | None, typer.Option(min=1, help="As of octavo serve.")] = None,
    max_lora_rank: Annotated[int | None, typer.Option(min=1, help="As of octavo serve.")] = None,
    speculative_config: Annotated[
        str | None,
        typer.Option(help="As of octavo serve: tells what guesses beside the model takes."),
    ] = None,
    download_dir: Annotated[
        Path | None,
        typer.Option(help="Where downloads are kept; weights are none of them.", **PATH),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Tell what a model is and what it takes, without its weights.

    Exits with 3 when a start would refuse it, or the GPU asked about does not hold it.
    """
    from octavo.errors import OctavoError
    from octavo.server.process.failure import fail

    limits: dict[str, Any] = {"max_loras": max_loras, "max_lora_rank": max_lora_rank}
    try:
        found = _inspected(
            _Places(model, revision, download_dir),
            None if gpu_memory is None else _gpu_bytes(gpu_memory),
            speculative_config,
            dtype=dtype,
            quantization=quantization,
            kv_cache_dtype=kv_cache_dtype,
            model_impl=model_impl,
            max_model_len=max_model_len,
            gpu_memory_utilization=gpu_memory_utilization,
            tensor_parallel_size=tensor_parallel_size,
            enable_lora=enable_lora,
            **{name: value for name, value in limits.items() if value is not None},
        )
    except OctavoError as error:
        return fail(error)
    _show(found, as_json=as_json)
    if gpu_memory is None and gpu_memory_utilization is not None:
        print("--gpu-memory-utilization is without effect: give --gpu-memory too.", file=sys.stderr)
    problems = [found.weights_problem, found.texts_problem, found.gpu and found.gpu.problem]
    return _REFUSED if any(problems) else 0


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the model is read from."""

    model: str
    revision: str | None
    download_dir: Path | None


def _inspected(
    places: _Places, gpu_bytes: int | None, speculative: str | None, **options: Any
) -> Inspection:
    """By the small files and headers alone, which are gone afterwards.

    Args:
        speculative: The JSON of `--speculative-config`.
        options: Of the `EngineConfig`.
    """
    import msgspec

    from octavo.cli.inspected_folder import FolderState
    from octavo.draft_source import naming_the_field
    from octavo.model_source import described
    from octavo.speculative_config import SpeculativeConfig
    from octavo.worker.start.inspection import inspect_model

    wanted = None if speculative is None else SpeculativeConfig.read(speculative)
    kept_in = places.download_dir
    with ExitStack() as stack:
        model = stack.enter_context(
            described(places.model, download_dir=kept_in, revision=places.revision)
        )
        draft, draft_headers = None, None
        if wanted is not None and wanted.model is not None:
            with naming_the_field():
                draft = stack.enter_context(described(wanted.model, download_dir=kept_in))
            draft_headers = draft.headers
            wanted = msgspec.structs.replace(wanted, model=str(draft.folder))
        config = EngineConfig(model=str(model.folder), speculative_config=wanted, **options)
        found = inspect_model(config, gpu_bytes, model.headers, draft_headers)
        state = FolderState()
        if model.is_local:
            state = state.with_weights(model.folder).with_texts(model.folder)
        if draft is not None and draft.is_local:
            state = state.with_weights(draft.folder, "speculative_config.model: ")
        return replace(found, **asdict(state))


def _show(found: Inspection, *, as_json: bool) -> None:
    import msgspec

    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    rows = _rows(found)
    width = max(len(name) for name, _ in rows) + 2
    print("\n".join(f"{name:<{width}}{value}" for name, value in rows))


def _gpu_bytes(text: str) -> int:
    from octavo.errors import InvalidConfigurationError
    from octavo.quantity import parse_bytes

    size = parse_bytes("--gpu-memory", text)
    if not _LEAST_GPU_BYTES <= size <= _MOST_GPU_BYTES:
        raise InvalidConfigurationError(
            f"--gpu-memory is {text!r}; give the memory of one GPU, 1Mi to 1Ti, such as 80Gi."
        )
    return size


def _rows(found: Inspection) -> list[tuple[str, str]]:
    from octavo.worker.start.memory import format_bytes

    of_each = "" if found.num_ranks == 1 else f" on each of {found.num_ranks} ranks"
    rows = [
        ("architecture", f"{found.architecture} ({found.path})"),
        ("task", found.task),
        ("dtype", found.dtype),
        ("quantization", found.quantization or "none"),
        ("parameters", f"{found.num_parameters:,}"),
        ("weights", f"{format_bytes(found.weight_bytes)}{of_each}"),
    ]
    if found.kv_bytes_per_token is not None:
        each = format_bytes(found.kv_bytes_per_token)
        rows.append(("KV cache", f"{each} a token ({found.kv_cache_dtype}){of_each}"))
    rows.append(("context", f"{found.context:,} tokens"))
    if found.drafter is not None:
        needs = found.drafter
        rows.append((needs.method, f"{format_bytes(needs.weight_bytes)} of weights"))
        rows.append(("its KV cache", f"{format_bytes(needs.kv_bytes_per_token)} a token"))
    if found.stored_bytes is not None:
        rows.append(("stored", f"{format_bytes(found.stored_bytes)} in the checkpoint's files"))
    rows += [("not decided", note) for note in found.notes]
    rows += [("missing", what) for what in found.missing]
    if found.weights_problem is not None:
        rows.append(("weights refused", found.weights_problem))
    if found.texts_problem is not None:
        rows.append(("texts refused", found.texts_problem))
    return rows if found.gpu is None else [*rows, *_gpu_rows(found.gpu, found.num_ranks)]


def _gpu_rows(gpu: GpuFit, num_ranks: int) -> list[tuple[str, str]]:
    from octavo.worker.start.memory import format_bytes

    size, are_many = format_bytes(gpu.memory_bytes), num_ranks > 1
    fits = f"{'do' if are_many else 'does'} not hold the model"
    if gpu.longest_context:
        verb = "hold" if are_many else "holds"
        fits = f"{verb} about {gpu.longest_context:,} tokens of one sequence"
    needed = "no number of them that can share the model holds it"
    if gpu.num_gpus is not None:
        beside = "" if gpu.num_gpus == 1 else f" (--tensor-parallel-size {gpu.num_gpus})"
        needed = f"{gpu.num_gpus}{beside}"
    name = f"{num_ranks} GPUs of {size}" if are_many else f"GPU of {size}"
    rows = [(name, fits), ("GPUs needed", needed)]
    if gpu.adapter_bytes is not None:
        rows.insert(0, ("adapters", f"{format_bytes(gpu.adapter_bytes)} of seats on each GPU"))
    return rows if gpu.problem is None else [*rows, ("refused", gpu.problem)]
