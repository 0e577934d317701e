"""What the runtime says of a draft reaches the conditions by its field and its URI, not by flags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from octavo.config import EngineConfig
from octavo.draft_source import with_draft_model
from octavo.errors import ModelInvalidError, OctavoError
from octavo.models.registry import read_model_config
from octavo.quantization.choose import _LEAVE_OUT
from octavo.server.process.flag_names import in_flags
from octavo.speculative_config import SpeculativeConfig, SpeculativeMethod
from octavo.worker.start.draft import DRAFT_MODEL
from octavo.worker.start.drafter_checks import check_context, naming
from octavo.worker.start.eagle import HEAD
from octavo_operator.manifest import Manifest
from octavo_operator.names import DRAFT_CLAIM_PATH
from octavo_operator.render.pod import pod_template
from octavo_operator.runtime_words import (
    claims_of,
    in_words_of_spec,
    of_a_missing_claim,
    written_in,
)
from tests.support.operator.builders import pod_context
from tests.support.runtime.tiny_llama import save_tiny_llama

FIELD = "spec.engine.speculative.model: "
FOLDER = Path(f"{DRAFT_CLAIM_PATH}/small")


def pod(draft: str = "pvc://drafts/small") -> Manifest:
    speculative = {"method": "draft_model", "model": {"uri": draft}}
    context = pod_context(model={"uri": "pvc://weights/a"}, engine={"speculative": speculative})
    return {"spec": pod_template(context)["spec"]}


def said(act: Callable[[], object]) -> str:
    """What a condition says of the error in such a pod."""
    with pytest.raises(OctavoError) as refused:
        act()
    return in_words_of_spec(in_flags(str(refused.value)), written_in(pod()))


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    save_tiny_llama(tmp_path)
    method = SpeculativeMethod.DRAFT_MODEL
    wanted = SpeculativeConfig(method=method, model=str(FOLDER))
    return EngineConfig(model=str(tmp_path), speculative_config=wanted)


def test_a_folder_that_the_claim_does_not_hold_is_named_as_the_user_wrote_it(
    config: EngineConfig,
) -> None:
    told = said(lambda: with_draft_model(config, download_dir=None))
    assert told.startswith(f"{FIELD}There is no folder pvc://drafts/small. Use hf://")
    assert "pvc://claim/path" in told
    assert "local folder" not in told
    assert DRAFT_CLAIM_PATH not in told


def test_what_does_not_go_with_the_model_is_told_by_fields(config: EngineConfig) -> None:
    draft = read_model_config(Path(config.model), config.model_impl).spec
    told = said(lambda: check_context(config, "the draft model", draft, 512))
    assert told.startswith(f"{FIELD}the draft model knows 256 positions")
    assert "Use spec.engine.maxModelLen 256 or less" in told
    for what in (DRAFT_MODEL, HEAD):
        with pytest.raises(ModelInvalidError) as refused, naming(what, FOLDER):
            raise ModelInvalidError("it has no weights.")
        told = in_words_of_spec(str(refused.value), written_in(pod()))
        assert told == f"{FIELD}{what} in pvc://drafts/small: it has no weights."


def test_a_claim_of_the_draft_that_does_not_exist_is_told_once() -> None:
    told = '0/1 nodes are available: persistentvolumeclaim "{0}" not found. not found.'
    claims = claims_of(pod())
    assert of_a_missing_claim(told.format("weights"), claims) is None
    missing = f"{FIELD}there is no claim drafts in this namespace"
    assert of_a_missing_claim(told.format("drafts"), claims) == missing
    assert of_a_missing_claim(told.format("weights"), claims_of(pod("pvc://weights/b"))) is None


def test_words_of_the_served_model_and_of_flags_that_no_field_has_stay() -> None:
    told = "Use --max-model-len-x, /draft-claims or x--dtype."
    assert in_words_of_spec(told, written_in(pod())) == told


def test_words_of_one_flag_are_not_laid_to_another_that_the_spec_passes_on() -> None:
    template = pod_template(pod_context(extraArgs=["--log-level=debug", "--no-ui"]))
    written = written_in({"spec": template["spec"]})
    assert written.extra_flags == {"--log-level", "--no-ui"}
    for told in ("The build has no UI.", "--log-levels is 3", "x--no-ui"):
        assert in_words_of_spec(told, written) == told
    for told in ("--log-level is 'x'. Use debug.", "Invalid value for '--log-level': x"):
        assert in_words_of_spec(told, written) == f"spec.extraArgs: {told}"


def test_a_flag_that_an_older_runtime_does_not_know_is_told_by_its_field() -> None:
    """Which `spec.runtime.version` may keep."""
    told = in_words_of_spec("No such option: --max-model-len", written_in(pod()))
    assert told == (
        "the runtime's image is older than the operator (spec.runtime): "
        "No such option: spec.engine.maxModelLen"
    )


def test_a_field_that_stands_behind_its_flag_is_told_once() -> None:
    assert in_words_of_spec(f"Use a checkpoint, or {_LEAVE_OUT}.", written_in({})) == (
        "Use a checkpoint, or leave spec.engine.quantization out."
    )
    told = "Use --kv-cache-dtype auto (spec.engine.kvCacheDtype)."
    assert in_words_of_spec(told, written_in({})) == "Use spec.engine.kvCacheDtype auto."
