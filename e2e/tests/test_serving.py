"""Serving. The life of one LLMDeployment: applied, asked, scaled, changed under load, orphaned, deleted."""

from __future__ import annotations

import pytest

from e2e.lib import clients
from e2e.lib.environment import Environment
from e2e.lib.explain import explain
from e2e.lib.install import OPERATOR, OPERATOR_NAMESPACE, ROOT
from e2e.lib.kubectl import Kubectl, Object
from e2e.lib.llmd import condition, is_pod_ready, is_ready, model_pods, status, wait_ready
from e2e.lib.wait import wait_for
from e2e.lib.watch import Watch
from host.errors import CommandError

DEMO = ROOT / "examples" / "demo.yaml"
NAME = "demo"
CHILDREN = "deployments,services,serviceaccounts,poddisruptionbudgets,networkpolicies"
OURS = f"octavo.dev/llmdeployment={NAME}"
SUMS = ((17, 25), (10, 90), (48, 36))


def uids(objects: list[Object]) -> dict[str, str]:
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in objects}


def ready_pods(kubectl: Kubectl) -> list[Object]:
    return [pod for pod in model_pods(kubectl, NAME) if is_pod_ready(pod)]


def wait_ready_pods(kubectl: Kubectl, count: int) -> None:
    wait_for(
        f"{count} pods, all ready, and a status that says so",
        lambda: (
            len(model_pods(kubectl, NAME)),
            len(ready_pods(kubectl)),
            status(kubectl.must_get("llmd", NAME), "readyReplicas"),
            status(kubectl.must_get("llmd", NAME), "replicas"),
        ),
        lambda seen: seen == (count,) * 4,
        timeout_seconds=120,
        explain=lambda: explain(kubectl, NAME),
    )


@pytest.fixture(scope="module")
def serving(namespace: Kubectl, client: Kubectl) -> Kubectl:
    """The namespace with the demo applied and Ready, and a client pod that can be used."""
    with Watch(namespace, "llmd") as watch:
        namespace.apply(DEMO)
        wait_ready(namespace, NAME)
        pods_when_ready = ready_pods(namespace)
    # Ready never came before a pod was ready, and never spoke about another generation.
    ready = [seen for seen in watch.seen if condition(seen, "Ready").is_true]
    assert ready, "the watch saw no Ready"
    assert len(watch.seen) > len(ready), "the watch saw no state before Ready"
    for seen in ready:
        assert status(seen, "readyReplicas") >= 1
        assert is_ready(seen)
    assert pods_when_ready
    turned = condition(ready[0], "Ready").last_transition_time
    assert any(condition(pod, "Ready").last_transition_time <= turned for pod in pods_when_ready)
    clients.await_client(client)
    return namespace


def test_the_children_are_there_and_belong_to_the_resource(serving: Kubectl) -> None:
    llmd = serving.must_get("llmd", NAME)
    children = serving.list(CHILDREN, OURS)
    assert {child["kind"] for child in children} == {
        "Deployment",
        "Service",
        "ServiceAccount",
        "PodDisruptionBudget",
        "NetworkPolicy",
    }
    for child in children:
        (owner,) = child["metadata"]["ownerReferences"]
        assert owner["uid"] == llmd["metadata"]["uid"]
        assert owner["controller"] is True


def test_the_url_answers_the_openai_client_from_another_pod(serving: Kubectl) -> None:
    url = serving.must_get("llmd", NAME)["status"]["url"]
    assert url == f"http://{NAME}.{serving.namespace}.svc:8000/v1"
    for left, right in SUMS:
        answer = clients.ask(serving, url, NAME, f"What is {left} plus {right}?")
        assert str(left + right) in answer


def test_the_printer_columns_tell_the_state(serving: Kubectl) -> None:
    head, row = serving.run("get", "llmd", NAME).strip().splitlines()
    assert head.split() == ["NAME", "MODEL", "READY", "STATUS", "QUEUE", "URL", "AGE"]
    assert row.split()[:4] == [NAME, "builtin://demo", "1/1", "Serving"]
    wide = serving.run("get", "llmd", NAME, "--output=wide").splitlines()[0]
    assert wide.split()[-2:] == ["GPUS", "REVISION"]


def test_the_network_policy_selects_the_pods_and_opens_the_openai_port_alone(
    serving: Kubectl,
) -> None:
    policy = serving.must_get("networkpolicy", NAME)["spec"]
    (pod,) = model_pods(serving, NAME)
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert "Ingress" in policy["policyTypes"]
    for rule in policy["ingress"]:
        ports = {port["port"] for port in rule["ports"]}
        if ports & {8001, "ops"}:
            assert rule["from"], "the ops port is open to everybody"


def test_the_ops_port_is_closed_to_other_pods(serving: Kubectl, environment: Environment) -> None:
    if not environment.cluster.enforces_network_policy:
        pytest.skip(
            "this cluster's network enforces no NetworkPolicy: only what it selects is tested"
        )
    (pod,) = model_pods(serving, NAME)
    reach = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    command = ("exec", clients.CLIENT, "--", "python", "-c", reach, pod["status"]["podIP"])
    serving.run(*command, "8000")
    with pytest.raises(CommandError, match=r"timed out|refused"):
        serving.run(*command, "8001")


