"""Refusals name the other implementation (`--model-impl`) where that one takes the model, and only there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.config import ModelImplementation
from octavo.errors import ModelUnsupportedError
from octavo.models.from_transformers import self_check
from octavo.models.registry import read_model_config
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.stepping import make_executor

AUTO, TRANSFORMERS = ModelImplementation.AUTO, ModelImplementation.TRANSFORMERS
UNKNOWN = {"rope_type": "new", "rope_theta": 10_000.0, "factor": 2.0}


def refusal(folder: Path, implementation: ModelImplementation, **fields: Any) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(ModelUnsupportedError) as caught:
        read_model_config(folder, implementation)
    return str(caught.value)


def test_transformers_modules_are_named_where_they_take_what_own_code_refuses(
    tmp_path: Path,
) -> None:
    make_checkpoint(tmp_path, "llama")
    message = refusal(tmp_path, AUTO, hidden_act="gelu")
    assert message.startswith("config.json: hidden_act is 'gelu'; implemented are silu")
    assert message.endswith("use --model-impl transformers, whose modules take this config.json.")
    make_executor(tmp_path, model_impl=TRANSFORMERS)  # which compares itself with transformers
    # These refuse it, too.
    assert "--model-impl" not in refusal(tmp_path, AUTO, rope_parameters=UNKNOWN)


def test_nobody_is_named_for_a_field_that_nobody_knows(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "llama")
    assert "--model-impl" not in refusal(tmp_path, AUTO, own_invention=3)
    read_model_config(tmp_path, TRANSFORMERS)


def test_own_code_is_named_first_where_transformers_modules_fail(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "falcon")
    message = refusal(tmp_path, TRANSFORMERS)
    advice = "Leave --model-impl out: Octavo's own code runs FalconForCausalLM."
    assert message.startswith(advice)
    assert "these have attentions of their own" in message.removeprefix(advice)
    read_model_config(tmp_path, AUTO)


def test_own_code_is_not_named_where_it_refuses_the_config_too(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "falcon")
    message = refusal(tmp_path, TRANSFORMERS, rope_parameters=UNKNOWN)
    assert message.startswith("config.json: architecture FalconForCausalLM would run by")
    assert "--model-impl" not in message
    assert "rope_type" in refusal(tmp_path, AUTO)


def test_the_check_at_start_names_own_code_where_that_takes_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint(tmp_path, "llama")
    # Another attention than the paged one: as a release of transformers might come to have it.
    monkeypatch.setattr(self_check, "_differ", lambda *_, **__: True)
    with pytest.raises(ModelUnsupportedError, match=r"^Leave --model-impl out: Octavo's own code"):
        make_executor(tmp_path, model_impl=TRANSFORMERS)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_act": "gelu"}))
    with pytest.raises(ModelUnsupportedError, match=r"^config\.json: architecture Llama") as caught:
        make_executor(tmp_path, model_impl=TRANSFORMERS)
    assert "--model-impl" not in str(caught.value)
