# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The directory of a cluster whose machines Apiary makes: its authority, and what the controller shows to engines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.files import lock, private_directory, write_private
from ansible_collections.apiary.swarm.plugins.module_utils.pki import (
    ensure_authority,
    ensure_certificate,
    ensure_revocations,
)

#: where machines of Apiary's own have their Docker API, with TLS
API_PORT = 2376


@contextmanager
def prepared(directory: Path, cluster: str) -> Iterator[None]:
    """Make the authority and the client's key and certificate unless they are there, and hold the cluster's lock.

    The workers of all machines come here at once.
    """
    private_directory(directory)
    with lock(directory / "lock"):
        ensure_authority(directory / "pki", cluster)
        ensure_revocations(directory / "pki")
        authority = (directory / "pki" / "ca.pem").read_bytes()
        client = private_directory(directory / "client")  # laid out as DOCKER_CERT_PATH wants it
        if not (client / "ca.pem").exists() or (client / "ca.pem").read_bytes() != authority:
            write_private(client / "ca.pem", authority)
        ensure_certificate(directory / "pki", client / "cert.pem", client / "key.pem", "apiary client", [])
        yield


def endpoint(directory: Path, address: str) -> dict[str, Any]:
    """Return how the controller reaches the engine at *address*, a ``machine_docker`` dict."""
    client = directory / "client"
    return {
        "docker_host": f"tcp://{address}:{API_PORT}",
        "tls": True,
        "validate_certs": True,
        "ca_path": str(client / "ca.pem"),
        "client_cert": str(client / "cert.pem"),
        "client_key": str(client / "key.pem"),
    }
