"""Forms of an earlier release: what runs in one keeps it, until something else in its pods changes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from octavo_operator.autoscale.controller import Autoscaler
from octavo_operator.manifest import DEPLOYMENT, LLM_DEPLOYMENT, Manifest
from octavo_operator.pods import PodView, view
from octavo_operator.reconcile import Reconciler
from octavo_operator.render import Installation, RenderContext, Replacement
from octavo_operator.render.api_keys import in_environment
from octavo_operator.render.download_progress import in_silence, with_port_twice
from octavo_operator.render.listening import on_version_4
from octavo_operator.render.pod import pod_template
from octavo_operator.workload import in_force, workload_of
from tests.support.operator.builders import (
    INSTALLATION,
    KEY,
    NOW,
    pod,
    pod_context,
    resource,
)
from tests.support.operator.fake_kube import FakeKube

AUTH: dict[str, Any] = {"secretRef": {"name": "keys"}}


class World:
    """A model that the first release serves, and an operator of today."""

    def __init__(self, **fields: Any) -> None:
        self.kube = FakeKube()
        self.kube.put(LLM_DEPLOYMENT, resource(**fields))
        earlier = in_environment(pod_context(**fields))
        assert earlier is not None
        context = RenderContext(earlier, 1, Replacement("RollingUpdate"))
        self.kube.put(DEPLOYMENT, workload_of(earlier.spec).children(context)[-1].manifest)
        self.kube.run_pods(KEY.namespace, KEY.name)

    def reconcile(self, installation: Installation = INSTALLATION) -> None:
        autoscaler = Autoscaler(is_configured=True, snapshot_max_age_seconds=60)
        reconciler = Reconciler(
            self.kube,
            installation,
            autoscaler,
            instance="test",
            wall_clock=lambda: NOW,
            steady_clock=lambda: 0.0,
        )
        asyncio.run(reconciler.reconcile(KEY))

    def edit(self, **fields: Any) -> None:
        live = self.kube.live(LLM_DEPLOYMENT, KEY.namespace, KEY.name)
        self.kube.put(LLM_DEPLOYMENT, {**live, "spec": {**live["spec"], **fields}})

    @property
    def deployment(self) -> Manifest:
        return self.kube.live(DEPLOYMENT, KEY.namespace, KEY.name)

    @property
    def ready(self) -> tuple[str, str]:
        status = self.kube.live(LLM_DEPLOYMENT, KEY.namespace, KEY.name)["status"]
        (ready,) = [each for each in status["conditions"] if each["type"] == "Ready"]
        return ready["status"], ready["message"]


def test_an_upgrade_restarts_no_pod_that_has_its_key_by_the_environment_and_says_what_that_means() -> (
    None
):
    world = World(auth=AUTH)
    template = world.deployment["spec"]["template"]
    world.reconcile()
    world.edit(replicas=3)
    world.reconcile()
    assert world.deployment["spec"]["template"] == template
    assert world.deployment["spec"]["replicas"] == 3
    world.edit(replicas=1)
    world.reconcile()
    status, message = world.ready
    assert status == "True"
    assert "the API key is that of each pod's start" in message


@pytest.mark.parametrize("auth", [None, {"keysFrom": {"secretRef": {"name": "keys"}}}])
def test_an_upgrade_restarts_no_pod_whose_download_was_silent(auth: dict[str, Any] | None) -> None:
    fields = {"model": {"uri": "hf://org/name"}} | ({"auth": auth} if auth else {})
    pods = pod_context(**fields)
    earlier = in_silence(pods)
    assert earlier is not None
    workload = workload_of(pods.spec)
    assert workload.revision(earlier) != workload.revision(pods)
    context = RenderContext(earlier, 1, Replacement("RollingUpdate"))
    live = workload.children(context)[-1].manifest
    assert in_force(workload, pods, live) == earlier
    other = pod_context(**fields, engine={"maxNumSeqs": 8})
    assert in_force(workload, other, live) == other
    assert in_silence(pod_context()) is None


@pytest.mark.parametrize("addresses", [[], ["10.0.0.1"], ["fd00::1"]])
def test_an_upgrade_restarts_no_pod_whose_download_declares_the_port_too(
    addresses: list[str],
) -> None:
    pods = pod_context(model={"uri": "hf://org/name"})
    earlier = with_port_twice(pods)
    assert earlier is not None
    workload = workload_of(pods.spec)
    live = workload.children(RenderContext(earlier, 1, Replacement("RollingUpdate")))[-1].manifest
    (fetching,) = live["spec"]["template"]["spec"]["initContainers"]
    assert fetching["ports"] == [{"name": "fetch-ops", "containerPort": 8001, "protocol": "TCP"}]
    ips = [{"ip": each} for each in addresses]
    existing = [view({**pod(), "status": {"podIPs": ips}}, "nvidia.com/gpu", NOW)]
    assert in_force(workload, pods, live, existing) == earlier
    assert with_port_twice(pod_context()) is None


@pytest.mark.parametrize("uri", ["builtin://demo", "hf://org/name"])
def test_an_upgrade_restarts_no_pod_that_listens_on_version_4_unless_nobody_reaches_it_there(
    uri: str,
) -> None:
    pods = pod_context(model={"uri": uri})
    earlier = on_version_4(pods)
    workload = workload_of(pods.spec)
    context = RenderContext(earlier, 1, Replacement("RollingUpdate"))
    live = workload.children(context)[-1].manifest
    serving, download = (str(live["spec"]["template"]["spec"]), str(pod_template(pods)["spec"]))
    assert "0.0.0.0" in serving and "0.0.0.0" not in download  # noqa: S104, PT018

    def running(*addresses: str) -> PodView:
        ips = [{"ip": each} for each in addresses]
        return view({**pod(), "status": {"podIPs": ips}}, "nvidia.com/gpu", NOW)

    for existing in ([], [running()], [running("10.0.0.1")], [running("fd00::1", "10.0.0.1")]):
        assert in_force(workload, pods, live, existing) == earlier
    assert in_force(workload, pods, live, [running(), running("fd00::1")]) == pods


@pytest.mark.parametrize("is_image", [False, True])
def test_what_starts_the_pods_anew_brings_them_today_s_form(is_image: bool) -> None:
    world = World(auth=AUTH)
    if not is_image:
        world.edit(engine={"maxNumSeqs": 8})
    world.reconcile(replace(INSTALLATION, runtime_image="other:2") if is_image else INSTALLATION)
    (container,) = world.deployment["spec"]["template"]["spec"]["containers"]
    assert "--api-key-file" in container["args"]
    assert "OCTAVO_API_KEY" not in str(container["env"])


@pytest.mark.parametrize("auth", [None, AUTH, {"keysFrom": {"secretRef": {"name": "keys"}}}])
def test_what_is_new_or_runs_in_today_s_form_is_rendered_in_it(auth: dict[str, Any] | None) -> None:
    pods = pod_context(auth=auth) if auth else pod_context()
    workload = workload_of(pods.spec)
    live = workload.children(RenderContext(pods, 1, Replacement("RollingUpdate")))[-1].manifest
    assert in_force(workload, pods, None) == pods
    assert in_force(workload, pods, live) == pods
