"""Environment of a download: what a Secret's value has around it is no part of a credential."""

from __future__ import annotations

import pytest

from octavo.errors import DownloadFailedError
from octavo.model_sources.environment import BUCKET, HUB, clean_environment


def test_line_ends_and_byte_order_marks_go_of_what_the_download_reads_and_of_nothing_else() -> None:
    environment = {
        "AWS_SECRET_ACCESS_KEY": "a/b+c=\n",
        "AWS_PROFILE": "my profile\r\n",
        "https_proxy": "http://proxy:3128\n",
        "HF_TOKEN": "\ufeffhf_x\n",
        "OTHER": "kept\n",
    }
    clean_environment("s3://bucket/m", BUCKET, environment)
    assert environment == {
        "AWS_SECRET_ACCESS_KEY": "a/b+c=",
        "AWS_PROFILE": "my profile",
        "https_proxy": "http://proxy:3128",
        "HF_TOKEN": "\ufeffhf_x\n",
        "OTHER": "kept\n",
    }
    clean_environment("hf://org/name", HUB, environment)
    assert environment["HF_TOKEN"] == "hf_x"


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [("HF_TOKEN", HUB), ("AWS_SECRET_ACCESS_KEY", BUCKET), ("AWS_SESSION_TOKEN", BUCKET)],
)
@pytest.mark.parametrize("value", ["se\ncret", "se\udcffcret", "sécret", "se\x7fcret"])
def test_a_credential_that_no_request_can_carry_is_named_and_not_told(
    name: str, prefixes: tuple[str, ...], value: str
) -> None:
    environment = {name: value}
    with pytest.raises(DownloadFailedError, match=f"^m could not be fetched: {name} ") as refusal:
        clean_environment("m", prefixes, environment)
    assert "cret" not in str(refusal.value).replace("Secret", "").replace("secretRef", "").replace(
        name, ""
    )
