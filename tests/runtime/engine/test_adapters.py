"""Adapters come and go while requests run: none is read before it is there, or after it went."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.errors import InvalidConfigurationError, InvalidParameterError
from octavo.lora import LoadedAdapters, LoRARequest
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import BASE_MODEL, ScheduledSequence
from tests.support.runtime.oracle import PagedMemoryExecutor, run_alone

MAX_LORAS = 2
SAMPLING = SamplingParams(max_tokens=5, ignore_eos=True)


class Holder(PagedMemoryExecutor):
    """Holds adapters by their ids, and is held to the engine's promises about them."""

    def __init__(self, *, is_asynchronous: bool = False) -> None:
        super().__init__(64, on_execute=self._look, is_asynchronous=is_asynchronous)
        self.held: set[int] = set()
        self.seen: list[set[int]] = []

    def add_adapter(self, adapter_id: int, folder: str) -> None:
        assert adapter_id not in self.held
        self.held.add(adapter_id)

    def remove_adapter(self, adapter_id: int) -> None:
        self.held.remove(adapter_id)

    def _look(self, batch: Sequence[ScheduledSequence]) -> None:
        found = {entry.adapter_id for entry in batch} - {BASE_MODEL}
        assert found <= self.held
        assert len(found) <= MAX_LORAS
        self.seen.append(found)


def make_core(executor: Holder, **changes: int) -> EngineCore:
    config = EngineConfig(
        model="oracle",
        max_num_seqs=4,
        max_num_batched_tokens=16,
        enable_lora=True,
        **{"max_loras": MAX_LORAS, **changes},  # type: ignore[arg-type]
    )
    return EngineCore(config, executor, is_debugging=True)


def request(name: str, adapter_id: int, prompt: Sequence[int] = (1, 2, 3)) -> AddRequest:
    return AddRequest(name, list(prompt), SAMPLING, adapter_id=adapter_id)


@given(data=st.data(), is_asynchronous=st.booleans())
def test_adapters_are_there_as_long_as_someone_has_them(
    data: st.DataObject, is_asynchronous: bool
) -> None:
    executor = Holder(is_asynchronous=is_asynchronous)
    core = make_core(executor)
    loaded, outputs, prompts = set[int](), dict[str, list[int]](), dict[str, list[int]]()
    aborted: set[str] = set()
    next_id = 1

    def step() -> None:
        for output in core.step().outputs:
            assert output.error is None
            outputs[output.request_id] += output.new_token_ids

    for number in range(data.draw(st.integers(1, 40))):
        name = str(number)
        match data.draw(st.sampled_from(["load", "unload", "add", "add", "add", "abort", "step"])):
            case "load":
                core.adapters.load(next_id, "folder")
                loaded.add(next_id)
                next_id += 1
            case "unload" if loaded:
                gone = data.draw(st.sampled_from(sorted(loaded)))
                loaded.remove(gone)
                core.unload_adapter(gone)
                with pytest.raises(InvalidParameterError):
                    core.check(request("new", gone))
            case "add":
                prompts[name] = data.draw(st.lists(st.integers(1, 39), min_size=1, max_size=20))
                outputs[name] = []
                adapter_id = data.draw(st.sampled_from([BASE_MODEL, *sorted(loaded)]))
                core.add(request(name, adapter_id, prompts[name]))
            case "abort" if prompts:
                victim = data.draw(st.sampled_from(sorted(prompts)))
                aborted.add(victim)
                core.abort([victim])
            case _ if core.has_work:
                step()
    while core.has_work:
        step()
    assert executor.held == loaded
    for name, output in outputs.items():
        expected = run_alone(prompts[name], 5, ignore_eos=True)
        assert output == expected or (name in aborted and output == expected[: len(output)])


def test_who_waits_for_a_seat_is_passed_by_the_base_model_alone() -> None:
    executor = Holder()
    core = make_core(executor, max_loras=1)
    for adapter_id in (1, 2):
        core.adapters.load(adapter_id, "folder")
    for number, adapter_id in enumerate([1, 2, 1, BASE_MODEL]):
        core.add(request(str(number), adapter_id))
    ended = []
    while core.has_work:
        ended += [out.request_id for out in core.step().outputs if out.finish_reason is not None]
    assert ended == ["0", "3", "1", "2"]
    assert executor.seen[0] == {1}


def test_an_adapter_that_cannot_be_had_is_refused() -> None:
    core = make_core(Holder(), max_loras=1, max_cpu_loras=1)
    core.adapters.load(1, "folder")
    with pytest.raises(InvalidConfigurationError, match="adapter_id 1 is taken"):
        core.adapters.load(1, "folder")
    with pytest.raises(InvalidConfigurationError, match="--max-cpu-loras"):
        core.adapters.load(2, "folder")
    core.add(request("a", 1))
    core.unload_adapter(1)
    with pytest.raises(InvalidConfigurationError, match="until its last request has ended"):
        core.adapters.load(2, "folder")
    core.abort(["a"])
    core.adapters.load(2, "folder")
    without = EngineCore(EngineConfig(model="oracle"), Holder())
    with pytest.raises(InvalidConfigurationError, match="enable_lora"):
        without.adapters.load(1, "folder")


def test_of_python_the_least_recently_used_adapter_makes_room() -> None:
    executor = Holder()
    core, adapters = make_core(executor, max_cpu_loras=2), LoadedAdapters()
    one, two, three = (LoRARequest(str(number), number, "folder") for number in (1, 2, 3))
    assert adapters.ids_of([one, None, two], 3, core) == [1, 0, 2]
    adapters.ids_of(one, 1, core)
    adapters.ids_of([three, one], 2, core)
    assert executor.held == {1, 3}
    adapters.ids_of(two, 1, core)
    assert executor.held == {1, 2}
    with pytest.raises(InvalidConfigurationError, match="3 adapters, and max_cpu_loras is 2"):
        adapters.ids_of([one, two, three], 3, core)
    with pytest.raises(InvalidParameterError, match="Use a new number"):
        adapters.ids_of(LoRARequest("other", 3, "elsewhere"), 1, core)
