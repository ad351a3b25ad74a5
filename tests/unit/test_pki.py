# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys and certificates of a cluster."""

from __future__ import annotations

import ipaddress
import shutil
import stat
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
