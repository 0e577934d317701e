"""TLS of the HTTP port: what is encrypted, who is let in, and files that do not do."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import structlog

from octavo.errors import InvalidConfigurationError
from octavo.server.http.tls_files import TlsFiles
from octavo.server.process.certificates import Certificates
from octavo.server.process.tls_options import TlsOptions
from tests.support.runtime.server_process import ServerProcess, eventually


def certificate(folder: Path, name: str, days: int = 1) -> tuple[Path, Path]:
    """For 127.0.0.1, its own authority, and its key."""
    made, key = folder / f"{name}.crt", folder / f"{name}.key"
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days)]
        + subject
        + ["-out", str(made), "-keyout", str(key)],
        check=True,
        capture_output=True,
    )
    return made, key


def test_a_client_is_let_in_by_the_certificate_of_an_authority(tmp_path: Path) -> None:
    server, server_key = certificate(tmp_path, "server")
    known, known_key = certificate(tmp_path, "known")
    stranger, stranger_key = certificate(tmp_path, "stranger")
    files = ("--ssl-certfile", str(server), "--ssl-keyfile", str(server_key))
    with ServerProcess(*files, "--ssl-ca-certs", str(known)) as process:
        process.wait_ready()
        assert process.url.startswith("https://")

        def ask(cert: Path | None = None, key: Path | None = None) -> int:
            context = ssl.create_default_context(cafile=str(server))
            if cert is not None:
                context.load_cert_chain(cert, key)
            return httpx.get(f"{process.url}/v1/models", verify=context, timeout=60).status_code

        assert ask(known, known_key) == 200
        for cert, key in ((None, None), (stranger, stranger_key)):
            with pytest.raises(httpx.TransportError):
                ask(cert, key)
        plain = f"http{process.url.removeprefix('https')}/v1/models"
        assert httpx.get(plain, timeout=60).status_code == 400
        assert process.probe("livez").status_code == 200  # the ops port has none


def files_of(cert: Path | None, key: Path | None, ca: Path | None = None) -> TlsFiles | None:
    return TlsOptions(ssl_certfile=cert, ssl_keyfile=key, ssl_ca_certs=ca).files


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ssl_cert_reqs": "1"}, "ssl_cert_reqs is 1 and ssl_ca_certs is not given"),
        ({"ssl_cert_reqs": "required"}, "ssl_cert_reqs is required and ssl_ca_certs is not given"),
        ({"ssl_cert_reqs": "3"}, "ssl_cert_reqs is '3'; use 0, none, 1, optional, 2 or required."),
        ({"ssl_cert_reqs": "0", "ssl_certfile": None}, "ssl_keyfile is given and ssl_certfile is"),
        (
            {"ssl_ciphers": "nothing"},
            "ssl_ciphers is 'nothing', by which OpenSSL selects no cipher",
        ),
        ({"ssl_ciphers": ""}, "ssl_ciphers is '', by which OpenSSL selects no cipher"),
        ({"ssl_ciphers": "a\0b"}, "by which OpenSSL selects no cipher"),
        ({"ssl_ciphers": "TLS_AES_128_GCM_SHA256"}, "those of TLS 1.3 are on without being named"),
        (
            {"ssl_ciphers": "ECDHE+AESGCM", "ssl_certfile": None, "ssl_keyfile": None},
            "ssl_ciphers is given and ssl_certfile is not",
        ),
    ],
)
def test_what_goes_with_no_file_and_ciphers_that_there_are_not_are_refused(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidConfigurationError) as told:
        TlsOptions(**{"ssl_certfile": Path("a"), "ssl_keyfile": Path("b"), **given})
    assert message in str(told.value)


def test_clients_need_a_certificate_where_authorities_are_given_unless_told_otherwise() -> None:
    def mode(**given: Any) -> ssl.VerifyMode:
        files = TlsOptions(ssl_certfile=Path("a"), ssl_keyfile=Path("b"), **given).files
        assert files is not None
        return files.client_certificates

    given = {"ssl_ca_certs": Path("c")}
    assert (mode(), mode(**given)) == (ssl.CERT_NONE, ssl.CERT_REQUIRED)
    assert mode(ssl_cert_reqs="none") is ssl.CERT_NONE
    for spellings, meant in (("0 none", 0), ("1 optional", 1), ("2 required", 2)):
        for spelling in spellings.split():
            assert mode(**given, ssl_cert_reqs=spelling) == meant


def told_of(*given: Path | None) -> str:
    """What a start says of them."""
    with pytest.raises(InvalidConfigurationError) as told:
        Certificates(cast("TlsFiles", files_of(*given)))
    return str(told.value)


def test_files_that_do_not_do_are_named(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "one")
    _, other_key = certificate(tmp_path, "other")
    nothing = tmp_path / "none"
    garbage, broken, empty = tmp_path / "garbage", tmp_path / "broken", tmp_path / "empty"
    garbage.write_text("no certificate")
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    empty.write_text("")
    der = tmp_path / "der"
    der.write_bytes(ssl.PEM_cert_to_DER_cert(cert.read_text()))
    for given, message in (
        ((cert, None, None), "ssl_certfile is given and ssl_keyfile is not"),
        ((None, key, None), "ssl_keyfile is given and ssl_certfile is not"),
        ((None, None, cert), "ssl_ca_certs is given and ssl_certfile is not"),
        ((cert, nothing, None), f"ssl_keyfile is {nothing}; there is no such file"),
        ((cert, key, nothing), f"ssl_ca_certs is {nothing}; there is no such file"),
        ((cert, other_key, None), "which is not the key of the certificate in ssl_certfile"),
        ((garbage, key, None), "holds no certificate in PEM"),
        ((der, key, None), "It looks like DER"),
        ((empty, key, None), "The file is empty."),
        ((cert, garbage, None), "holds no key in PEM"),
        ((cert, key, garbage), f"ssl_ca_certs is {garbage}, which holds no certificate"),
        ((broken, key, None), "TLS cannot be had with ssl_certfile"),
        ((cert, key, broken), "and ssl_ca_certs"),
        ((key, cert, None), "Exchange the two."),
        ((tmp_path, key, None), f"ssl_certfile is '{tmp_path}', which is a folder"),
        (
            (Path(), key, None),
            "ssl_certfile is '.', which is the folder that the server runs in, or",
        ),
    ):
        assert message in told_of(*given)
    assert files_of(None, None) is None
    good = files_of(cert, key)
    assert good is not None
    assert Certificates(good).material.key == key.read_bytes()
    assert "PRIVATE" not in repr(Certificates(good).material)


@pytest.mark.parametrize("form", [(), ("-traditional",)])
def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(
    tmp_path: Path, form: tuple[str, ...]
) -> None:
    cert, key = certificate(tmp_path, "one")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "rsa", *form, "-aes256", "-passout", "pass:x"]
        + ["-in", str(key), "-out", str(locked)],
        check=True,
        capture_output=True,
    )
    assert "whose key has a passphrase, and none can be given" in told_of(cert, locked)


@pytest.mark.parametrize("days", [1, 20000])  # dates are written otherwise from 2050 on
def test_a_certificate_that_does_not_hold_now_is_told_with_its_date(
    tmp_path: Path, days: int
) -> None:
    files = files_of(*certificate(tmp_path, "one", days))
    assert files is not None
    command = ["openssl", "x509", "-noout", "-dates", "-dateopt", "iso_8601"]
    command += ["-in", str(files.certfile)]
    dates = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    begin, end = (
        datetime.fromisoformat(line.partition("=")[2].strip()) for line in dates.splitlines()
    )
    for now, told in (
        (begin - timedelta(hours=1), ("TLS certificate is not valid yet", "valid_from", begin)),
        (begin + timedelta(hours=1), None),
        (end + timedelta(hours=1), ("TLS certificate has expired", "since", end)),
    ):
        with structlog.testing.capture_logs() as lines:
            Certificates(files, partial(datetime.fromtimestamp, now.timestamp(), UTC))
        if told is None:
            assert not lines
            continue
        (line,), (event, field, date) = lines, told
        assert (line["event"], line["log_level"]) == (event, "warning")
        assert line[field] == date.isoformat()


def mounted(folder: Path, version: str, cert: Path, key: Path) -> tuple[Path, Path]:
    """As the kubelet mounts a Secret: all files change at once, with the link that they lie behind."""
    made = folder / version
    made.mkdir(parents=True)
    shutil.copy(cert, made / "tls.crt")
    shutil.copy(key, made / "tls.key")
    (folder / "new").symlink_to(version)
    (folder / "new").rename(folder / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    return folder / "tls.crt", folder / "tls.key"


@pytest.mark.parametrize("count", [1, 2])
def test_a_renewed_certificate_is_taken_up_by_all_and_half_a_renewal_by_none(
    tmp_path: Path, count: int
) -> None:
    old, old_key = certificate(tmp_path, "old")
    new, new_key = certificate(tmp_path, "new")
    cert, key = mounted(tmp_path / "secret", "..1", old, old_key)
    files = ("--ssl-certfile", str(cert), "--ssl-keyfile", str(key))
    with ServerProcess(*files, "--api-server-count", str(count)) as process:
        process.wait_ready()
        port = int(process.url.rpartition(":")[2])
        api_pids = [pid for pid in process.child_pids if pid != process.engine_pid]

        def shown() -> list[str]:
            """By each process, the others being stopped."""
            pids = [pid for pid in process.child_pids if pid != process.engine_pid]
            found = []
            for place in range(count):
                others = [pid for number, pid in enumerate(pids) if number != place]
                for pid in others:
                    os.kill(pid, signal.SIGSTOP)
                try:
                    found.append(ssl.get_server_certificate(("127.0.0.1", port), timeout=60))
                finally:
                    for pid in others:
                        os.kill(pid, signal.SIGCONT)
            return found

        assert shown() == [old.read_text()] * count
        mounted(tmp_path / "secret", "..2", new, old_key)
        told = process.wait_for("TLS certificate")
        assert told["problem"].startswith(f"ssl_keyfile is {key}, which is not the key of")
        if count > 1:
            os.kill(api_pids[0], signal.SIGKILL)
            process.wait_for("API process replaced")
        assert shown() == [old.read_text()] * count
        mounted(tmp_path / "secret", "..3", new, new_key)
        changed = process.wait_for("TLS certificate changed")
        assert changed["file"] == str(cert)
        assert changed["valid_until"] is not None
        eventually(lambda: shown() == [new.read_text()] * count)
        problems = [line for line in process.log if line["event"] == "TLS certificate"]
        assert len(problems) == 1
