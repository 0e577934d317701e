"""Story that the demo tells, scene by scene. Each scene prints the commands that it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from e2e.demo import show
from e2e.lib import clients
from e2e.lib.explain import explain
from e2e.lib.install import (
    OPERATOR,
    OPERATOR_NAMESPACE,
    ROOT,
    Helm,
    Images,
    restricted_namespace,
    upgrade_arguments,
)
from e2e.lib.kubectl import Kubectl, Object
from e2e.lib.llmd import status, wait_ready
from e2e.lib.wait import wait_for
from host.errors import CommandError

MODEL = "demo"
MANIFEST = ROOT / "examples" / "demo.yaml"
QUESTION = "What is 17 plus 25?"
CONCURRENCY = 48
TOKENS_PER_ANSWER = 64
LONGEST_LOAD_SECONDS = 120


def install(kubectl: Kubectl, helm: Helm, images: Images, prometheus_url: str) -> None:
    """The operator, in a namespace that enforces the restricted Pod Security Standard."""
    show.heading(f"The operator, into namespace {OPERATOR_NAMESPACE}")
    show.typed(f"kubectl create namespace {OPERATOR_NAMESPACE}")
    show.typed(
        f"kubectl label namespace {OPERATOR_NAMESPACE} pod-security.kubernetes.io/enforce=restricted"
    )
    kubectl.apply(restricted_namespace(OPERATOR_NAMESPACE))
    arguments = upgrade_arguments(images, prometheus_url)
    show.typed(helm.typed(*(_short(word) for word in arguments)))
    helm.run(*arguments)
    pods = ("get", "pods")
    operator = kubectl.within(OPERATOR_NAMESPACE)
    show.typed(operator.typed(*pods))
    show.say(operator.run(*pods).rstrip())


def serve(kubectl: Kubectl) -> Object:
    """The LLMDeployment, until it is Ready."""
    show.heading("A model: one kubectl apply")
    file = _short(str(MANIFEST))
    show.typed(f"cat {file}")
    show.say(MANIFEST.read_text().rstrip())
    show.typed(kubectl.typed("apply", "-f", file))
    show.say(kubectl.run("apply", f"--filename={MANIFEST}").rstrip())
    with show.watching(kubectl, "llmd", MODEL):
        ready = wait_ready(kubectl, MODEL, timeout_seconds=240)
    children = "deployment,service,serviceaccount,poddisruptionbudget,networkpolicy,pods"
    get = ("get", children, f"--selector=octavo.dev/llmdeployment={MODEL}", "--output=name")
    show.typed(kubectl.typed(*get))
    show.say(kubectl.run(*get).rstrip())
    return ready


def ask(kubectl: Kubectl, url: str) -> None:
    """A question through the Service, from a pod, with the `openai` client; the answer as it streams."""
    show.heading("A question, with the openai client, from a pod")
    clients.await_client(kubectl)
    script = _short(str(clients.ASK))
    show.typed(
        kubectl.typed("exec", "-i", clients.CLIENT, "--", "python", "-", url, MODEL, QUESTION)
        + f" < {script}"
    )
    show.say(f"> {QUESTION}")
    command = ("exec", "-i", clients.CLIENT, "--", "python", "-", url, MODEL, QUESTION)
    process = kubectl.popen(*command)
    if process.stdin is not None:
        process.stdin.write(clients.ASK.read_text())
        process.stdin.close()
    while process.stdout is not None and (piece := process.stdout.read(1)):
        sys.stdout.write(piece)
        sys.stdout.flush()
    if process.wait(timeout=30) != 0:
        raise CommandError(command, "the question was not answered: see above")


def burst(kubectl: Kubectl, url: str) -> None:
    """Load until the replicas have grown; then none, until they have shrunk."""
    show.heading(f"A burst of load: {CONCURRENCY} requests at once")
    numbers = f"{CONCURRENCY} {LONGEST_LOAD_SECONDS} {TOKENS_PER_ANSWER}"
    script = _short(str(clients.LOAD))
    show.say("# the queue grows, and the replicas with it")
    show.typed(
        kubectl.typed("exec", "-i", clients.CLIENT, "--", "python", "-c")
        + f' "$(cat {script})" {url} {MODEL} {numbers} &'
    )
    spec = kubectl.must_get("llmd", MODEL)["spec"]["autoscaling"]
    load = clients.Load(
        kubectl,
        url,
        MODEL,
        concurrency=CONCURRENCY,
        max_tokens=TOKENS_PER_ANSWER,
        seconds=LONGEST_LOAD_SECONDS,
    )
    try:
        with show.watching(kubectl, "llmd", MODEL):
            _wait_replicas(kubectl, "the replicas to grow", lambda n: n == spec["maxReplicas"])
        result = load.stop()
    finally:
        load.kill()
    show.say(
        f"# {result.ok} requests answered, {result.failed} failed, {result.refused} refused (429), "
        f"{result.tokens} tokens"
    )
    for error in result.errors:
        show.say(f"#   {error}")
    show.heading("The load is over: the replicas shrink")
    with show.watching(kubectl, "llmd", MODEL):
        _wait_replicas(kubectl, "the replicas to shrink", lambda n: n == spec["minReplicas"])
    if result.failed:
        raise CommandError(["load"], f"{result.failed} requests failed")


def look_around(kubectl: Kubectl, bring_up: str, take_down: str) -> None:
    """What one can do next."""
    show.heading("It is yours: look around")
    model = kubectl.typed
    show.say(
        f"""{bring_up}
{model("get", "llmd", "-o", "wide")}
{model("describe", "llmd", MODEL)}
{model("port-forward", f"service/{MODEL}", "8000")}    # then: http://localhost:8000/v1
{model("patch", "llmd", MODEL, "--type=merge", '--patch={"spec": {"autoscaling": null}}')}
{model("scale", f"llmd/{MODEL}", "--replicas=2")}
{model("explain", "llmd.spec")}
kubectl -n {OPERATOR_NAMESPACE} logs deployment/{OPERATOR}

and take it down again:
{model("delete", "-f", _short(str(MANIFEST)))}
{take_down}"""
    )


def explain_failure(kubectl: Kubectl) -> str:
    """Conditions, Events and logs of what the demo made."""
    return explain(kubectl, MODEL, OPERATOR_NAMESPACE)


def _wait_replicas(kubectl: Kubectl, what: str, right: Callable[[int], bool]) -> None:
    wait_for(
        what,
        lambda: kubectl.must_get("llmd", MODEL),
        lambda llmd: right(status(llmd, "readyReplicas")) and right(status(llmd, "replicas")),
        timeout_seconds=LONGEST_LOAD_SECONDS,
        explain=lambda: explain_failure(kubectl),
    )


def _short(path: str) -> str:
    """A path below the repository, as one types it from its root."""
    root = f"{ROOT}{'/' if not path.endswith('/') else ''}"
    return str(Path(path.removeprefix(root))) if path.startswith(root) else path
