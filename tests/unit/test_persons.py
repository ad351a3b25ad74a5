# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Other persons get certificates of their own, and are shut out again."""

from __future__ import annotations

import shutil
import stat
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from cryptography import x509

from ansible_collections.apiary.swarm.plugins.action import access_certificate
from ansible_collections.apiary.swarm.plugins.module_utils import persons
from ansible_collections.apiary.swarm.plugins.module_utils.cluster_files import endpoint, prepared
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.pki import revoked


class Cluster:
    """The files of a cluster whose machines Apiary makes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.docker = endpoint(directory, "127.0.99.101")
        self.providers = {"myvm1": "qemu_machine", "node1": "container_machine"}
        with prepared(directory, "shop"):
            pass

    def run(self, state: str = "present", *, check: bool = False, **given: Any) -> dict[str, Any]:
        made = access_certificate.ActionModule.__new__(access_certificate.ActionModule)
        made._task = MagicMock(check_mode=check, diff=False)
        params = {
            "name": "ann",
            "state": state,
            "cluster": "shop",
            "context": "shop",
            "docker": self.docker,
            "providers": self.providers,
        }
        result: dict[str, Any] = made.outcome(params | given, {})
        return result

    @property
    def archive(self) -> Path:
        return self.directory / "persons" / "ann" / "ann.tar"

    def certificate(self) -> x509.Certificate:
        with tarfile.open(self.archive) as tar:
            file = tar.extractfile("tls/docker/cert.pem")
            assert file
            return x509.load_pem_x509_certificate(file.read())


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "shop")


def test_person_gets_a_certificate_of_their_own_once(cluster: Cluster) -> None:
    assert cluster.run()["actions"] == ["make a certificate for ann", f"write {cluster.archive}"]
    authority = x509.load_pem_x509_certificate((cluster.directory / "pki" / "ca.pem").read_bytes())
    cluster.certificate().verify_directly_issued_by(authority)
    assert cluster.certificate().subject.rfc4514_string() == "CN=ann"
    assert not cluster.run()["changed"]


def test_nobody_else_reads_what_is_handed_over(cluster: Cluster) -> None:
    cluster.run()
    files = [path for path in cluster.directory.rglob("*") if path.is_file() and "ann" in path.parts]
    assert len(files) == 4
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_check_makes_nothing(cluster: Cluster) -> None:
    assert cluster.run(check=True)["changed"]
    assert not (cluster.directory / "persons").exists()
    cluster.run()
    assert cluster.run("absent", check=True)["changed"]
    assert revoked(cluster.directory / "pki") == set()


def test_person_is_shut_out_with_all_certificates_that_they_ever_had(cluster: Cluster) -> None:
    cluster.run()
    first = cluster.certificate().serial_number
    shutil.rmtree(cluster.archive.parent)  # as one may once it was handed over
    cluster.run()
    second = cluster.certificate().serial_number
    result = cluster.run("absent")
    assert result["actions"] == ["revoke 2 certificates of ann", f"remove {cluster.archive.parent}"]
    assert revoked(cluster.directory / "pki") == {first, second}
    assert persons.known(cluster.directory) == {}
    again = cluster.run("absent")
    assert not again["changed"]
    assert again["cluster_report"] == "There is no certificate for ann that holds; there are some for nobody."


def test_others_stay_when_one_is_shut_out(cluster: Cluster) -> None:
    cluster.run()
    cluster.run(name="bob")
    bob = cluster.directory / "persons" / "bob" / "cert.pem"
    cluster.run("absent")
    assert x509.load_pem_x509_certificate(bob.read_bytes()).serial_number not in revoked(cluster.directory / "pki")
    assert list(persons.known(cluster.directory)) == ["bob"]
    assert not cluster.run(name="bob")["changed"]


def test_person_who_is_let_in_again_gets_another_certificate(cluster: Cluster) -> None:
    cluster.run()
    cluster.run("absent")
    cluster.run()
    assert cluster.certificate().serial_number not in revoked(cluster.directory / "pki")


@pytest.mark.parametrize(
    ("provider", "way"),
    [
        ("docker_machine", "myvm2 (docker_machine): docker-machine's engines let in whoever has a certificate"),
        ("existing_machine", "myvm2 (existing_machine): its engine is reached over SSH"),
        ("abacus", "myvm2 (abacus): it is not known how one would be revoked"),
    ],
)
@pytest.mark.parametrize("state", ["present", "absent"])
def test_what_could_not_be_revoked_is_not_made(cluster: Cluster, provider: str, way: str, state: str) -> None:
    with pytest.raises(ApiaryError) as raised:
        cluster.run(state, providers={**cluster.providers, "myvm2": provider})
    assert way in str(raised.value)
    assert not (cluster.directory / "persons").exists()


@pytest.mark.parametrize("name", ["", "../bob", "a b", ".hidden"])
def test_name_that_is_no_file_name_is_refused(cluster: Cluster, name: str) -> None:
    with pytest.raises(ApiaryError, match="access_for is"):
        cluster.run(name=name)


def test_authority_of_somebody_else_makes_no_certificates(cluster: Cluster, tmp_path: Path) -> None:
    docker = endpoint(tmp_path / "elsewhere", "10.0.0.1")
    with pytest.raises(ApiaryError, match="there can be no certificate for ann"):
        cluster.run(docker=docker)


def test_loopback_address_is_told_to_be_one(cluster: Cluster) -> None:
    assert "an address of this computer alone" in cluster.run()["cluster_report"]
    elsewhere = {**cluster.docker, "docker_host": "tcp://10.0.0.1:2376"}
    assert "alone" not in cluster.run(docker=elsewhere)["cluster_report"]
