"""Plan of a start: device, checks, model, dtype and scheme, from config.json and the machine, before weights
are read. Every rank of a model makes the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from octavo.config import Device, EngineConfig, LoadFormat
from octavo.errors import InvalidConfigurationError, OutOfMemoryError
from octavo.kernels.protocols.layers import Kernels
from octavo.kernels.select import kernels_for
from octavo.layers.ranks import ALONE, Ranks
from octavo.loading import DummyWeights, Placement, SafetensorsWeights, WeightSource
from octavo.models.adapters import ModelAdapters
from octavo.models.base import BaseConfig, CausalLM, ModelConfig
from octavo.models.building import build_model
from octavo.models.quantization_config import read_stored_format
from octavo.models.registry import read_model_config
from octavo.models.sharing import check_sharing
from octavo.models.spec import ModelSpec
from octavo.models.stored_tables import with_stored_head
from octavo.quantization import Scheme, StoredFormat, check_quantization, scheme_for
from octavo.worker.machine import return_freed_memory
from octavo.worker.start.adapters import adapters_of
from octavo.worker.start.dtype import choose_dtype, held_dtype, stored_dtype
from octavo.worker.start.implementation import check_adapters, settled
from octavo.worker.start.memory import check_positions
from octavo.worker.start.phases import tell_options_for_gpus
from octavo.worker.start.rounded_inputs import rounds_inputs
from octavo.worker.start.trimmed_source import TrimmedSource

logger = logging.getLogger(__name__)

# Made by NVIDIA's driver on every node that has one.
_NVIDIA_CONTROL = Path("/dev/nvidiactl")


@dataclass(frozen=True, slots=True)
class StartPlan:
    """What is loaded, and how.

    Args:
        config: As the model runs with it.
        source: Of the weights, none of which is read yet.
        stored: In which they are quantised; None: they are as they were.
        adapters: Those of the model that is built; None: it takes none.
    """

    config: EngineConfig
    device: torch.device
    model: ModelConfig
    dtype: torch.dtype
    kernels: Kernels
    placement: Placement
    source: WeightSource
    scheme: Scheme
    stored: StoredFormat | None
    adapters: ModelAdapters | None

    def build_anew(self, ranks: Ranks = ALONE) -> CausalLM:
        """As `build`, of a checkpoint that was read before."""
        return replace(self, source=open_weights(self.config, self.model, self.placement)).build(
            ranks
        )

    def build(self, ranks: Ranks = ALONE) -> CausalLM:
        """Reads the weights; see `build_model`. Once."""
        with torch.inference_mode():
            model = build_model(
                self.model,
                TrimmedSource(self.source),
                scheme=self.scheme,
                kernels=self.kernels,
                placement=self.placement,
                ranks=ranks,
                adapters=self.adapters,
            )
        return_freed_memory()
        return model


def plan_start(config: EngineConfig) -> StartPlan:
    """Raises `ModelInvalidError`, `ModelUnsupportedError` and `InvalidConfigurationError`."""
    folder = Path(config.model)
    device = choose_device(config)
    stored = read_stored_format(folder)
    check_quantization(config, device, stored)
    kernels = kernels_for(device)
    model = read_model_config(folder, config.model_impl).with_kernels(kernels)
    config = settled(config, model, device)
    check_sharing(model, config.tensor_parallel_size)
    check_adapters(config, model)
    check_positions(config.max_model_len, model.spec.context)
    _tell_context(config.max_model_len, model.spec)
    dtype = choose_dtype(config.dtype, model, device)
    placement = Placement(dtype, device)
    source = open_weights(config, model, placement)
    model = with_stored_head(model, source)
    scheme = scheme_for(
        config.quantization,
        kernels,
        stored,
        rounds_inputs=rounds_inputs(config, device, stored),
        held_dtype=held_dtype(model, device),
    )
    adapters = adapters_of(config, model, kernels, placement)
    return StartPlan(
        config, device, model, dtype, kernels, placement, source, scheme, stored, adapters
    )


@contextmanager
def translated_load_errors() -> Iterator[None]:
    """What passed the check before may not fit: that counts matrices alone, and others may use the GPU."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"The weights do not fit the GPU: {error} Use a larger GPU or a smaller model, or see what else "
            "takes its memory (nvidia-smi)."
        ) from error


def choose_device(config: EngineConfig) -> torch.device:
    """Raises `InvalidConfigurationError` where there is none such."""
    wanted = config.device
    has_cuda = torch.cuda.is_available()
    if wanted is Device.CUDA and not has_cuda:
        raise InvalidConfigurationError(
            f"device is cuda, but torch {torch.__version__} sees no GPU: {_why_no_gpu()} Give the pod one "
            f"(resources.gpu), update the node's driver to one for CUDA {torch.version.cuda}, or use "
            "--device cpu."
        )
    if wanted is Device.AUTO and not has_cuda and _NVIDIA_CONTROL.exists():
        logger.warning(
            "The engine runs on the CPU, although the node has an NVIDIA driver: torch %s (CUDA %s) sees no "
            "GPU: %s --device cuda makes this an error.",
            torch.__version__,
            torch.version.cuda,
            _why_no_gpu(),
        )
    if wanted is Device.CUDA or (wanted is Device.AUTO and has_cuda):
        return torch.device("cuda", torch.cuda.current_device())
    tell_options_for_gpus(config)
    return torch.device("cpu")


def _why_no_gpu() -> str:
    """What torch has to say: no driver, one that is too old, or no device, as a sentence."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:
        return str(error).split("\n")[0].split(". ")[0].rstrip(".") + "."
    return "it does not say why."


def open_weights(config: EngineConfig, model: BaseConfig, placement: Placement) -> WeightSource:
    """Of the checkpoint, or such as are made up."""
    if config.load_format is LoadFormat.DUMMY:
        return DummyWeights(
            dtype=placement.dtype,
            device=placement.device,
            seed=config.seed,
            stored=stored_dtype(model),
        )
    return SafetensorsWeights(Path(config.model))


def _tell_context(max_model_len: int | None, spec: ModelSpec) -> None:
    """What LongRoPE's two sets of factors mean for a user who reads the log."""
    if spec.context == spec.default_context:
        return
    if max_model_len is None:
        logger.info(
            "max_model_len is at most %d, the original context. The model knows %d positions: "
            "--max-model-len takes as many, and LongRoPE's long factors then turn every sequence.",
            spec.default_context,
            spec.context,
        )
    elif max_model_len > spec.default_context:
        logger.warning(
            "max_model_len is %d, more than the original context of %d: LongRoPE's long factors turn every "
            "sequence, also those that are short.",
            max_model_len,
            spec.default_context,
        )
