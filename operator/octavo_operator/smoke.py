"""Smoke test. What `helm test` runs: the operator answers, and the API server serves LLMDeployments to it.

It runs in a pod of its own with the operator's image and service account, so that it also meets what
stands between pods: the Service, name resolution, network policies, RBAC.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import aiohttp

from octavo_operator.kube import ApiServer, KubeError, load_configuration
from octavo_operator.manifest import LLM_DEPLOYMENT

_TIMEOUT_SECONDS = 10.0


class SmokeError(Exception):
    """Something of the installation does not work; the message says what, and where to look."""


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 when all works, 1 with a sentence when not."""
    parser = argparse.ArgumentParser(prog="octavo_operator.smoke", description=main.__doc__)
    parser.add_argument("url", help="the operator's health port, such as http://octavo:8080")
    parser.add_argument(
        "--namespace", action="append", help="a watched namespace; without, all are asked"
    )
    parser.add_argument("--kubeconfig", help="the cluster, when this runs outside of it")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_check(options.url, options.namespace or [None], options.kubeconfig))
    except SmokeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _check(url: str, namespaces: list[str | None], kubeconfig: str | None) -> None:
    await _check_health(f"{url}/readyz")
    print(f"{url}/readyz answers")
    try:
        kube = ApiServer(await load_configuration(kubeconfig), _TIMEOUT_SECONDS)
    except RuntimeError as error:
        raise SmokeError(str(error)) from error
    try:
        for namespace in namespaces:
            found = len(await kube.list(LLM_DEPLOYMENT, namespace))
            print(f"LLMDeployments in {namespace or 'all namespaces'}: {found}")
    except KubeError as error:
        raise SmokeError(
            f"cannot list LLMDeployments: {error}; 'not found' means that the definition is not "
            "installed (crds.install), 'forbidden' that a Role is missing (watchNamespaces)"
        ) from error
    finally:
        await kube.close()


async def _check_health(url: str) -> None:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            if response.status != 200:
                why = (await response.text())[:1024]
                raise SmokeError(f"{url} answered {response.status}: {why}")
    except (aiohttp.ClientError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        raise SmokeError(f"{url} does not answer ({why}); is the operator's pod ready?") from error


if __name__ == "__main__":
    raise SystemExit(main())
