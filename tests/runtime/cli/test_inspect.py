"""`octavo inspect`: the numbers are the start's own, and so are the words of a refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from octavo.cli.main import run
from octavo.config import EngineConfig, ModelImplementation
from octavo.errors import InvalidConfigurationError, ModelInvalidError, OutOfMemoryError
from octavo.loading.headers import read_headers
from octavo.model_source import resolve
from octavo.tokenizer import load_tokenizer
from octavo.worker import machine
from octavo.worker.start.encoder import plan_model
from octavo.worker.start.inspection import inspect_model
from octavo.worker.start.memory import format_bytes
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.encoders import make_encoder
from tests.support.runtime.generic_models import make_generic_checkpoint
from tests.support.runtime.inspected import inspect
from tests.support.runtime.stepping import make_executor
from tests.support.runtime.tiny_llama import save_tiny_llama


def test_a_model_in_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_checkpoint(tmp_path, "qwen3", num_hidden_layers=2, num_key_value_heads=2, head_dim=16)
    (tmp_path / "model.safetensors").unlink()
    assert run(["inspect", str(tmp_path), "--gpu-memory", "80Gi", "--dtype", "bfloat16"]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    shown = {name: value.strip() for name, value in lines.items()}
    assert shown["architecture"] == "Qwen3ForCausalLM (native)"
    assert shown["quantization"] == "none"
    assert shown["KV cache"] == f"{2 * 2 * 2 * 16 * 2} bytes a token (bfloat16)"
    assert shown["GPUs needed"] == "1"
    assert "GPU of 80.00 GiB" in shown


def test_weights_that_a_start_refuses_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_checkpoint(tmp_path)
    weights = tmp_path / "model.safetensors"
    assert inspect(capsys, tmp_path)["weights_problem"] is None
    weights.write_bytes(weights.read_bytes()[:-8])
    assert run(["inspect", str(tmp_path)]) == 3
    shown = capsys.readouterr().out
    assert f"weights refused  {weights} is damaged" in shown
    assert "KV cache" in shown
    weights.rename(tmp_path / "pytorch_model.bin")
    assert run(["inspect", str(tmp_path)]) == 3
    assert "holds only pickle weights (pytorch_model.bin)" in capsys.readouterr().out


def test_weights_that_an_index_names_are_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    assert run(["inspect", str(tmp_path)]) == 3
    assert "names model-00001-of-00002.safetensors, which is missing" in capsys.readouterr().out
    index.write_text("")
    assert run(["inspect", str(tmp_path)]) == 3
    assert f"weights refused  {index} is damaged" in capsys.readouterr().out


def test_weights_of_an_encoder_and_of_a_draft_are_looked_at_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, model, draft = (tmp_path / name for name in ("encoder", "model", "draft"))
    make_encoder(encoder, "bert")
    save_tiny_llama(model)
    save_tiny_llama(draft)
    for folder in (encoder, draft):
        (folder / "model.safetensors").write_bytes(b"")
    assert "is damaged" in inspect(capsys, encoder)["weights_problem"]
    wanted = json.dumps({"method": "draft_model", "model": str(draft)})
    problem = inspect(capsys, model, "--speculative-config", wanted)["weights_problem"]
    assert problem.startswith(f"speculative_config.model: {draft}/model.safetensors is damaged")


def test_a_config_alone_is_shown_with_what_a_start_needs_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert run(["inspect", str(tmp_path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("missing ") for line in shown) == 2
    found = inspect(capsys, tmp_path)
    assert found["num_parameters"] > 0
    assert (found["weights_problem"], found["texts_problem"]) == (None, None)
    weights, tokenizer = found["missing"]
    assert weights.startswith(f"{tmp_path} holds no *.safetensors weights.")
    with pytest.raises(ModelInvalidError) as caught:
        load_tokenizer(tmp_path)
    assert tokenizer == str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", None, "holds no tokenizer.json."),
        ("tokenizer.json", '{"model":', "tokenizer.json is damaged"),
        ("tokenizer_config.json", "[]", "must hold a JSON object"),
        ("chat_template.jinja", "{% if %}", "chat_template"),
        ("generation_config.json", '{"temperature": "hot"}', "temperature is 'hot'"),
    ],
)
def test_texts_that_a_start_refuses_are_told(
    name: str,
    content: str | None,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(resolve("builtin://demo"), folder)
    assert run(["inspect", str(folder)]) == 0
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    capsys.readouterr()
    assert run(["inspect", str(folder)]) == 3
    (line,) = (one for one in capsys.readouterr().out.splitlines() if "refused" in one)
    assert line.startswith("texts refused")
    assert words in line


def test_a_model_that_runs_by_transformers_modules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_generic_checkpoint(tmp_path, "olmo2", tie_word_embeddings=False)
    (tmp_path / "model.safetensors").unlink()
    shown = inspect(capsys, tmp_path, "--dtype", "float32")
    assert (shown["architecture"], shown["path"]) == ("Olmo2ForCausalLM", "generic")
    matrices = sum(one.numel() for one in model.parameters() if one.dim() > 1)
    assert (shown["num_parameters"], shown["weight_bytes"]) == (matrices, 4 * matrices)
    assert shown["kv_bytes_per_token"] == 4 * 2 * 2 * 16 * 4
    assert run(["inspect", str(tmp_path), "--model-impl", "octavo"]) == 3


@pytest.mark.parametrize("is_stored", [False, True])
def test_weights_take_what_the_start_says_that_they_take(
    is_stored: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A head that is stored beside a tied config counts too."""
    make_checkpoint(tmp_path, tie_word_embeddings=True)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    if is_stored:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
        save_file(tensors, path, metadata={"format": "pt"})
    found = inspect(capsys, tmp_path, "--dtype", "float32")
    bodies = sum(tensor.numel() for tensor in tensors.values() if tensor.dim() == 2)
    assert found["weight_bytes"] == 4 * bodies
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: 1)
    said = f"its weights take {format_bytes(found['weight_bytes'])}, and"
    with pytest.raises(OutOfMemoryError, match=said):
        make_executor(tmp_path)


