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
    authority_is_outdated,
    ensure_authority,
    ensure_certificate,
    ensure_revocations,
    is_good,
)

#: where machines of Apiary's own have their Docker API, with TLS
API_PORT = 2376


@contextmanager
def prepared(directory: Path, cluster: str) -> Iterator[list[str]]:
    """Make the authority and the client's key and certificate unless they are there, and hold the cluster's lock.

    The workers of all machines come here at once; the first is given what was there and had to be renewed, in words.
    """
    private_directory(directory)
    with lock(directory / "lock"):
        renewed = _due(directory)
        ensure_authority(directory / "pki", cluster)
        ensure_revocations(directory / "pki")
        authority = (directory / "pki" / "ca.pem").read_bytes()
        client = private_directory(directory / "client")  # laid out as DOCKER_CERT_PATH wants it
        if not (client / "ca.pem").exists() or (client / "ca.pem").read_bytes() != authority:
            write_private(client / "ca.pem", authority)
        ensure_certificate(directory / "pki", client / "cert.pem", client / "key.pem", "apiary client", [])
        yield renewed


def renew(directory: Path, cluster: str, *, check_mode: bool) -> list[str]:
    """Renew what there is of the authority and of the client's certificate; return what was (or would be) done."""
    due = _due(directory)
    if check_mode or not due:
        return due
    with prepared(directory, cluster) as renewed:
        return renewed


def _due(directory: Path) -> list[str]:
    pki, client = directory / "pki", directory / "client"
    if not (pki / "ca.pem").exists():
        return []
    due = []
    if authority_is_outdated(pki):
        due.append("renew the certificate of the cluster's authority, with the same key")
    elif (client / "ca.pem").exists() and (client / "ca.pem").read_bytes() != (pki / "ca.pem").read_bytes():
        due.append("renew this computer's copy of the authority's certificate")
    if (client / "cert.pem").exists() and not is_good(pki, client / "cert.pem", client / "key.pem", []):
        due.append("renew this computer's certificate")
    return due


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
