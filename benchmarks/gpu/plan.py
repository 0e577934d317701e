"""Plan. Which section runs for which model, in which process, and how long it may take."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class Group(enum.Enum):
    """Sections that share one process, and with it the GPU's memory and a loaded model."""

    DEVICE = "device"
    ENGINE = "engine"
    TRANSFORMERS = "transformers"
    FLASHINFER = "flashinfer"
    STATIC_CACHE = "static-cache"


@dataclass(frozen=True, slots=True)
class Section:
    """`budget` in seconds, for the first model; start-up of what it measures included."""

    name: str
    group: Group
    budget: float
    only_first_model: bool = False
    is_dense_only: bool = False


SECTIONS = (
    Section("device", Group.DEVICE, 30),
    Section("attention", Group.DEVICE, 60),
    Section("few_rows", Group.DEVICE, 20),
    Section("packed", Group.DEVICE, 20),
    Section("adapters", Group.DEVICE, 20),
    Section("startup", Group.ENGINE, 90),
    Section("decode", Group.ENGINE, 30),
    Section("prefill", Group.ENGINE, 20),
    Section("overhead", Group.ENGINE, 30),
    Section("throughput", Group.ENGINE, 40),
    Section("mix", Group.ENGINE, 45, is_dense_only=True),
    Section("versus", Group.ENGINE, 20, is_dense_only=True),
    Section("latency", Group.ENGINE, 35, only_first_model=True),
    Section("generate", Group.TRANSFORMERS, 60, is_dense_only=True),
    Section("generate_batch", Group.TRANSFORMERS, 45, only_first_model=True),
    Section("flashinfer_decode", Group.FLASHINFER, 60, only_first_model=True),
    Section("generate_static", Group.STATIC_CACHE, 90, only_first_model=True),
)
MODELS = ("llama-3.1-8b", "qwen3-0.6b", "mixtral-8x7b")
SMOKE_MODELS = ("tiny-llama", "tiny-mixtral")
TOTAL_SECONDS = 580.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the run: a group's sections for one model, in order."""

    group: Group
    model: str
    sections: tuple[Section, ...]


def make_plan(
    models: Sequence[str], sections: Sequence[str], *, has_flashinfer: bool = False
) -> list[Process]:
    """The processes in order: the device, each model's engine, each one's transformers, then what compiles
    for long before it measures. What is run last is what the end of the time takes.

    Args:
        models: Names; the first is the one that everything is measured of.
        sections: Names to run, or none for all.
        has_flashinfer: Whether the package is there; without it nothing of it is planned.

    Raises:
        ValueError: A section's name is unknown.
    """
    known = {section.name for section in SECTIONS}
    if unknown := [name for name in sections if name not in known]:
        raise ValueError(f"Unknown sections {unknown}; known are {', '.join(sorted(known))}.")
    chosen_names = {"device", *(sections or known)}  # shares need the ceilings, always
    if not has_flashinfer:
        chosen_names.discard("flashinfer_decode")
    wanted = [section for section in SECTIONS if section.name in chosen_names]
    keys = [(Group.DEVICE, models[0])]
    keys += [(Group.ENGINE, model) for model in models]
    keys += [(Group.TRANSFORMERS, model) for model in models]
    keys += [(Group.FLASHINFER, models[0]), (Group.STATIC_CACHE, models[0])]
    processes = []
    for group, model in keys:
        chosen = tuple(
            section
            for section in wanted
            if section.group is group
            and not (section.only_first_model and model != models[0])
            and not (section.is_dense_only and "mixtral" in model)
        )
        if chosen:
            processes.append(Process(group, model, chosen))
    return processes