def test_an_encoder_keeps_no_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_encoder(tmp_path, "bert")
    found = inspect(capsys, tmp_path)
    assert (found["task"], found["kv_bytes_per_token"], found["gpu"]) == ("embed", None, None)


def test_an_encoder_runs_by_octavos_own_code_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_encoder(tmp_path, "bert")
    assert run(["inspect", str(tmp_path), "--model-impl", "transformers"]) == 3
    told = capsys.readouterr().err
    assert "--model-impl is transformers, and BertModel is an encoder" in told
    assert "Leave --model-impl out." in told
    with pytest.raises(InvalidConfigurationError, match="model_impl is transformers"):
        plan_model(EngineConfig(model=str(tmp_path), model_impl=ModelImplementation.TRANSFORMERS))


@pytest.mark.parametrize("method", ["draft_model", "eagle3"])
def test_an_encoder_guesses_no_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    make_checkpoint(tmp_path / "model")
    make_encoder(tmp_path / "encoder", "bert")
    wanted = json.dumps({"method": method, "model": str(tmp_path / "encoder")})
    assert run(["inspect", str(tmp_path / "model"), "--speculative-config", wanted]) == 3
    assert "is an encoder (BertModel), which makes no tokens" in capsys.readouterr().err


def test_what_cannot_be_served_is_told_as_by_a_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["NobodysForCausalLM"]}')
    assert run(["inspect", str(tmp_path)]) == 3
    assert "octavo: ModelUnsupported: config.json: architecture" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["nan", "0.04", "1.5"])
def test_a_share_of_a_gpu_is_told_the_limits_of_a_start(
    share: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--gpu-memory-utilization", share, "--gpu-memory", "80Gi"]
    assert run(["inspect", "builtin://demo", *flags]) == 3
    told = capsys.readouterr().err
    assert f"--gpu-memory-utilization is {share}; it must lie in [0.05, 1]." in told


def test_a_share_of_no_gpu_is_told_as_without_effect(
    capsys: pytest.CaptureFixture[str],
) -> None:
    share = ["inspect", "builtin://demo", "--gpu-memory-utilization", "0.5"]
    told = "--gpu-memory-utilization is without effect: give --gpu-memory too."
    for more, is_told in (([], True), (["--gpu-memory", "80Gi"], False)):
        assert run([*share, *more]) == 0
        assert (told in capsys.readouterr().err) is is_told


def test_headers_tell_of_a_head_that_may_be_another(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, tie_word_embeddings=False)
    headers = read_headers(
        str(tmp_path),
        ["model.safetensors"],
        lambda name, start, end: (tmp_path / name).read_bytes()[start:end],
    )
    tensors = load_file(tmp_path / "model.safetensors")
    assert {name: one.shape for name, one in headers.items()} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }
    (tmp_path / "model.safetensors").unlink()
    config = EngineConfig(model=str(tmp_path), dtype="float32")
    found = inspect_model(config, headers=headers)
    assert found.stored_bytes == sum(tensor.nbytes for tensor in tensors.values())
    assert (found.task, found.notes) == ("generate", ())
    headless = {name.removeprefix("model."): one for name, one in headers.items()}
    del headless["lm_head.weight"]
    assert inspect_model(config, headers=headless).task == "embed"
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": True}))
    (note,) = inspect_model(config, headers=headers).notes
    more = format_bytes(tensors["lm_head.weight"].nbytes)
    assert note.startswith("lm_head.weight is stored")
    assert note.endswith(f"up to {more} more.")
