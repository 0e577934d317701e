"""The host's way to the registries reaches a build, and only as a secret file."""

import stat
import subprocess
from pathlib import Path

import pytest

from images.network import ca_bundle, render_build_env, write_secrets


def sourced(fragment: str, name: str) -> str:
    """What a shell holds in `name` after it read the fragment."""
    script = f'{fragment}printf %s "${{{name}-unset}}"'
    command = ["/bin/sh", "-c", script]
    return subprocess.run(command, env={}, capture_output=True, text=True, check=True).stdout


def test_a_value_survives_the_shell_unchanged() -> None:
    address = "https://user:p'a$s\"s@pypi.example/simple?x=1&y=`id`"
    fragment = render_build_env({"UV_DEFAULT_INDEX": address}, extra={})
    assert sourced(fragment, "UV_DEFAULT_INDEX") == address


def test_only_network_settings_are_passed() -> None:
    environ = {"HF_TOKEN": "secret", "PATH": "/bin", "PIP_INDEX_URL": "https://i.example"}
    assert render_build_env(environ, extra={}) == "export PIP_INDEX_URL=https://i.example\n"


def test_a_ca_bundle_is_named_by_its_path_in_the_build(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates")
    environ = {"SSL_CERT_FILE": str(bundle)}
    assert ca_bundle(environ) == bundle
    fragment = render_build_env(environ, extra={})
    assert sourced(fragment, "SSL_CERT_FILE") == "/run/secrets/ca-bundle"
    assert sourced(fragment, "PIP_CERT") == "/run/secrets/ca-bundle"
    assert str(tmp_path) not in fragment


def test_a_host_without_a_ca_of_its_own_passes_none() -> None:
    assert ca_bundle({"SSL_CERT_FILE": "/nowhere/ca.pem"}) is None
    assert sourced(render_build_env({}, extra={}), "SSL_CERT_FILE") == "unset"


def test_the_file_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:password@i.example")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    (tmp_path / "build-env").write_text("left by an interrupted build")
    (tmp_path / "build-env").chmod(0o644)
    secrets = write_secrets(tmp_path, extra={"UV_CACHE_DIR": "/var/cache/uv"})
    assert stat.S_IMODE(secrets.build_env.stat().st_mode) == 0o600
    assert "UV_CACHE_DIR=/var/cache/uv" in secrets.build_env.read_text()
    assert secrets.by_id() == {"build-env": secrets.build_env}
