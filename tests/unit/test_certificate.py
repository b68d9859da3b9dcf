"""The serving certificate, in handshakes in memory."""

import logging
import os
import shutil
import ssl
from pathlib import Path

import pytest

from kubedr_ctrl.kube.certificate import CertificateError, ServingCertificate
from tests.servers.pki import Authority, KeyPair


@pytest.fixture(name="authority")
def _authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


def mount(directory: Path, certificate: Path, key: Path) -> Path:
    """Write a pair the way the kubelet mounts a Secret: the link `..data` is swapped for a new directory."""
    directory.mkdir(exist_ok=True)
    version = directory / f"..{certificate.stem}-{key.stem}"
    version.mkdir()
    shutil.copy(certificate, version / "tls.crt")
    shutil.copy(key, version / "tls.key")
    (directory / "..new").symlink_to(version.name)
    os.replace(directory / "..new", directory / "..data")  # noqa: PTH105 - a link, not what it leads to
    for name in ("tls.crt", "tls.key"):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    return directory


def shown(serving: ServingCertificate, client: ssl.SSLContext, name: str | None = "localhost") -> bytes | None:
    """Return the certificate that a client is shown."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = serving.context.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for end in (theirs, ours):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return theirs.getpeercert(binary_form=True)


def der(pair: KeyPair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


def test_what_is_on_disk_is_shown_to_the_next_client_with_or_without_a_name(
    authority: Authority, tmp_path: Path
) -> None:
    first, second = authority.server("first"), authority.server("second")
    client = ssl.create_default_context(cafile=authority.certificate)
    nameless = ssl.create_default_context(cafile=authority.certificate)
    nameless.check_hostname = False
    directory = mount(tmp_path / "tls", first.certificate, first.key)
    serving = ServingCertificate(directory)
    assert shown(serving, client) == shown(serving, nameless, None) == der(first)
    mount(directory, second.certificate, second.key)
    assert shown(serving, nameless, None) == shown(serving, client) == der(second)


def test_a_change_that_does_not_fit_is_said_once_and_changes_nothing(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = authority.server("first"), authority.server("second")
    client = ssl.create_default_context(cafile=authority.certificate)
    directory = mount(tmp_path / "tls", first.certificate, first.key)
    serving = ServingCertificate(directory)
    with caplog.at_level(logging.WARNING):
        mount(directory, first.certificate, second.key)
        assert shown(serving, client) == shown(serving, client) == der(first)
        assert "still serving with the certificate that was there before" in caplog.text
        assert len(caplog.records) == 1
        (directory / "..data").unlink()
        assert shown(serving, client) == shown(serving, client) == der(first)
        assert "tls.crt cannot be read (No such file or directory)" in caplog.records[1].getMessage()
        assert len(caplog.records) == 2
        mount(directory, second.certificate, second.key)
        assert shown(serving, client) == der(second)
    assert len(caplog.records) == 2


def test_a_missing_or_unfitting_pair_at_the_start_is_an_error_that_names_file_and_remedy(
    authority: Authority, tmp_path: Path
) -> None:
    first, second = authority.server("first"), authority.server("second")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CertificateError, match=r"empty/tls\.crt cannot be read .* mount a Secret of type kubernetes"):
        ServingCertificate(tmp_path / "empty")
    with pytest.raises(CertificateError, match=r"tls\.key .*KEY_VALUES_MISMATCH.* one Secret of type kubernetes"):
        ServingCertificate(mount(tmp_path / "mixed", first.certificate, second.key))
    with pytest.raises(CertificateError, match=r"junk/tls\.crt and "):
        ServingCertificate(mount(tmp_path / "junk", first.key, first.key))


def test_clients_older_than_tls_1_2_are_turned_away(authority: Authority, tmp_path: Path) -> None:
    pair = authority.server("first")
    serving = ServingCertificate(mount(tmp_path / "tls", pair.certificate, pair.key))
    client = ssl.create_default_context(cafile=authority.certificate)
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        shown(serving, client)
