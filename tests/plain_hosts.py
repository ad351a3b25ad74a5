# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hosts with SSH and sudo and nothing else, as containers: what existing_machine is tried on.

root, ann (who may do everything by sudo) and bob (who must give his password for it) log in with one key. The hosts of
a set are on one network, which this computer reaches, at their usual port.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import docker
import docker.errors

from ansible_collections.apiary.swarm.plugins.module_utils import containers
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import Client
from tests.clusters import engine
from tests.engine_images import image_in, start_container

PROJECT = Path(__file__).resolve().parents[1]
RESOURCES = PROJECT / "molecule" / "resources" / "plain-host"
NODE = PROJECT / "roles" / "container_machine" / "files" / "node"
BOB = "correct horse"
_LABEL = "apiary.plain-hosts"
_START_SECONDS = 60


def client(address: str) -> docker.DockerClient:
    """An engine, asked as Apiary does: deaf to proxies and CA bundles of the environment."""
    found = docker.DockerClient.__new__(docker.DockerClient)
    found.api = Client(address, version="auto", timeout=120)
    return found


@dataclass(frozen=True)
class PlainHosts:
    """A set of hosts, by the name that their containers have before theirs, and the directory of their keys."""

    name: str
    directory: Path

    @property
    def key(self) -> Path:
        """The private key that all of their users know."""
        return self.directory / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @cached_property
    def outer(self) -> docker.DockerClient:
        """The engine that they are containers of."""
        return client(engine())

    def container(self, host: str) -> Any:
        return self.outer.containers.get(f"{self.name}-{host}")

    def run(self, host: str, command: str) -> str:
        """Run a command as root on a host, as somebody who sits at it, and return what it prints."""
        status, output = self.container(host).exec_run(["/bin/sh", "-c", command])
        assert status == 0, output.decode()
        return str(output.decode())

    # Making

    def create(self, subnet: str, addresses: Mapping[str, str], network: str = "") -> None:
        """Make the hosts that are not there; on a network of their own unless they are to share one."""
        api = self.outer.api
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        # How an engine lives in a container is the node's to know.
        image = image_in(api, "apiary/plain-host", RESOURCES, {"prepare": NODE / "prepare"})
        if network:
            containers.ensure_network(api, network, subnet)
        elif not api.networks(names=[self.name]):
            pool = docker.types.IPAMPool(subnet=subnet)
            config = docker.types.IPAMConfig(pool_configs=[pool])
            api.create_network(self.name, driver="bridge", ipam=config, labels={_LABEL: self.name})
        for host, address in addresses.items():
            try:
                self.container(host)
            except docker.errors.NotFound:
                self._start(image, host, address, network or self.name)
        self.know(addresses)

    def _start(self, image: str, host: str, address: str, network: str) -> None:
        api, name = self.outer.api, f"{self.name}-{host}"
        api.create_volume(name, labels={_LABEL: self.name})
        endpoint = api.create_endpoint_config(ipv4_address=address)
        start_container(
            api,
            image,
            containers.host_configs(api, "auto", [f"{name}:/var/lib/docker"]),
            {"/etc": _archive("authorized_keys", self.key.with_suffix(".pub").read_bytes())},
            name=name,
            hostname=host,
            labels={_LABEL: self.name},
            networking_config={"EndpointsConfig": {network: endpoint}},
        )

    def know(self, addresses: Mapping[str, str]) -> None:
        """Write down the hosts' keys, as somebody does who has compared them."""
        lines = []
        for host, address in addresses.items():
            deadline = time.monotonic() + _START_SECONDS
            ready = "test -e /run/sshd.pid && cat /etc/ssh/ssh_host_ed25519_key.pub"
            while (asked := self.container(host).exec_run(["/bin/sh", "-c", ready])).exit_code:
                assert time.monotonic() < deadline, f"{host} has no SSH server: {self.container(host).logs().decode()}"
                time.sleep(0.2)
            lines.append(f"{address} {' '.join(asked.output.decode().split()[:2])}\n")
        self.known_hosts.write_text("".join(lines))

    def remove(self) -> None:
        """Remove all that carries the label."""
        api, ours = self.outer.api, {"label": f"{_LABEL}={self.name}"}
        for container in api.containers(all=True, filters=ours):
            containers.remove(api, container["Id"])
        for volume in api.volumes(filters=ours)["Volumes"] or []:
            api.remove_volume(volume["Name"], force=True)
        for network in api.networks(filters=ours):
            api.remove_network(network["Id"])
        shutil.rmtree(self.directory, ignore_errors=True)


def _archive(name: str, content: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o644
        tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()