def test_the_operator_reaches_the_ops_port_and_reads_the_start_there(serving: Kubectl) -> None:
    """Through the policies of both, where the network enforces them."""
    (pod,) = model_pods(serving, NAME)
    ask = (
        "import sys, urllib.request; from octavo_operator.ops_port import startupz_url; "
        "from octavo_operator.startups import StartupReport; "
        "answer = urllib.request.urlopen(startupz_url(sys.argv[1]), timeout=10).read(); "
        "report = StartupReport.model_validate_json(answer); "
        "print(report.started, *(each.name for each in report.phases))"
    )
    command = ("exec", f"deployment/{OPERATOR}", "--", "python", "-c", ask)
    answer = serving.within(OPERATOR_NAMESPACE).run(*command, pod["status"]["podIP"])
    started, *phases = answer.split()
    assert started == "True"
    assert {"resolve", "load"} <= set(phases)


def test_kubectl_scale_moves_the_pods(serving: Kubectl) -> None:
    serving.merge_patch("llmd", NAME, {"spec": {"autoscaling": None}})
    before = uids(model_pods(serving, NAME))
    serving.run("scale", f"llmd/{NAME}", "--replicas=3")
    wait_ready_pods(serving, 3)
    assert before.items() <= uids(model_pods(serving, NAME)).items(), "a running pod was replaced"
    serving.merge_patch("llmd", NAME, {"spec": {"replicas": 2}})
    wait_ready_pods(serving, 2)
    wait_ready(serving, NAME)


def test_a_changed_engine_rolls_out_without_a_failed_request(serving: Kubectl) -> None:
    llmd = serving.must_get("llmd", NAME)
    before = uids(model_pods(serving, NAME))
    load = clients.Load(
        serving, llmd["status"]["url"], NAME, concurrency=4, max_tokens=32, seconds=300
    )
    try:
        # Its own draft: every guess of it is right, and the answers are as before.
        draft = {"method": "draft_model", "model": {"uri": "builtin://demo"}}
        slots = llmd["spec"]["engine"].get("maxNumSeqs", 8) + 1
        engine = {"maxNumSeqs": slots, "speculative": draft}
        with Watch(serving, "llmd") as watch:
            serving.merge_patch("llmd", NAME, {"spec": {"engine": engine}})
            wait_ready(serving, NAME, timeout_seconds=180)
            wait_ready_pods(serving, 2)
        result = load.stop()
    finally:
        load.kill()
    print(f"during the rollout: {result}")
    assert not before.keys() & uids(model_pods(serving, NAME)).keys(), "an old pod is still there"
    assert (result.failed, result.refused, result.errors) == (0, 0, [])
    assert result.ok > 20, "the load was too thin to prove anything"
    left, right = SUMS[0]
    answer = clients.ask(serving, llmd["status"]["url"], NAME, f"What is {left} plus {right}?")
    assert str(left + right) in answer
    loaded = condition(serving.must_get("llmd", NAME), "ModelAvailable").message
    assert loaded.endswith("builtin://demo guesses for it")
    # While only old pods answered, the status did not claim that the new generation is served.
    generation = serving.must_get("llmd", NAME)["metadata"]["generation"]
    for seen in watch.seen:
        if is_ready(seen) and seen["metadata"]["generation"] == generation:
            assert status(seen, "updatedReplicas") >= 1


def test_a_restarted_operator_restarts_nothing(serving: Kubectl) -> None:
    def restarts() -> list[int]:
        pods = model_pods(serving, NAME)
        return [c["restartCount"] for pod in pods for c in pod["status"]["containerStatuses"]]

    def generations() -> dict[str, int]:
        children = serving.list(CHILDREN, OURS)
        return {child["kind"]: child["metadata"].get("generation", 0) for child in children}

    before = (uids(model_pods(serving, NAME)), restarts(), generations())
    operator = serving.within(OPERATOR_NAMESPACE)
    component = "app.kubernetes.io/component=operator"
    old = uids(operator.list("pods", component))
    operator.run("delete", "pods", f"--selector={component}", "--wait=true")
    operator.run("rollout", "status", f"deployment/{OPERATOR}", "--timeout=90s")
    assert not old.keys() & uids(operator.list("pods", component)).keys()
    # A change that touches no child shows that the new operator has reconciled.
    serving.merge_patch("llmd", NAME, {"spec": {"rollout": {"strategy": "RollingUpdate"}}})
    wait_ready(serving, NAME)
    assert (uids(model_pods(serving, NAME)), restarts(), generations()) == before


def test_deleting_leaves_nothing(serving: Kubectl) -> None:
    serving.delete("llmd", NAME, "--wait=true")
    wait_for(
        "everything of the model to be gone",
        lambda: serving.list(f"{CHILDREN},pods,replicasets,persistentvolumeclaims", OURS),
        lambda left: left == [],
        timeout_seconds=90,
        explain=lambda: explain(serving, NAME),
    )
