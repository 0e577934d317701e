"""Models that are built in: the schema takes the names that the runtime has, and no other."""

from __future__ import annotations

from importlib import resources

from octavo_operator.api.v1alpha1.source import BUILTIN


def test_the_schema_takes_what_the_runtime_holds() -> None:
    folders = resources.files("octavo.builtin").iterdir()
    held = {each.name for each in folders if each.joinpath("config.json").is_file()}
    assert {f"builtin://{name}" for name in held} == {BUILTIN}
