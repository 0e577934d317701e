"""What a reader is told first: what is missing; and ratios only where both sides were measured."""

from __future__ import annotations

from benchmarks.gpu.report import attention_ratios, not_measured, ratios, to_json
from benchmarks.gpu.results import Outcome, Row, SectionReport


def report(
    section: str, rows: list[Row] | None = None, outcome: Outcome = Outcome.DONE, error: str = ""
) -> SectionReport:
    return SectionReport(section, "llama", outcome, rows=rows or [], error=error or None)


def test_everything_that_did_not_run_to_its_end_is_named_with_its_reason() -> None:
    skipped = report("mix", outcome=Outcome.SKIPPED)
    skipped.notes.append("the run's time was up")
    reports = [report("decode"), skipped, report("latency", outcome=Outcome.FAILED, error="no")]
    assert not_measured(reports) == [
        "mix of llama: skipped; the run's time was up",
        "latency of llama: failed; no",
    ]
    keys = list(to_json(reports, is_smoke=True, seconds=1.0))
    assert keys.index("not_measured") < keys.index("sections")


def test_a_baseline_without_octavos_run_of_the_same_load_has_no_ratio() -> None:
    ours = [{"load": "single", "output_tokens_per_second": 300.0}]
    theirs = [
        {"baseline": "eager", "load": "single", "output_tokens_per_second": 100.0},
        {"baseline": "eager", "load": "paged", "output_tokens_per_second": 100.0},
    ]
    rows = ratios([report("versus", ours), report("generate", theirs)])
    assert [(row["load"], row["ratio"]) for row in rows] == [("single", 3.0), ("paged", None)]


def test_flashinfer_is_held_against_the_same_points() -> None:
    def point(batch: int, microseconds: float) -> Row:
        return {"shape": "s", "batch": batch, "context": 1, "microseconds": microseconds}

    ours = [{"shape": "s", "relative_error": 0.0}, point(1, 10.0), point(8, 20.0)]
    found = attention_ratios(
        [report("attention", ours), report("flashinfer_decode", [point(8, 30.0)])]
    )
    assert found == [{"shape": "s", "batch": 8, "context": 1, "ratio": 1.5}]
