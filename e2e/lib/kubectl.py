"""kubectl against one cluster. What it prints is what a user would type; what it returns is parsed JSON.

Not the `kubernetes` client: the demo shows these very commands, and a test sees what a user would see.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from host.errors import CommandError, readable
from host.process import run

Object: TypeAlias = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Kubectl:
    """One cluster, and the namespace that calls go to unless they name another.

    `binary` is kubectl itself.
    """

    binary: str
    kubeconfig: Path
    namespace: str | None = None

    def within(self, namespace: str) -> Kubectl:
        return dataclasses.replace(self, namespace=namespace)

    def command(self, *args: str) -> list[str]:
        """The whole argument list."""
        command = [self.binary, f"--kubeconfig={self.kubeconfig}"]
        if self.namespace is not None:
            command.append(f"--namespace={self.namespace}")
        return [*command, *args]

    def typed(self, *args: str) -> str:
        """The command as a user types it whose kubeconfig already points at the cluster."""
        where = ["-n", self.namespace] if self.namespace not in (None, "default") else []
        return readable(["kubectl", *where, *args])

    def run(self, *args: str, stdin: str | None = None, timeout_seconds: float = 120) -> str:
        return run(self.command(*args), stdin=stdin, timeout_seconds=timeout_seconds)

    def get(self, kind: str, name: str) -> Object | None:
        """The object, or None where there is none."""
        found = self.run("get", kind, name, "--ignore-not-found", "--output=json")
        return json.loads(found) if found.strip() else None

    def must_get(self, kind: str, name: str) -> Object:
        found = self.get(kind, name)
        if found is None:
            raise LookupError(f"no {kind} named {name!r} in namespace {self.namespace}")
        return found

    def list(self, kinds: str, selector: str | None = None) -> list[Object]:
        """All objects of one kind, or of several with a comma between them."""
        chosen = [f"--selector={selector}"] if selector else []
        items: list[Object] = json.loads(self.run("get", kinds, *chosen, "--output=json"))["items"]
        return items

    def apply(self, *manifests: Object | str | Path, flags: Sequence[str] = ()) -> str:
        """`kubectl apply` of objects, YAML text or files, in one call."""
        documents = [_as_yaml(manifest) for manifest in manifests]
        return self.run("apply", "--filename=-", *flags, stdin="\n---\n".join(documents))

    def delete(self, kind: str, name: str, *flags: str, timeout_seconds: float = 120) -> str:
        return self.run(
            "delete", kind, name, "--ignore-not-found", *flags, timeout_seconds=timeout_seconds
        )

    def merge_patch(self, kind: str, name: str, patch: Object, *flags: str) -> str:
        return self.run("patch", kind, name, "--type=merge", f"--patch={json.dumps(patch)}", *flags)

    def refusal(self, manifest: Object | str) -> str:
        """What the API server says when it refuses the manifest; raises AssertionError if it accepts."""
        try:
            self.apply(manifest)
        except CommandError as refused:
            return refused.answer
        raise AssertionError(f"the API server accepted {_as_yaml(manifest)}")

    def popen(self, *args: str, stderr: int = subprocess.STDOUT) -> subprocess.Popen[str]:
        """A command that goes on, with its input and output open to the caller."""
        return subprocess.Popen(
            self.command(*args),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            bufsize=1,
        )


def _as_yaml(manifest: Object | str | Path) -> str:
    if isinstance(manifest, Path):
        return manifest.read_text()
    return manifest if isinstance(manifest, str) else json.dumps(manifest)
