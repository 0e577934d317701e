"""Who runs a command reads the flags that it was given, and not the keywords of Python's callers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from octavo.config import EngineConfig, LoadFormat, Quantization
from octavo.errors import InvalidConfigurationError, ModelInvalidError
from octavo.generation_config import choose_sampling_defaults
from octavo.lora_modules import read_lora_modules
from octavo.options import option_fields
from octavo.server.process.failure import fail
from octavo.server.process.flag_names import in_flags
from octavo.server.process.options import ServeOptions
from octavo.server.process.tls_options import TlsOptions
from octavo.worker.start.memory import check_positions
from octavo_operator.runtime_words import in_words_of_spec, written_in


def test_every_option_is_called_by_its_flag() -> None:
    for kind in (ServeOptions, TlsOptions, EngineConfig):
        for field in option_fields(kind):
            told = in_flags(f"{field.spelling} is 3; it must be 4.")
            assert told == f"{field.flags[0]} is 3; it must be 4."


@pytest.mark.parametrize(
    ("refused", "told", "of_spec"),
    [
        (
            lambda: check_positions(4096, 128),
            "--max-model-len is 4096, but the model knows 128 positions",
            "spec.engine.maxModelLen is 4096, but the model knows 128 positions",
        ),
        (
            lambda: EngineConfig(model="x", max_loras=3),
            "--max-loras is 3 and --enable-lora is off: it would change nothing. Turn --enable-lora on",
            "spec.engine.maxLoras is 3 and spec.engine.enableLora is off",
        ),
        (
            lambda: EngineConfig(
                model="x", load_format=LoadFormat.DUMMY, quantization=Quantization.AWQ
            ),
            "--load-format is dummy, and --quantization is awq, which",
            "spec.engine.loadFormat is dummy, and spec.engine.quantization is awq, which",
        ),
        (
            lambda: read_lora_modules(("a=/max_loras/seed", "a=/max_loras/seed")),
            "--lora-modules holds 'a' twice",
            "--lora-modules holds 'a' twice",
        ),
        (
            lambda: choose_sampling_defaults(Path("/"), "/etc/max_model_len"),
            "--generation-config is '/etc/max_model_len', which",
            "--generation-config is '/etc/max_model_len', which",
        ),
    ],
)
def test_last_words_of_a_start_name_flags(
    refused: Callable[[], object],
    told: str,
    of_spec: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("OCTAVO_TERMINATION_LOG", str(log))
    with pytest.raises(InvalidConfigurationError) as caught:
        refused()
    assert fail(caught.value) == 3
    assert capsys.readouterr().err.startswith(f"octavo: InvalidConfiguration: {told}")
    message = json.loads(log.read_text())["message"]
    assert message.startswith(told)
    # And so the operator finds the spec's field.
    assert in_words_of_spec(message, written_in({})).startswith(of_spec)


def test_fields_of_a_models_files_keep_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    fail(ModelInvalidError("config.json: block_size is 3; dtype is 4."))
    assert "config.json: block_size is 3; dtype is 4." in capsys.readouterr().err
