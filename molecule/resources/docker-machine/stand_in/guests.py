# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""VMs that are containers: their image, their networks, and their life on the local Docker Engine."""

from __future__ import annotations

import io
import ipaddress
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker.errors

from ansible_collections.apiary.swarm.plugins.module_utils import containers
from stand_in.engine import docker_host
from tests.engine_images import image_in

LABEL = "apiary.stand-in"
_HOME = Path(__file__).resolve().parents[1]
_NODE = _HOME.parents[2] / "roles" / "container_machine" / "files" / "node"
_ADAPTER_LABEL = "apiary.stand-in.adapter"
#: how often the guest's DHCP client sees to it that it has the address it was given
_RENEW_SECONDS = 60


@dataclass(frozen=True)
class Adapter:
    """A host-only adapter: a bridge of the engine on which the host has an address."""

    network: str
    address: ipaddress.IPv4Interface


@dataclass(frozen=True)
class Guest:
    """A VM that is to be started."""

    container: str
    adapter: Adapter | None
    mac: str
    #: where the engine outside believes the guest to be, and what its DHCP client is told; empty when nobody answers
    address: str
    lease: str
    ssh_port: int
    #: the first blocks of its disk
    userdata: bytes
    has_engine: bool


class Hypervisor:
    """The engine that runs the guests of one VirtualBox, whose *prefix* their names have."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.labels = {LABEL: prefix}

    @contextmanager
    def api(self) -> Iterator[Any]:
        with containers.outer_engine(docker_host()) as api:
            yield api

    def image(self, api: Any) -> str:
        """Return the reference of the guest's image, which the engine then has."""
        # How an engine lives in a container, and what it is made of, is the node's to know.
        shared = {"prepare": _NODE / "prepare", "base/bootstrap.sh": _NODE / "base" / "bootstrap.sh"}
        return image_in(api, "apiary/boot2docker", _HOME / "guest", shared)

    def start(self, guest: Guest, offer: int) -> int:
        """Start a guest whose root is new, and return by which offer of privileges the engine could."""
        with self.api() as api:
            image = self.image(api)
            with suppress(docker.errors.APIError):
                api.unpause(guest.container)
            containers.remove(api, guest.container)
            if guest.adapter:
                self._ensure_network(api, guest.adapter)
            api.create_volume(guest.container, labels=self.labels)
            offers = containers.host_configs(
                api,
                "auto",
                [f"{guest.container}:/mnt/sda1"],
                port_bindings={"22/tcp": ("127.0.0.1", guest.ssh_port)},
                network_mode=guest.adapter.network if guest.adapter else "bridge",
            )
            for number, host_config in list(enumerate(offers))[offer:]:
                try:
                    self._start(api, guest, image, host_config)
                    return number
                except docker.errors.APIError as error:
                    containers.remove(api, guest.container)
                    if number == len(offers) - 1 or not containers.is_refused_privilege(error):
                        raise
        raise AssertionError

    def _start(self, api: Any, guest: Guest, image: str, host_config: Mapping[str, Any]) -> None:
        networks = {}
        if guest.adapter:
            networks[guest.adapter.network] = api.create_endpoint_config(ipv4_address=guest.address)
        container = api.create_container(
            image,
            name=guest.container,
            hostname="boot2docker",
            ports=[(22, "tcp")],
            labels=self.labels,
            host_config=dict(host_config),
            networking_config=api.create_networking_config(networks) if networks else None,
            mac_address=guest.mac,
        )["Id"]
        if guest.adapter:
            api.connect_container_to_network(container, "bridge")  # NAT
        api.put_archive(container, "/", _files(guest))
        api.start(container)

    def _ensure_network(self, api: Any, adapter: Adapter) -> None:
        wanted = str(adapter.address)
        for network in api.networks(names=[adapter.network]):
            if network["Name"] != adapter.network:
                continue
            if network["Labels"].get(_ADAPTER_LABEL) == wanted:
                return
            api.remove_network(network["Id"])
        pool = docker.types.IPAMPool(subnet=str(adapter.address.network), gateway=str(adapter.address.ip))
        api.create_network(
            adapter.network,
            driver="bridge",
            ipam=docker.types.IPAMConfig(pool_configs=[pool]),
            labels={**self.labels, _ADAPTER_LABEL: wanted},
            check_duplicate=True,
            internal=True,  # host-only: nothing beyond the host is reached through it
        )

    def pause(self, container: str) -> None:
        with self.api() as api:
            api.pause(container)

    def resume(self, container: str) -> None:
        with self.api() as api:
            api.unpause(container)

    def press_power_button(self, container: str) -> None:
        with self.api() as api:
            api.kill(container, signal="SIGPWR")

    def power_off(self, container: str) -> None:
        with self.api() as api:
            with suppress(docker.errors.APIError):
                api.unpause(container)
            containers.remove(api, container)

    def delete(self, container: str) -> None:
        self.power_off(container)
        with self.api() as api, suppress(docker.errors.NotFound):
            api.remove_volume(container, force=True)

    def clear(self) -> None:
        """Remove everything that carries the label."""
        filters = {"label": f"{LABEL}={self.prefix}"}
        with self.api() as api:
            for container in api.containers(all=True, filters=filters):
                with suppress(docker.errors.APIError):
                    api.unpause(container["Id"])
                containers.remove(api, container["Id"])
            for volume in api.volumes(filters=filters)["Volumes"] or []:
                api.remove_volume(volume["Name"], force=True)
            for network in api.networks(filters=filters):
                api.remove_network(network["Id"])


def _files(guest: Guest) -> bytes:
    settings = {
        "HOSTONLY_MAC": guest.mac,
        "LEASE": guest.lease,
        "RENEW_SECONDS": _RENEW_SECONDS,
        "NO_ENGINE": "" if guest.has_engine else "yes",
    }
    lines = "".join(f"{name}='{value}'\n" for name, value in settings.items())
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in {"etc/stand-in": lines.encode(), "userdata.tar": guest.userdata}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()
