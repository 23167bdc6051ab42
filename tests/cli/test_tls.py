"""Files that no HTTPS can be served with are refused before anything is started."""

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from hidream_server.cli.deciding import decide
from hidream_server.cli.tls import check_tls
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.errors import TlsFilesError
from hidream_server.settings import Settings


def write_pair(folder: Path) -> tuple[Path, Path]:
    """Write a certificate and its key; return their paths."""
    folder.mkdir(exist_ok=True)
    certificate = trustme.CA().issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write_pair(tmp_path)


def refusal(certificate: Path | None, key: Path | None) -> str:
    """Return the one sentence with which these files are refused."""
    with pytest.raises(TlsFilesError) as caught:
        check_tls(Settings(ssl_certfile=certificate, ssl_keyfile=key))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_certificate_and_its_key_will_do_and_so_will_neither(pair):
    check_tls(Settings(ssl_certfile=pair[0], ssl_keyfile=pair[1]))
    check_tls(Settings())


def test_one_without_the_other_is_refused(pair):
    for certificate, key in ((pair[0], None), (None, pair[1])):
        message = refusal(certificate, key)
        assert "--ssl-certfile" in message
        assert "--ssl-keyfile" in message


def test_a_file_that_is_missing_or_cannot_be_read_is_named(pair, tmp_path):
    assert "nowhere.pem cannot be read: No such file" in refusal(tmp_path / "nowhere.pem", pair[1])
    assert f"{tmp_path} cannot be read: Is a directory" in refusal(pair[0], tmp_path)


def test_a_key_of_another_certificate_is_refused(pair, tmp_path):
    _, other = write_pair(tmp_path / "other")
    message = refusal(pair[0], other)
    assert str(pair[0]) in message
    assert str(other) in message
    assert "key values mismatch" in message


@pytest.mark.parametrize("broken", [0, 1])
def test_what_is_no_pem_is_refused(pair, broken):
    pair[broken].write_text("hello")
    assert "must be PEM" in refusal(*pair)


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(pair):
    key = load_pem_private_key(pair[1].read_bytes(), None)
    locked = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    pair[1].write_bytes(locked)
    assert "without a passphrase" in refusal(*pair)


def test_nothing_is_decided_with_files_that_will_not_do(tmp_path):
    settings = Settings(
        model_path=DEMO_MODEL_PATH,
        extra_model_path=DEMO_EXTRA_MODEL_PATH,
        ssl_certfile=tmp_path / "a",
        ssl_keyfile=tmp_path / "b",
    )
    with pytest.raises(TlsFilesError):
        decide(settings)
