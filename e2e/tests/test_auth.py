"""Authentication. The keys of a Secret open the OpenAI port, and are rotated under pods that run, as the page
on rotation tells it."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable

import pytest

from e2e.lib import clients
from e2e.lib.explain import explain
from e2e.lib.kubectl import Kubectl, Object
from e2e.lib.llmd import condition, model_pods, wait_ready
from e2e.lib.wait import wait_for

NAME = "guarded"
KEYLESS = "keyless"
SECRET = "llama-keys"
QUESTION = "What is 17 plus 25?"
# The kubelets are made to look, which takes seconds; by themselves they do within two minutes.
SPREAD_SECONDS = 120


def llmd(name: str, reference: Object, replicas: int) -> Object:
    return {
        "apiVersion": "octavo.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": "builtin://demo"},
            "replicas": replicas,
            "resources": {"cpu": "100m"},
            "auth": {"secretRef": reference},
        },
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Guarded:
    """A model behind a key, and a client pod that can be used."""

    kubectl: Kubectl
    url: str
    key: str

    def pods(self) -> list[Object]:
        return model_pods(self.kubectl, NAME)

    def lives(self) -> dict[str, list[int]]:
        """How often the containers of each pod started anew."""
        return {
            pod["metadata"]["uid"]: [c["restartCount"] for c in pod["status"]["containerStatuses"]]
            for pod in self.pods()
        }

    def statuses(self, key: str) -> list[int]:
        """What each pod itself answers to this key."""
        urls = [f"http://{pod['status']['podIP']}:8000/v1" for pod in self.pods()]
        return clients.knock(self.kubectl, key, *urls)

    def give(self, *keys: str) -> None:
        patch = {"stringData": {"api-key": " ".join(keys)}}
        self.kubectl.merge_patch("secret", SECRET, patch)

    def await_statuses(self, key: str, status: int) -> None:
        """Until every pod answers so. A changed annotation makes the kubelet look at the Secret, but it may
        look a moment before it learns of the change."""

        def look() -> list[int]:
            mark = f"example.com/keys={time.monotonic()}"
            chosen = f"--selector=octavo.dev/llmdeployment={NAME}"
            self.kubectl.run("annotate", "pods", chosen, "--overwrite", mark)
            return self.statuses(key)

        start = time.monotonic()
        wait_for(
            f"{status} from every pod",
            look,
            lambda seen: seen == [status] * len(self.pods()),
            timeout_seconds=SPREAD_SECONDS,
            interval_seconds=1,
            explain=lambda: explain(self.kubectl, NAME),
        )
        print(f"{status} from every pod after {time.monotonic() - start:.1f} s")


@pytest.fixture(scope="module")
def guarded(namespace: Kubectl, client: Kubectl) -> Guarded:
    key = secrets.token_hex(16)
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET},
            "stringData": {"api-key": key},
        },
        llmd(NAME, {"name": SECRET}, replicas=2),
        llmd(KEYLESS, {"name": SECRET, "key": "absent"}, replicas=1),
    )
    url = wait_ready(namespace, NAME)["status"]["url"]
    clients.await_client(client)
    return Guarded(namespace, url, key)


def test_the_port_opens_to_the_key_of_the_secret_alone(guarded: Guarded) -> None:
    assert clients.knock(guarded.kubectl, None, guarded.url) == [401]
    assert guarded.statuses(f"{guarded.key}x") == [401, 401]
    assert guarded.statuses(guarded.key) == [200, 200]
    answer = clients.ask(guarded.kubectl, guarded.url, NAME, QUESTION, guarded.key)
    assert "42" in answer


def test_keys_are_rotated_without_a_restart_and_without_a_refused_request(guarded: Guarded) -> None:
    before, new = guarded.lives(), secrets.token_hex(16)
    revision = guarded.kubectl.must_get("llmd", NAME)["status"]["revision"]

    def under_load(key: str, change: Callable[[], None]) -> None:
        """Clients with this key never meet a refusal while it happens."""
        load = clients.Load(
            guarded.kubectl, guarded.url, NAME, concurrency=4, max_tokens=4, seconds=300, key=key
        )
        try:
            change()
            result = load.stop()
        finally:
            load.kill()
        print(result)
        assert (result.failed, result.refused, result.errors) == (0, 0, [])
        assert result.ok > 10, "the load was too thin to prove anything"

    def add() -> None:
        guarded.give(guarded.key, new)
        guarded.await_statuses(new, 200)

    def remove() -> None:
        guarded.give(new)
        guarded.await_statuses(guarded.key, 401)

    under_load(guarded.key, add)
    under_load(new, remove)
    assert guarded.statuses(new) == [200, 200]
    assert guarded.lives() == before
    assert guarded.kubectl.must_get("llmd", NAME)["status"]["revision"] == revision
    for pod in guarded.pods():
        log = guarded.kubectl.run("logs", pod["metadata"]["name"])
        assert "API keys changed" in log
        assert guarded.key not in log
        assert new not in log


def test_a_key_that_the_secret_lacks_is_named(guarded: Guarded) -> None:
    seen = wait_for(
        "SecretNotFound",
        lambda: condition(guarded.kubectl.must_get("llmd", KEYLESS), "Degraded"),
        lambda degraded: degraded.is_true and degraded.reason == "SecretNotFound",
        timeout_seconds=60,
        explain=lambda: explain(guarded.kubectl, KEYLESS),
    )
    assert f"Secret {SECRET} with its key absent" in seen.message
