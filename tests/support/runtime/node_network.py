"""Network of two nodes, as namespaces: the tests' own, and one at the other end of a virtual cable."""

from __future__ import annotations

import os
import subprocess
from typing import Self

import pytest


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


class NodeNetwork:
    """`here` and `there` are the addresses. Use it in a `with` block; skips where none can be made."""

    def __init__(self) -> None:
        tag = f"{os.getpid() % 10**6}"
        self.name = f"octavo{tag}"
        self._cable, self._end = f"ov{tag}a", f"ov{tag}b"
        # Of this process, so that copies side by side are not in each other's network.
        net = f"10.{64 + os.getpid() // 256 % 64}.{os.getpid() % 256}"
        self.here, self.there = f"{net}.1", f"{net}.2"

    def there_command(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def cut(self) -> None:
        """The cable is out: nothing arrives, and nobody is told."""
        _run("ip", "link", "set", self._cable, "down")

    def __enter__(self) -> Self:
        inside = ("ip", "-n", self.name)
        for command in (
            ("ip", "netns", "add", self.name),
            ("ip", "link", "add", self._cable, "type", "veth", "peer", "name", self._end),
            ("ip", "link", "set", self._end, "netns", self.name),
            ("ip", "addr", "add", f"{self.here}/24", "dev", self._cable),
            ("ip", "link", "set", self._cable, "up"),
            (*inside, "addr", "add", f"{self.there}/24", "dev", self._end),
            (*inside, "link", "set", self._end, "up"),
            (*inside, "link", "set", "lo", "up"),
        ):
            try:
                done = _run(*command)
                why = done.stderr.strip() if done.returncode else ""
            except FileNotFoundError:
                why = "there is no ip (iproute2)"
            if why:
                self.__exit__()
                pytest.skip(f"no network namespaces here: {' '.join(command)}: {why}")
        return self

    def __exit__(self, *_: object) -> None:
        for command in (("link", "del", self._cable), ("netns", "del", self.name)):
            try:
                _run("ip", *command)
            except FileNotFoundError:
                return
