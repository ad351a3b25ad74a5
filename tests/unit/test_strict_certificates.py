# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates before the strictest clients there are: Python from 3.13 on, and OpenSSL asked to be strict."""

from __future__ import annotations

import datetime
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from urllib3.util.ssl_ import create_urllib3_context

from ansible_collections.apiary.swarm.plugins.action import container_machine
from ansible_collections.apiary.swarm.plugins.module_utils import cluster_files, containers, docker_api, pki, qemu
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.maintenance import settings, survey
from ansible_collections.apiary.swarm.plugins.module_utils.persons import Person

ADDRESS = "127.0.0.1"


def age(directory: Path) -> None:
    """Give the authority the certificate that it had before there were strict clients."""
    now = datetime.datetime.now(datetime.UTC)
    key, name = pki._authority_key(directory), pki._authority(directory).subject
    old = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "ca.pem").write_bytes(old.public_bytes(serialization.Encoding.PEM))


class Cluster:
    """The files of a cluster, with a server's and a person's; and that server on loopback."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.pki = directory, directory / "pki"
        with cluster_files.prepared(directory, "hive"):
            pass
        pki.ensure_certificate(self.pki, directory / "server.pem", directory / "server-key.pem", "m1", [ADDRESS])
        (directory / "persons" / "ann").mkdir(parents=True)
        Person("ann", directory)._certified(is_new=True)

    def clients(self) -> dict[str, tuple[Path, Path]]:
        return {
            name: (directory / "cert.pem", directory / "key.pem")
            for name, directory in (("client", self.directory / "client"), ("ann", self.directory / "persons" / "ann"))
        }

    def handshake(self, client: str) -> bytes:
        """Have both ends check the other strictly, and the list too; return what the server says."""
        server, other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        server.load_cert_chain(self.directory / "server.pem", self.directory / "server-key.pem")
        server.verify_mode = ssl.CERT_REQUIRED
        server.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        server.load_verify_locations(self.pki / "crl.pem")
        other.load_cert_chain(*self.clients()[client])
        for context in (server, other):
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            context.load_verify_locations(self.pki / "ca.pem")
        with socket.create_server((ADDRESS, 0)) as listener:
            thread = threading.Thread(target=serve, args=(listener, server, b"welcome"))
            thread.start()
            try:
                with (
                    socket.create_connection(listener.getsockname(), 10) as plain,
                    other.wrap_socket(plain, server_hostname=ADDRESS) as secured,
                ):
                    return secured.recv(10)
            finally:
                thread.join(10)


def serve(listener: socket.socket, context: ssl.SSLContext, answer: bytes) -> None:
    with suppress(OSError):
        connection, _address = listener.accept()
        with connection, context.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(answer)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "hive")


def verified(cluster: Cluster, certificate: Path, purpose: str) -> str:
    strict = ["openssl", "verify", "-x509_strict", "-policy_check", "-purpose", purpose, "-crl_check"]
    files = ["-CAfile", f"{cluster.pki}/ca.pem", "-CRLfile", f"{cluster.pki}/crl.pem", str(certificate)]
    return subprocess.run([*strict, *files], capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("client", ["client", "ann"])
def test_strict_ends_take_each_other(cluster: Cluster, client: str) -> None:
    assert cluster.handshake(client) == b"welcome"


@pytest.mark.parametrize("client", ["client", "ann"])
def test_strict_ends_heed_the_list(cluster: Cluster, client: str) -> None:
    certificate = x509.load_pem_x509_certificate(cluster.clients()[client][0].read_bytes())
    pki.revoke(cluster.pki, [certificate.serial_number])
    with pytest.raises(ssl.SSLError, match=r"(?i)revoked"):
        cluster.handshake(client)


def test_openssl_finds_nothing_even_when_strict(cluster: Cluster) -> None:
    assert verified(cluster, cluster.directory / "server.pem", "sslserver") == ""
    assert [verified(cluster, certificate, "sslclient") for certificate, _key in cluster.clients().values()] == ["", ""]


def test_everything_names_its_keys_and_what_they_are_for(cluster: Cluster) -> None:
    for path in (
        cluster.pki / "ca.pem",
        cluster.directory / "server.pem",
        *(c for c, _key in cluster.clients().values()),
    ):
        found = x509.load_pem_x509_certificate(path.read_bytes()).extensions
        usage = found.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        is_authority = path.name == "ca.pem"
        assert (usage.value.key_cert_sign, usage.value.crl_sign) == (is_authority, is_authority)
        assert usage.value.digital_signature is not is_authority
        found.get_extension_for_class(x509.SubjectKeyIdentifier)
        found.get_extension_for_class(x509.AuthorityKeyIdentifier)
    numbers = []
    for serial in (1, 2):
        pki.revoke(cluster.pki, [serial])
        listed = x509.load_pem_x509_crl((cluster.pki / "crl.pem").read_bytes()).extensions
        listed.get_extension_for_class(x509.AuthorityKeyIdentifier)
        numbers.append(listed.get_extension_for_class(x509.CRLNumber).value.crl_number)
    assert numbers == [2, 3]


# An authority of before


def test_old_authority_is_refused_and_renewed_for_all_that_it_has_signed(cluster: Cluster) -> None:
    age(cluster.pki)
    old, key = (cluster.pki / "ca.pem").read_bytes(), (cluster.pki / "ca-key.pem").read_bytes()
    leaves = [path.read_bytes() for path, _key in cluster.clients().values()]
    with pytest.raises(ssl.SSLError):
        cluster.handshake("ann")
    foretold = cluster_files.renew(cluster.directory, "hive", check_mode=True)
    assert foretold == ["renew the certificate of the cluster's authority, with the same key"]
    assert (cluster.pki / "ca.pem").read_bytes() == old
    assert cluster_files.renew(cluster.directory, "hive", check_mode=False) == foretold
    assert cluster_files.renew(cluster.directory, "hive", check_mode=False) == []
    assert cluster.handshake("ann") == cluster.handshake("client") == b"welcome"
    assert (cluster.directory / "client" / "ca.pem").read_bytes() == (cluster.pki / "ca.pem").read_bytes() != old
    assert (cluster.pki / "ca-key.pem").read_bytes() == key
    assert [path.read_bytes() for path, _key in cluster.clients().values()] == leaves
    # who only has the old one, as machines and persons do
    new = x509.load_pem_x509_certificate((cluster.pki / "ca.pem").read_bytes())
    (cluster.directory / "old.pem").write_bytes(old)
    given = ["openssl", "verify", "-CAfile", f"{cluster.directory}/old.pem", f"{cluster.directory}/server.pem"]
    pki.ensure_certificate(cluster.pki, cluster.directory / "server.pem", cluster.directory / "k.pem", "m1", [ADDRESS])
    assert subprocess.run(given, capture_output=True, check=False).returncode == 0
    assert new.serial_number != x509.load_pem_x509_certificate(old).serial_number


def node(cluster: Cluster) -> containers.Node:
    return containers.Node(
        *("hive", "m1", "image", "hive", "10.0.0.1", ADDRESS, frozenset(), "auto"),
        authority=cluster.pki / "ca.pem",
        revocations=cluster.pki / "crl.pem",
        tls_directory=cluster.directory / "client",
    )


def test_renewed_authority_makes_no_node_anew(cluster: Cluster) -> None:
    age(cluster.pki)
    made_for = node(cluster).identity
    cluster_files.renew(cluster.directory, "hive", check_mode=False)
    assert node(cluster).identity == made_for


def test_nothing_is_renewed_that_was_not_made(tmp_path: Path) -> None:
    assert cluster_files.renew(tmp_path / "none", "hive", check_mode=False) == []
    assert not (tmp_path / "none").exists()


# What is broken


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
def test_broken_authority_is_named_with_a_remedy(cluster: Cluster, name: str) -> None:
    (cluster.pki / name).write_bytes(b"")
    with pytest.raises(ApiaryError, match=rf"{name} cannot be read .*Put its files back from a copy"):
        pki.ensure_authority(cluster.pki, "hive")


def test_keys_of_two_authorities_are_not_taken_for_one(cluster: Cluster, tmp_path: Path) -> None:
    pki.ensure_authority(tmp_path / "other", "hive")
    (cluster.pki / "ca-key.pem").write_bytes((tmp_path / "other" / "ca-key.pem").read_bytes())
    with pytest.raises(ApiaryError, match="do not belong together"):
        pki.ensure_authority(cluster.pki, "hive")


@pytest.mark.parametrize("name", ["cert.pem", "key.pem"])
@pytest.mark.parametrize("of", ["nobody", "another"])
def test_pair_that_does_not_fit_is_made_anew(cluster: Cluster, name: str, of: str) -> None:
    another = cluster.directory / "persons" / "ann" / name
    (cluster.directory / "client" / name).write_bytes(another.read_bytes() if of == "another" else b"")
    assert cluster_files.renew(cluster.directory, "hive", check_mode=True) == ["renew this computer's certificate"]
    cluster_files.renew(cluster.directory, "hive", check_mode=False)
    assert cluster.handshake("client") == b"welcome"


# Engines whose certificate is refused


@pytest.fixture
def engine(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """The endpoint of an engine that answers every request in the same way."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cluster.directory / "server.pem", cluster.directory / "server-key.pem")
    body = b'{"ApiVersion": "1.41"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def listen(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _address = listener.accept()
                with suppress(OSError), connection, context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(1000)
                    secured.sendall(answer)

    with socket.create_server((ADDRESS, 0)) as listener:
        threading.Thread(target=listen, args=(listener,), daemon=True).start()
        endpoint = cluster_files.endpoint(cluster.directory, ADDRESS)
        yield endpoint | {"docker_host": f"tcp://{ADDRESS}:{listener.getsockname()[1]}"}


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """What urllib3 does from Python 3.13 on."""
    make = create_urllib3_context

    def made(*args: Any, **options: Any) -> ssl.SSLContext:
        context = make(*args, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr("urllib3.connection.create_urllib3_context", made)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("is_old", [False, True])
def test_engine_of_either_authority_is_reached(cluster: Cluster, engine: dict[str, Any], *, is_old: bool) -> None:
    # docker-machine's authority stays as the old ones were
    if is_old:
        age(cluster.pki)
        (cluster.directory / "client" / "ca.pem").write_bytes((cluster.pki / "ca.pem").read_bytes())
    with docker_api.connect(engine) as api:
        assert api.api_version == "1.41"


@pytest.fixture
def foreign(cluster: Cluster, engine: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    pki.ensure_authority(tmp_path / "other", "hive")
    return engine | {"ca_path": str(tmp_path / "other" / "ca.pem")}


def test_refusal_says_who_and_why_and_what_to_do(foreign: dict[str, Any]) -> None:
    with pytest.raises(docker_api.CertificateRefused) as refused, docker_api.connect(foreign):
        pass
    for said in (foreign["docker_host"], "certificate verify failed", "playbooks/machines.yml renews", "clock"):
        assert said in str(refused.value)


@pytest.mark.parametrize(
    "alert", ["TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca", "SSLV3_ALERT_CERTIFICATE_REVOKED] sslv3 alert revoked"]
)
def test_engine_that_refuses_this_computer_is_no_engine_to_wait_for(
    foreign: dict[str, Any], monkeypatch: pytest.MonkeyPatch, alert: str
) -> None:
    monkeypatch.setattr(docker_api, "Client", MagicMock(side_effect=OSError(f"[SSL: {alert} (_ssl.c:2580)")))
    with pytest.raises(docker_api.CertificateRefused, match=alert.split("] ")[1]), docker_api.connect(foreign):
        pass


def test_wait_for_a_node_ends_with_a_refusal(cluster: Cluster, foreign: dict[str, Any]) -> None:
    api = MagicMock()
    with pytest.raises(ApiaryError, match="hive-m1 runs, but the engine at"):
        containers.wait_until_answering(api, node(cluster), foreign, 3600)
    assert not api.inspect_container.called


def test_wait_for_a_machine_ends_with_a_refusal(foreign: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "is_running", lambda _path: True)
    monkeypatch.setattr(qemu, "endpoint", lambda *_: foreign)
    machine = MagicMock()
    machine.name = "m1"
    with pytest.raises(docker_api.CertificateRefused, match="m1 runs, but"):
        qemu.wait_for_api(machine, 3600)


def test_survey_tells_a_refusal_from_a_silence(foreign: dict[str, Any]) -> None:
    def seen(endpoint: dict[str, Any]) -> bool:
        managers = [{"name": "m1", "docker": endpoint}]
        return survey({"m1": ADDRESS}, managers, settings({"timeout_seconds": 1}, check_mode=False)).refused

    assert seen(foreign)
    with socket.create_server((ADDRESS, 0)) as listener:
        port = listener.getsockname()[1]
    assert not seen(foreign | {"docker_host": f"tcp://{ADDRESS}:{port}"})


def test_check_foretells_a_node_whose_pair_does_not_fit(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    api, own = MagicMock(), node(cluster)
    api.containers.return_value = [
        {
            "Names": ["/hive-m1"],
            "State": "running",
            "Labels": {containers.IDENTITY_LABEL: own.identity, containers.PORTS_LABEL: ""},
        }
    ]
    age(cluster.pki)
    made = container_machine.ActionModule.__new__(container_machine.ActionModule)
    made._task = MagicMock(check_mode=True, diff=False)
    params = {"cluster_directory": str(cluster.directory), "cluster": "hive", "create": True}
    result = made._started(api, own, params, {})
    assert result["actions"][0].startswith("renew the certificate of the cluster's authority")
    assert result["actions"][1].startswith("make the node anew")  # the client's, and so for no address
