# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What becomes of a client without a certificate, tried on real TLS servers."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.action.cluster_verify import stranger
from ansible_collections.apiary.swarm.plugins.module_utils.pki import ensure_authority, ensure_certificate

Start = Callable[..., dict[str, Any]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a TLS server on 127.0.0.1 and returns its endpoint."""
    listeners = []

    def start(*, asks_for_certificate: bool, newest_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> dict[str, Any]:
        ensure_authority(tmp_path / "pki", "test")
        ensure_certificate(tmp_path / "pki", tmp_path / "cert.pem", tmp_path / "key.pem", "engine", ["127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = newest_tls
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        if asks_for_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(tmp_path / "pki" / "ca.pem")
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=serve, args=(listener, context), daemon=True).start()
        return {
            "docker_host": f"tcp://127.0.0.1:{listener.getsockname()[1]}",
            "tls": True,
            "validate_certs": True,
            "ca_path": str(tmp_path / "pki" / "ca.pem"),
        }

    def serve(listener: socket.socket, context: ssl.SSLContext) -> None:
        with suppress(OSError):
            connection, _address = listener.accept()
            with connection, context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1000)
                secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    yield start
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize("newest_tls", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
def test_server_that_asks_for_a_certificate_refuses(server: Start, newest_tls: ssl.TLSVersion) -> None:
    assert stranger(server(asks_for_certificate=True, newest_tls=newest_tls)) == "refused"


def test_server_that_asks_for_none_serves(server: Start) -> None:
    assert stranger(server(asks_for_certificate=False)) == "served"


def test_server_of_another_authority_is_told_from_one_that_refuses(server: Start, tmp_path: Path) -> None:
    endpoint = server(asks_for_certificate=True)
    ensure_authority(tmp_path / "other", "test")
    assert "certificate is not what the endpoint asks for" in stranger(
        endpoint | {"ca_path": str(tmp_path / "other" / "ca.pem")}
    )


def test_nobody_there_is_told_from_a_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "could not be asked" in stranger({"docker_host": f"tcp://127.0.0.1:{port}", "tls": True})


@pytest.mark.parametrize(
    ("host", "what"),
    [("tcp://127.0.0.1:2375", "plain"), ("unix:///var/run/docker.sock", "local"), ("ssh://ann@bee", "local")],
)
def test_endpoint_without_tls(host: str, what: str) -> None:
    assert stranger({"docker_host": host}) == what
