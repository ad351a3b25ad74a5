# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of all scenarios use: the nodes as containers, their engines, and Apiary's playbooks.

Tests ask engines, the outer one and those of the nodes. They are run by 'molecule verify', which sets the environment.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
import testinfra.host
from testinfra.backend.base import BaseBackend, CommandResult

from ansible_collections.apiary.swarm.plugins.module_utils.container_exec import execute
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import Client
from tests.clusters import engine, run_until

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
STATE = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "state"
INVENTORY = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
CLUSTER = "molecule-" + os.environ["MOLECULE_SCENARIO_NAME"].replace("_", "-")


class ContainerBackend(BaseBackend):
    """Testinfra's way into a node, over the engine's API: this computer may have no Docker client."""

    NAME = "container"

    def __init__(self, container: Any) -> None:
        super().__init__(container.name)
        self.container = container

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        command = self.get_command(command, *args)
        status, (output, errors) = self.container.exec_run(["/bin/sh", "-c", command], demux=True)
        return self.result(status, self.encode(command), output or b"", errors or b"")


class Engine(docker.DockerClient):
    """An engine, asked as Apiary does: deaf to proxies and CA bundles of the environment."""

    def __init__(self, address: str, tls: docker.tls.TLSConfig | bool = False) -> None:
        self.api = Client(address, tls=tls, version="auto", timeout=60)


@dataclass
class Run:
    """What a playbook said, and how it ended."""

    status: int
    output: str


def command(playbook: str, *arguments: str, inventory: Path = INVENTORY) -> list[str]:
    path = playbook if playbook.endswith(".yml") else f"playbooks/{playbook}.yml"
    return ["ansible-playbook", "-i", str(inventory), path, *arguments]


