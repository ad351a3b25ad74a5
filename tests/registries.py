# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Registries of somebody's own, beside the nodes of a scenario: Debian's docker-registry, as people set it up."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from ansible_collections.apiary.swarm.plugins.module_utils.containers import CLUSTER_LABEL
from ansible_collections.apiary.swarm.plugins.module_utils.pki import ensure_authority, ensure_certificate

USERNAME, PASSWORD = "ann", "swordfish-of-the-registry"
#: made with: htpasswd -nbBC 4 ann swordfish-of-the-registry
_HTPASSWD = b"ann:$2b$04$ekCQ3yjVDeGz9GkCHCtrCecwrK8i.Q6oXi2Utk3qVOL6oIGShNA62\n"
_PORT = 5000


@dataclass(frozen=True)
class OwnRegistry:
    """A registry that runs, and what a client of it needs."""

    address: str
    url: str
    authority: Path | None

    def tags(self, repository: str) -> dict[str, str]:
        """The digests of what is in the registry under a name, by tag."""
        found = self._get(f"{repository}/tags/list").json().get("tags") or []
        accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
        return {
            tag: self._get(f"{repository}/manifests/{tag}", accept).headers["Docker-Content-Digest"] for tag in found
        }

    def _get(self, path: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        verify: Any = str(self.authority) if self.authority else True
        login = (USERNAME, PASSWORD) if self.authority else None
        return requests.get(f"{self.url}/v2/{path}", headers=headers, auth=login, verify=verify, timeout=20)


@contextmanager
def own_registry(
    engine: Any, image: str, cluster: str, address: str, directory: Path, *, secured: bool
) -> Iterator[OwnRegistry]:
    """Run a registry on *engine*, in the network of *cluster*: with TLS and a login, or with neither."""
    name = f"{cluster}-registry-{address.replace('.', '-')}"
    files: dict[str, bytes] = {}
    environment: dict[str, str] = {}
    if secured:
        ensure_authority(directory, "own registry")
        ensure_certificate(directory, directory / "cert.pem", directory / "key.pem", "registry", [address])
        files = {name: (directory / name).read_bytes() for name in ("cert.pem", "key.pem")} | {"htpasswd": _HTPASSWD}
        environment = {
            "REGISTRY_HTTP_TLS_CERTIFICATE": "/own/cert.pem",
            "REGISTRY_HTTP_TLS_KEY": "/own/key.pem",
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "own",
            "REGISTRY_AUTH_HTPASSWD_PATH": "/own/htpasswd",
        }
    api = engine.api
    network = api.create_networking_config({cluster: api.create_endpoint_config(ipv4_address=address)})
    container = api.create_container(
        image, name=name, labels={CLUSTER_LABEL: cluster}, environment=environment, networking_config=network
    )
    try:
        if files:
            api.put_archive(container, "/", _archive(files))
        api.start(container)
        yield OwnRegistry(
            f"{address}:{_PORT}",
            f"{'https' if secured else 'http'}://{address}:{_PORT}",
            directory / "ca.pem" if secured else None,
        )
    finally:
        api.remove_container(container, force=True, v=True)


def trust(container: Any, address: str, authority: Path) -> None:
    """Have the engine in a node's container trust a registry, as an administrator does."""
    container.put_archive("/", _archive({"ca.crt": authority.read_bytes()}, f"etc/docker/certs.d/{address}"))


def _archive(files: Mapping[str, bytes], directory: str = "own") -> bytes:
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(f"{directory}/{name}")
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()
