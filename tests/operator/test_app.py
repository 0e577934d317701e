"""What the log and the metrics tell of passes that fail."""

from __future__ import annotations

import pytest
import structlog

from octavo_operator import metrics
from octavo_operator.app import _log_failure
from octavo_operator.kube import KubeError
from octavo_operator.workqueue import backoff_seconds
from tests.support.operator.builders import KEY


@pytest.mark.parametrize(
    ("status", "failures", "level"),
    [(409, 1, "info"), (409, 4, "info"), (409, 5, "error"), (503, 1, "error")],
)
def test_a_race_that_is_lost_again_and_again_is_a_failure(
    status: int, failures: int, level: str
) -> None:
    """A webhook that answers with a conflict. A true race is won the next time."""
    before = metrics.RECONCILE_ERRORS._value.get()
    with structlog.testing.capture_logs() as told:
        for jitter in (0.0, 0.99):
            error = KubeError(status, "", "denied")
            _log_failure(KEY, error, backoff_seconds(failures, jitter))
    assert {each["log_level"] for each in told} == {level}
    assert metrics.RECONCILE_ERRORS._value.get() - before == (2 if level == "error" else 0)
