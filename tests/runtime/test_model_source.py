"""Names of models: each says where its folder is, or is refused."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from octavo.errors import ModelNotFoundError
from octavo.model_source import (
    BucketModel,
    BuiltinModel,
    HubModel,
    LocalModel,
    default_served_name,
    described,
    parse,
    resolve,
)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("builtin://demo", "demo"),
        ("hf://org/name@v1.0", "org/name"),
        ("org/name", "org/name"),
        ("/models/x", "/models/x"),
        ("s3://my-bucket/models/llama", "s3://my-bucket/models/llama"),
    ],
)
def test_clients_call_a_model_by_its_name_without_scheme_and_revision(
    model: str, name: str
) -> None:
    assert default_served_name(model) == name


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("builtin://demo", BuiltinModel("demo")),
        ("hf://org/name", HubModel("org/name", None)),
        ("hf://org/name@v1.0", HubModel("org/name", "v1.0")),
        ("hf://org/name@refs/pr/3", HubModel("org/name", "refs/pr/3")),
        ("meta-llama/Llama-3.1-8B", HubModel("meta-llama/Llama-3.1-8B", None)),
        ("s3://my-bucket/models/llama/", BucketModel("my-bucket", "models/llama")),
        ("./x", LocalModel(Path("./x"))),
        ("../../etc", LocalModel(Path("../../etc"))),
        ("/models/x", LocalModel(Path("/models/x"))),
        ("models/", LocalModel(Path("models"))),
        ("org/name/", LocalModel(Path("org/name"))),
        ("~nobody-of-this-name/x", LocalModel(Path("~nobody-of-this-name/x"))),
    ],
)
def test_a_name_says_where_the_model_is(model: str, expected: object) -> None:
    assert parse(model) == expected


@pytest.mark.parametrize(
    "model",
    [
        "",
        "demo",
        "builtin://other",
        "builtin://../../etc",
        "hf://../../etc",
        "hf://org/..",
        "hf://org/name/extra",
        "hf://org",
        "hf://org/name@",
        "hf://org/name@a b",
        "hf://org/name@../../x",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/../other",
        "s3://Bucket_/x",
        "s3://b/demo",
        "http://host/model",
        "file:///etc",
        "pvc://claim/path",
        "org/name;rm",
        "x" * 5000,
    ],
)
def test_what_is_no_name_is_refused_with_the_forms_that_are(model: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"There is no model|must read"):
        parse(model)


def test_a_bucket_whose_name_is_too_short_is_told_so() -> None:
    with pytest.raises(ModelNotFoundError, match="'b' is no name of a bucket, which has 3 to 63"):
        parse("s3://b/demo")


def test_revision_argument_yields_to_the_names_own() -> None:
    assert parse("org/name", revision="main") == HubModel("org/name", "main")
    assert parse("hf://org/name@v2", revision="main") == HubModel("org/name", "v2")


def test_a_folder_with_a_model_wins_over_a_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelNotFoundError, match="no folder"):
        resolve(str(tmp_path / "absent"))
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        resolve(str(tmp_path))
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name") == folder  # a folder that is there wins over a hub name


def test_what_is_there_and_no_folder_is_told_and_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "link").symlink_to("gone")
    (odd / "loop").symlink_to("loop")
    (odd / "file").touch()
    (odd / "model.gguf").touch()
    said = {
        "odd/link": "odd/link is a link to gone, which is not there. Use",
        "odd/loop": "The folder odd/loop cannot be read: Too many levels of symbolic links. Use",
        "odd/file": "odd/file is a file, and no folder. Use",
        "odd/model.gguf": "odd holds GGUF weights",
        "odd/file/x": "There is no model 'odd/file/x', and no folder of that name. Use",
        "odd/none/": "There is no folder odd/none. Use",
        f"./{'x' * 300}": f"The folder {'x' * 300} cannot be read: File name too long. Use",
        "file:///models/x": "There is no model 'file:///models/x': a folder is named by its path",
    }
    for model, start in said.items():
        for find in (resolve, lambda name: described(name).__enter__()):
            with pytest.raises(ModelNotFoundError) as caught:
                find(model)
            assert str(caught.value).startswith(start)


def test_the_bundled_model_is_there_or_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "files", lambda _package: tmp_path)
    with pytest.raises(ModelNotFoundError, match="not part of this installation"):
        resolve("builtin://demo")
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "config.json").write_text("{}")
    assert resolve("builtin://demo") == tmp_path / "demo"