class Scenario:
    """The cluster of the scenario that is being verified."""

    name = CLUSTER
    state = STATE
    project = PROJECT

    @cached_property
    def outer(self) -> Engine:
        """The engine that nodes are containers of."""
        return Engine(engine())

    @property
    def containers(self) -> dict[str, Any]:
        """The nodes' containers by node name, also those that do not run."""
        found = self.outer.containers.list(all=True, filters={"label": f"apiary.cluster={CLUSTER}"})
        return {container.labels["apiary.node"]: container for container in found if "apiary.node" in container.labels}

    def inside(self, node: str) -> testinfra.host.Host:
        """Testinfra's view of a node from inside."""
        return testinfra.host.Host(ContainerBackend(self.containers[node]))

    @cached_property
    def range(self) -> int:
        """The number that this scenario's ranges have: 127.0.<number>.0/24 and 192.168.<number>.0/24."""
        shared = (PROJECT / "molecule/inventory/group_vars/all.yml").read_text()
        names = [line.strip(" -") for line in shared.splitlines() if line.startswith("  - ")]
        return 100 + names.index(os.environ["MOLECULE_SCENARIO_NAME"])

    def entrypoint(self, node: str) -> str:
        """The loopback address of a node, whose number ends its name."""
        return f"127.0.{self.range}.{100 + int(node.lstrip('abcdefghijklmnopqrstuvwxyz'))}"

    def endpoint(self, node: str) -> dict[str, Any]:
        """How a node's own engine is reached, as the variable machine_docker says it."""
        client = STATE / CLUSTER / "client"
        keys = {"ca_path": "ca.pem", "client_cert": "cert.pem", "client_key": "key.pem"}
        return {
            "docker_host": f"tcp://{self.entrypoint(node)}:2376",
            "validate_certs": True,
            **{option: str(client / name) for option, name in keys.items()},
        }

    def engine(self, node: str, keys: bool = True) -> Engine:
        """A node's own engine, as everyone reaches it; without keys, as a stranger does."""
        endpoint = self.endpoint(node)
        pair = (endpoint["client_cert"], endpoint["client_key"]) if keys else None
        tls = docker.tls.TLSConfig(ca_cert=endpoint["ca_path"], client_cert=pair, verify=True)
        return Engine(endpoint["docker_host"], tls)

    def engine_with(self, keys: Path, address: str) -> Engine:
        """An engine as somebody reaches it who has these keys alone."""
        pair = (str(keys / "cert.pem"), str(keys / "key.pem"))
        return Engine(address, docker.tls.TLSConfig(ca_cert=str(keys / "ca.pem"), client_cert=pair, verify=True))

    def membership(self, node: str) -> dict[str, Any]:
        """What a node's engine says of its swarm."""
        found: dict[str, Any] = self.engine(node).info()["Swarm"]
        return found

    def listed(self, manager: str) -> dict[str, list[dict[str, Any]]]:
        """All entries of the swarm's list of nodes, by host name, as a manager has it."""
        entries: dict[str, list[dict[str, Any]]] = {}
        for entry in self.engine(manager).api.nodes():
            entries.setdefault(entry["Description"]["Hostname"], []).append(entry)
        return entries

    def ready(self, manager: str) -> dict[str, str]:
        """The nodes that a manager lists as ready, one entry each, and what each is."""
        roles = {}
        for name, entries in self.listed(manager).items():
            assert len(entries) == 1, f"{name} is listed {len(entries)} times"
            (entry,) = entries
            if entry["Status"]["State"] == "ready":
                leads = entry.get("ManagerStatus", {}).get("Leader", False)
                roles[name] = "leader" if leads else entry["Spec"]["Role"]
        return roles

    def running_tasks(self, manager: str, service: str = "getstartedlab_web") -> dict[str, str]:
        """The running tasks of a service: container ID to node name."""
        names = {entry["ID"]: entry["Description"]["Hostname"] for entry in self.engine(manager).api.nodes()}
        tasks = self.engine(manager).api.tasks({"service": service, "desired-state": "running"})
        return {
            task["Status"]["ContainerStatus"]["ContainerID"]: names[task["NodeID"]]
            for task in tasks
            if task["Status"]["State"] == "running"
        }

    def heard(self, node: str, wanted: set[str], seconds: float = 60) -> set[str]:
        """The tasks of the web service that answer through a node, asked over new connections until all have."""
        found: set[str] = set()
        deadline = time.monotonic() + seconds
        while not found >= wanted and time.monotonic() < deadline:
            url = f"http://{self.entrypoint(node)}:4000/"
            answer = requests.get(url, headers={"Accept": "application/json"}, timeout=20)
            answer.raise_for_status()
            found.add(answer.json()["container_id"])
        return found

    def counted(self, node: str, seconds: float = 60) -> int:
        """The number of visits, as the web service counts one through a node, once it has found Redis."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            url = f"http://{self.entrypoint(node)}:4000/"
            answer = requests.get(url, headers={"Accept": "application/json"}, timeout=20)
            answer.raise_for_status()
            if (visits := answer.json()["visits"]) is not None:
                return int(visits)
            time.sleep(0.5)
        raise AssertionError(f"no visit was counted in {seconds} s")

    def redis(self, node: str, *command: str) -> str:
        """What Redis, which runs on a node, prints when it is asked there."""
        (container,) = self.running_tasks(node, "getstartedlab_redis")
        status, output = execute(self.engine(node).api, container, command)
        assert status == 0, output
        return output

    def availability(self, manager: str, node: str) -> tuple[str, str | None]:
        """The availability of a node, and the one that is remembered for it."""
        (entry,) = self.listed(manager)[node]
        labels = entry["Spec"].get("Labels") or {}
        return entry["Spec"]["Availability"], labels.get("apiary.maintenance.availability")

    def make_available(self, manager: str, node: str, availability: str) -> None:
        """Set the availability of a node, as an operator does."""
        (entry,) = self.listed(manager)[node]
        spec: Any = {**entry["Spec"], "Availability": availability}
        self.engine(manager).api.update_node(entry["ID"], entry["Version"]["Index"], spec)

    def url(self, node: str) -> str:
        """Where the web service is reached through a node."""
        return f"http://{self.entrypoint(node)}:4000/"

    def play(self, playbook: str, *arguments: str, inventory: Path = INVENTORY, succeeds: bool = True) -> Run:
        """Run a playbook to its end: one of Apiary's by its name, others by their path."""
        result = subprocess.run(
            command(playbook, *arguments, inventory=inventory),
            cwd=PROJECT,
            env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert (result.returncode == 0) == succeeds, result.stdout
        return Run(result.returncode, result.stdout)

    def play_until(self, playbook: str, task: str, *arguments: str, seconds: float = 0.5) -> None:
        """Run a playbook until *seconds* after a task whose name contains *task* has begun, and kill it all there."""
        run_until(command(playbook, *arguments), os.environ, task, seconds=seconds)


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    """The cluster of the scenario that is being verified."""
    return Scenario()


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], Any], float], Any]:
    """Wait until something is true: for what an engine does in its own time."""

    def wait(condition: Callable[[], Any], seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := condition()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return value

    return wait
