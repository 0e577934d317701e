"""Recovery: the seconds that the page promises are those of the code and of the chart."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from octavo.server.process.options import ServeOptions
from octavo.server.process.run import ENGINE_EXIT_SECONDS
from octavo_operator.endpoints import PROPAGATION_SECONDS
from octavo_operator.pods import SETUP_PATIENCE_SECONDS
from octavo_operator.render.pod import pod_template
from octavo_operator.retries import PATIENCE_SECONDS as RETRY_PATIENCE_SECONDS
from octavo_operator.settings import Settings
from octavo_operator.status import LOSS_PATIENCE_SECONDS
from octavo_operator.workqueue import FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS
from tests.support.operator.builders import pod_context

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "docs/reference/recovery.md").read_text(encoding="utf-8").split())


def promised(pattern: str) -> float:
    """The one number that the page has at this place."""
    (found,) = re.findall(pattern, PAGE)
    return float(found)


def default(setting: str) -> float:
    return float(Settings.model_fields[setting].default)


def test_patience_is_the_operator_s() -> None:
    assert promised(r"missing for (\d+) s, `Degraded`") == LOSS_PATIENCE_SECONDS
    assert promised(r"\| (\d+) s later \| `Degraded`") == LOSS_PATIENCE_SECONDS
    assert promised(r"an alarm when it lasts for (\d+) s") == RETRY_PATIENCE_SECONDS
    assert promised(r"cannot set up is told after (\d+) s") == SETUP_PATIENCE_SECONDS
    assert promised(r"not the pods after (\d+) s") == PROPAGATION_SECONDS
    assert (FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS) == (0.5, 60)
    assert "after half a second to a minute" in PAGE


def test_intervals_are_the_operator_s_settings() -> None:
    assert promised(r"looks at everything anew every (\d+) min") * 60 == default("resync_seconds")
    assert promised(r"samples of the last (\d+) s") == default("metrics_max_age_seconds")
    assert promised(r"read each (\d+) s") == default("autoscale_interval_seconds")


def test_an_engine_that_hangs_is_given_up_as_its_probes_say() -> None:
    (serving,) = pod_template(pod_context())["spec"]["containers"]
    liveness = serving["livenessProbe"]
    fails_after = ServeOptions.__dataclass_fields__["stall_timeout_seconds"].default
    assert promised(r"`/livez` fails after (\d+) s without") == fails_after
    probed = liveness["periodSeconds"] * liveness["failureThreshold"]
    assert promised(r"after (\d+) s more the kubelet") == probed
    assert promised(r"the engine is killed after (\d+) s") == ENGINE_EXIT_SECONDS
    drain = pod_context().spec.rollout.drain_timeout
    assert promised(r"`rollout.drainTimeout` \((\d+) minutes\)") == float(drain.removesuffix("m"))


def test_the_operator_s_own_times_are_the_chart_s() -> None:
    values = yaml.safe_load((ROOT / "charts/octavo/values.yaml").read_text(encoding="utf-8"))
    (seconds,) = {each["tolerationSeconds"] for each in values["tolerations"]}
    assert promised(r"(\d+) s of the chart's tolerations") == seconds
    template = (ROOT / "charts/octavo/templates/deployment.yaml").read_text(encoding="utf-8")
    liveness = template.partition("livenessProbe:")[2].partition("readinessProbe:")[0]
    period, failures = (
        int(re.findall(rf"{name}: (\d+)", liveness)[0])
        for name in ("periodSeconds", "failureThreshold")
    )
    assert promised(r"`/livez` fails for (\d+) s, it has") == period * failures
    grace = re.findall(r"terminationGracePeriodSeconds: (\d+)", template)
    assert [promised(r"it has (\d+) s to end")] == [float(each) for each in grace]
    # The Lease's duration and one more look; a test of the operator measures it.
    assert default("lease_duration_seconds") < promised(r"the (\d+) s of its Lease")
