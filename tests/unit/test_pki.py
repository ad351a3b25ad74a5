# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys and certificates of a cluster."""

from __future__ import annotations

import contextlib
import ipaddress
import shutil
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509

from ansible_collections.apiary.swarm.plugins.module_utils import pki

ADDRESSES = ["127.0.99.101", "192.168.99.101"]


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    pki.ensure_authority(tmp_path / "pki", "apiary")
    return tmp_path / "pki"


def server(authority: Path, addresses: list[str]) -> bool:
    own = authority.parent
    return pki.ensure_certificate(authority, own / "cert.pem", own / "key.pem", "myvm1", addresses)


def test_a_certificate_is_made_once_and_only_its_owner_reads_the_key(authority: Path) -> None:
    assert server(authority, ADDRESSES)
    assert not server(authority, ADDRESSES)
    assert stat.S_IMODE((authority.parent / "key.pem").stat().st_mode) == 0o600
    certificate = x509.load_pem_x509_certificate((authority.parent / "cert.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(address) for address in ADDRESSES]


def test_another_address_asks_for_another_certificate(authority: Path) -> None:
    server(authority, ADDRESSES)
    assert server(authority, ["127.0.98.101", "192.168.98.101"])


def test_a_certificate_of_a_lost_authority_is_replaced(authority: Path) -> None:
    server(authority, ADDRESSES)
    shutil.rmtree(authority)
    pki.ensure_authority(authority, "apiary")
    assert server(authority, ADDRESSES)


def test_a_certificate_near_its_end_is_replaced(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pki, "_LEAF_DAYS", 89)
    server(authority, ADDRESSES)
    monkeypatch.undo()
    assert server(authority, ADDRESSES)


def test_an_ssh_key_is_made_once(tmp_path: Path) -> None:
    first = pki.ensure_ssh_key(tmp_path / "id_ed25519", "apiary")
    assert first.startswith("ssh-ed25519 ")
    assert pki.ensure_ssh_key(tmp_path / "id_ed25519", "apiary") == first
    assert stat.S_IMODE((tmp_path / "id_ed25519").stat().st_mode) == 0o600


# Revocation


def person(authority: Path, name: str = "ann") -> x509.Certificate:
    own = authority.parent
    pki.ensure_certificate(authority, own / f"{name}.pem", own / f"{name}-key.pem", name, [])
    return x509.load_pem_x509_certificate((own / f"{name}.pem").read_bytes())


def crl(authority: Path) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl((authority / "crl.pem").read_bytes())


def test_list_of_revoked_certificates_is_made_once_and_is_empty(authority: Path) -> None:
    first = pki.ensure_revocations(authority)
    assert pki.ensure_revocations(authority) == first
    assert pki.revoked(authority) == set()


def test_list_holds_as_long_as_its_authority(authority: Path) -> None:
    # a server refuses everybody once its list has run out
    pki.ensure_revocations(authority)
    ca = x509.load_pem_x509_certificate((authority / "ca.pem").read_bytes())
    assert crl(authority).next_update_utc == ca.not_valid_after_utc
    assert crl(authority).last_update_utc < pki._now()


def test_revoked_stays_revoked(authority: Path) -> None:
    ann, bob = person(authority), person(authority, "bob")
    pki.revoke(authority, [ann.serial_number])
    pki.revoke(authority, [bob.serial_number])
    assert pki.revoked(authority) == {ann.serial_number, bob.serial_number}
    assert crl(authority).get_revoked_certificate_by_serial_number(ann.serial_number)


def test_list_of_a_lost_authority_is_replaced(authority: Path) -> None:
    pki.revoke(authority, [person(authority).serial_number])
    kept = (authority / "crl.pem").read_bytes()
    shutil.rmtree(authority)
    pki.ensure_authority(authority, "apiary")
    (authority / "crl.pem").write_bytes(kept)
    assert pki.revoked(authority) == set()
    assert pki.ensure_revocations(authority) != kept


@pytest.mark.parametrize("name", ["ann", "bob"])
def test_openssl_lets_only_those_in_that_are_not_revoked(authority: Path, name: str) -> None:
    """As the proxies in front of engines do."""
    ann, _bob = person(authority), person(authority, "bob")
    pki.revoke(authority, [ann.serial_number])
    pki.ensure_certificate(authority, authority / "server.pem", authority / "server-key.pem", "m1", ["127.0.0.1"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(authority / "server.pem", authority / "server-key.pem")
    server.load_verify_locations(authority / "ca.pem")
    server.load_verify_locations(authority / "crl.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    client = ssl.create_default_context(cafile=authority / "ca.pem")
    client.load_cert_chain(authority.parent / f"{name}.pem", authority.parent / f"{name}-key.pem")
    ours, theirs = socket.socketpair()
    refused: list[str] = []

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).sendall(b"welcome")
        except ssl.SSLError as error:
            refused.append(str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(ours, server_hostname="127.0.0.1") as secured, contextlib.suppress(ssl.SSLError):
        secured.recv(10)
    thread.join(10)
    assert (["certificate revoked" in text for text in refused]) == ([True] if name == "ann" else [])
