"""Every section of the GPU benchmark runs on the CPU at tiny sizes, and reports what its table promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

KEYS = {
    "device": {"bandwidth_gb_per_second", "matrix_tflops"},
    "attention": {"relative_error", "gb_per_second", "bandwidth_share"},
    "few_rows": {"rows", "fused_microseconds", "apart_microseconds", "ratio"},
    "packed": {"rows", "packed_microseconds", "plain_microseconds", "ratio"},
    "adapters": {"rows", "plain_microseconds", "one_ratio", "eight_ratio"},
    "startup": {"process_seconds", "load_seconds", "total_seconds", "kv_cache_tokens"},
    "decode": {"batch", "step_ms", "output_tokens_per_second", "roofline_share"},
    "prefill": {"prompt_tokens_per_second", "mfu", "first_token_ms"},
    "overhead": {"schedule_ms", "submit_ms", "wait_ms", "gpu_idle_share"},
    "throughput": {"output_tokens_per_second", "mean_running", "preemptions"},
    "mix": {"output_tokens_per_second", "kv_waste_mean", "kv_waste_max"},
    "versus": {"load", "output_tokens_per_second"},
    "latency": {"first_token_p50_ms", "first_token_p99_ms", "inter_token_p99_ms"},
    "generate": {"baseline", "load", "output_tokens_per_second"},
    "generate_static": {"baseline", "load", "output_tokens_per_second"},
    "generate_batch": {"baseline", "load", "output_tokens_per_second"},
}


def sections_of(result: dict[str, Any], model: str) -> dict[str, Any]:
    return {
        section["section"]: section for section in result["sections"] if section["model"] == model
    }


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("smoke") / "smoke.json"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--smoke", "--out", str(out)],
        cwd=REPOSITORY,
        check=True,
        timeout=280,
    )
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.slow
def test_every_section_runs_and_reports_its_keys(result: dict[str, Any]) -> None:
    assert sections_of(result, "tiny-llama").keys() == KEYS.keys()
    for section in result["sections"]:
        name = section["section"]
        assert section["outcome"] == "done", (name, section["model"], section["error"])
        assert KEYS[name] <= {key for row in section["rows"] for key in row}, name


@pytest.mark.slow
def test_a_mixture_of_experts_is_measured_through_the_engine(result: dict[str, Any]) -> None:
    assert {"startup", "decode", "prefill", "throughput"} <= sections_of(
        result, "tiny-mixtral"
    ).keys()


@pytest.mark.slow
def test_shares_and_ratios_are_computed_from_the_run(result: dict[str, Any]) -> None:
    sections = sections_of(result, "tiny-llama")
    for row in sections["decode"]["rows"]:
        assert row["roofline_share"] == pytest.approx(row["roofline_ms"] / row["step_ms"], abs=0.01)
    errors = [row["relative_error"] for row in sections["attention"]["rows"] if len(row) == 2]
    assert len(errors) == 3
    assert max(errors) < 0.1
    assert {row["load"] for row in result["ratios"]} == {"single", "static batch", "paged"}
    assert all(row["ratio"] > 0 for row in result["ratios"])
    assert result["not_measured"] == []


@pytest.mark.slow
def test_a_smoke_run_is_marked_as_meaningless(result: dict[str, Any]) -> None:
    assert result["is_smoke"] is True
    assert "mean nothing" in result["warning"]


def test_a_smoke_run_refuses_to_write_among_the_results() -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--smoke"]
        + ["--out", "benchmarks/results/gpu.json"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert refused.returncode == 2
    assert "mean nothing" in refused.stderr
    assert not (REPOSITORY / "benchmarks/results/gpu.json").exists()
