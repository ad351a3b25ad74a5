#!/usr/bin/env python3
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How long a cluster of container nodes takes, by phase and size, beside the plainest script that makes the same calls.

usage: make bench ARGS='sizes [SIZE...]'   (2 5 10 20 unless told otherwise)

For each size the playbook makes a cluster, and runs again with nothing to do, beside an empty play and a script that
asks what the run asks. Then a script makes the same cluster: as many nodes from the same image, the same swarm, the
same archives loaded, the very services that the playbook made, asked until every task was heard through every node.
All in one go, so that a busy machine slows all of it: the ratios are what counts. What was made is removed again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import yaml

from ansible_collections.apiary.swarm.plugins.module_utils import containers
from ansible_collections.apiary.swarm.plugins.module_utils.cluster_files import endpoint, prepared
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import Client, tls_config
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache
from ansible_collections.apiary.swarm.plugins.module_utils.pki import ensure_certificate

ROOT = Path(__file__).resolve().parents[2]
ENGINE = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
CACHE = ImageCache(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apiary" / "images")
STACK, PORT = "getstartedlab", 4000
SIZES = [2, 5, 10, 20]
RERUNS = 5
PHASES = ("Machines", "Swarm", "Images", "Stack")
# what belongs to the cluster that a service's specification was read from
_NETWORK_KEYS = ("Name", "Driver", "Attachable", "Internal", "Labels")


class Cluster:
    """A cluster in ranges of its own: where its nodes are, and how they are reached."""

    def __init__(self, name: str, number: int, size: int, state: Path) -> None:
        self.name = name
        self.network = f"192.168.{number}.0/24"
        self.loopback_network = f"127.0.{number}.0/24"
        self.directory = state / "apiary" / name
        self.managers = 1 if size < 3 else 3
        self.nodes = [f"node{index}" for index in range(1, size + 1)]

    def address(self, node: str) -> str:
        return self.network.replace("0/24", str(100 + int(node.removeprefix("node"))))

    def entrypoint(self, node: str) -> str:
        return self.loopback_network.replace("0/24", str(100 + int(node.removeprefix("node"))))

    @contextmanager
    def api(self, node: str) -> Iterator[Any]:
        reached = endpoint(self.directory, self.entrypoint(node))
        client = Client(base_url=reached["docker_host"], tls=tls_config(reached), version="auto", timeout=300)
        try:
            yield client
        finally:
            client.close()


def on_all(nodes: list[str], work: Callable[[str], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(nodes)) as pool:
        return list(pool.map(work, nodes))


def image_list(*names: str) -> list[dict[str, str]]:
    """Return the inventories' image_list, with these images alone."""
    return [{"name": f"apiary/{name}", "context": str(ROOT / "images" / name)} for name in names]


class Playbook:
    """The cluster as Apiary makes it."""

    def __init__(self, cluster: Cluster, state: Path) -> None:
        self.cluster = cluster
        self.inventory = state / f"inventory-{cluster.name}-{len(cluster.nodes)}"
        shutil.copytree(ROOT / "inventories" / "containers" / "group_vars", self.inventory / "group_vars")
        members = {
            "managers": cluster.nodes[: cluster.managers],
            "workers": cluster.nodes[cluster.managers :],
        }
        hosts = {group: {"hosts": dict.fromkeys(names)} for group, names in members.items()}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
        (state / "empty.yml").write_text("- hosts: all\n  gather_facts: false\n")
        self.empty = state / "empty.yml"
        self.environment = {**os.environ, "XDG_STATE_HOME": str(state), "ANSIBLE_NOCOLOR": "1"}

    def run(self, playbook: str | Path, *arguments: str) -> tuple[float, str]:
        settings = {
            "cluster_name": self.cluster.name,
            "container_machine_network": self.cluster.network,
            "container_machine_loopback_network": self.cluster.loopback_network,
            "stack_services": ["web"],
            "image_list": image_list("web", "ingress"),
            "web_replicas": len(self.cluster.nodes),
            "project_dir": str(ROOT),
        }
        command = ["ansible-playbook", "-i", str(self.inventory), str(playbook), "-e", json.dumps(settings), *arguments]
        started = time.monotonic()
        result = subprocess.run(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if result.returncode:
            sys.exit(result.stdout)
        return time.monotonic() - started, result.stdout

    def rerun(self) -> tuple[float, str]:
        seconds, output = self.run("playbooks/site.yml")
        if sum(map(int, re.findall(r"changed=(\d+)", output))):
            sys.exit(f"a run that has nothing to do changed something:\n{output}")
        return seconds, output


class Bare:
    """The same cluster, made by nothing but the calls it takes."""

    def __init__(self, cluster: Cluster, model: Cluster) -> None:
        self.cluster = cluster
        with model.api(model.nodes[0]) as api:
            self.services = sorted(api.services(), key=lambda service: str(service["Spec"]["Name"]))
            self.overlays = {
                network["Id"]: network for network in api.networks() if network["Name"].startswith(f"{STACK}_")
            }
            tags = [tag for image in api.images() for tag in image["RepoTags"] or []]
        # an image built on one of our bases is loaded after it
        self.archives = [CACHE.path(tag) for tag in sorted(tags, key=lambda tag: not tag.startswith("apiary/base:"))]
        with containers.outer_engine(ENGINE) as api:
            self.image = api.inspect_container(f"{model.name}-{model.nodes[0]}")["Config"]["Image"]

    def machines(self) -> None:
        cluster = self.cluster
        with prepared(cluster.directory, cluster.name), containers.outer_engine(ENGINE) as api:
            containers.ensure_network(api, cluster.name, cluster.network)
        on_all(cluster.nodes, self._machine)

    def _machine(self, name: str) -> None:
        cluster = self.cluster
        directory = cluster.directory / "machines" / name
        directory.mkdir(parents=True)
        addresses = [cluster.entrypoint(name), cluster.address(name)]
        pki = cluster.directory / "pki"
        ensure_certificate(pki, directory / "cert.pem", directory / "key.pem", name, addresses)
        node = containers.Node(
            cluster=cluster.name,
            name=name,
            image=self.image,
            network=cluster.name,
            address=cluster.address(name),
            entrypoint=cluster.entrypoint(name),
            ports=frozenset({containers.Port("tcp", PORT)}),
            privileges="auto",
            authority=pki / "ca.pem",
            revocations=pki / "crl.pem",
            tls_directory=directory,
        )
        with containers.outer_engine(ENGINE) as api:
            containers.bring_up(api, node, [])
            containers.wait_until_answering(api, node, endpoint(cluster.directory, node.entrypoint), 300)

    def swarm(self) -> None:
        cluster = self.cluster
        first = cluster.nodes[0]
        with cluster.api(first) as api:
            api.init_swarm(advertise_addr=cluster.address(first))
            tokens = api.inspect_swarm()["JoinTokens"]

        def join(node: str, token: str) -> None:
            with cluster.api(node) as api:
                api.join_swarm([f"{cluster.address(first)}:2377"], token, advertise_addr=cluster.address(node))

        for node in cluster.nodes[1 : cluster.managers]:
            join(node, tokens["Manager"])
        on_all(cluster.nodes[cluster.managers :], lambda node: join(node, tokens["Worker"]))

    def images(self) -> None:
        def load(node: str) -> None:
            with self.cluster.api(node) as api:
                for archive in self.archives:
                    with archive.open("rb") as file:
                        list(api.load_image(file, quiet=True))

        on_all(self.cluster.nodes, load)

    def stack(self) -> None:
        with self.cluster.api(self.cluster.nodes[0]) as api:
            identities = {}
            for identity, network in self.overlays.items():
                data = {key: network[key] for key in _NETWORK_KEYS}
                url = api._url("/networks/create")
                identities[identity] = api._result(api._post_json(url, data=data), True)["Id"]
            for service in self.services:
                spec = json.loads(json.dumps(service["Spec"]))
                for attached in spec["TaskTemplate"].get("Networks") or []:
                    attached["Target"] = identities[attached["Target"]]
                api._raise_for_status(api._post_json(api._url("/services/create"), data=spec))
            wanted = len(self.services) * len(self.cluster.nodes)
            while len(heard := self._running(api)) < wanted:
                time.sleep(0.3)
        self.ask(heard)

    def _running(self, api: Any) -> dict[str, str]:
        """Return the running tasks: short container ID to service."""
        names = {service["ID"]: service["Spec"]["Name"] for service in api.services()}
        return {
            task["Status"]["ContainerStatus"]["ContainerID"][:12]: names[task["ServiceID"]]
            for task in api.tasks()
            if task["DesiredState"] == task["Status"]["State"] == "running"
        }

    def ask(self, running: dict[str, str]) -> None:
        """Ask every node until every web task has answered."""
        web = {container for container, name in running.items() if name == f"{STACK}_web"}

        def ask(node: str) -> None:
            missing = set(web)
            while missing:
                url = f"http://{self.cluster.entrypoint(node)}:{PORT}/"
                try:
                    response = requests.get(url, headers={"Accept": "application/json"}, timeout=20)
                    missing.discard(response.json()["container_id"])
                except (OSError, ValueError):
                    time.sleep(0.2)

        on_all(self.cluster.nodes, ask)

    def questions(self, cluster: Cluster) -> None:
        """Ask of *cluster* what a run with nothing to do asks: the engines, the manager, the web."""

        def engine(node: str) -> None:
            with containers.outer_engine(ENGINE) as outer:
                containers.find(outer, cluster.name)
            with cluster.api(node) as api:
                api.info()
                api.images()

        on_all(cluster.nodes, engine)
        with cluster.api(cluster.nodes[0]) as api:
            for question in (api.inspect_swarm, api.nodes, api.configs):
                question()
            running = self._running(api)
        mine, self.cluster = self.cluster, cluster
        self.ask(running)
        self.cluster = mine


def timed(work: Callable[[], Any]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def phases_of(output: str) -> dict[str, float]:
    line = re.search(r"^.* · total .*$", output, re.MULTILINE)
    return {name: float(value) for name, value in re.findall(r"(\w+) (\d+\.\d) s", line[0] if line else "")}


def measure(size: int, state: Path) -> dict[str, Any]:
    """Make the cluster of *size* nodes both ways, and run again; return the seconds."""
    ours, plain = Cluster("bench", 90, size, state), Cluster("bench-bare", 92, size, state)
    playbook = Playbook(ours, state)
    result: dict[str, Any] = {"size": size}
    destroy = ("playbooks/destroy.yml", "-e", "destroy_confirmed=true")
    try:
        seconds, output = playbook.run("playbooks/site.yml")
        result["ours"] = {**phases_of(output), "whole": seconds}
        bare = Bare(plain, ours)
        rounds = []
        for _ in range(RERUNS):
            seconds, output = playbook.rerun()
            empty, _output = playbook.run(playbook.empty)
            rounds.append({"rerun": seconds, "empty": empty, "bare": timed(lambda: bare.questions(ours))})
            result["rerun phases"] = phases_of(output)
        result["again"] = {key: statistics.median(entry[key] for entry in rounds) for key in rounds[0]}
        playbook.run(*destroy)
        steps = {"Machines": bare.machines, "Swarm": bare.swarm, "Images": bare.images, "Stack": bare.stack}
        result["bare"] = {phase: timed(step) for phase, step in steps.items()}
        result["bare"]["whole"] = sum(result["bare"].values())
    finally:
        playbook.run(*destroy)
        Playbook(plain, state).run(*destroy)
    return result


def report(results: list[dict[str, Any]]) -> Iterator[str]:
    """Yield two tables in Markdown: making clusters, and running again."""
    yield "| nodes | " + " | ".join(PHASES) + " | whole run | bare script | ratio |"
    yield "|---" * (len(PHASES) + 4) + "|"
    for result in results:
        ours, bare = result["ours"], result["bare"]
        cells = [f"{ours[phase]:.1f} ({bare[phase]:.1f})" for phase in PHASES]
        yield f"| {result['size']} | {' | '.join(cells)} | {ours['whole']:.1f} | {bare['whole']:.1f} | " + (
            f"{ours['whole'] / bare['whole']:.2f} |"
        )
    yield ""
    yield "| nodes | run again | to the first | Ansible's start | engines | tasks and plugins |"
    yield "|---|---|---|---|---|---|"
    for result in results:
        again = result["again"]
        rest = again["rerun"] - again["empty"] - again["bare"]
        shares = [
            f"{seconds:.1f} ({seconds / again['rerun']:.0%})" for seconds in (again["empty"], again["bare"], rest)
        ]
        growth = again["rerun"] / results[0]["again"]["rerun"]
        yield f"| {result['size']} | {again['rerun']:.1f} | {growth:.2f} | {' | '.join(shares)} |"
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result["rerun phases"].items())
        print(f"{result['size']} nodes, phases of the last run again: {phases}", file=sys.stderr)


def main() -> None:
    """Measure each size, the smallest first, and print the tables."""
    os.environ.pop("REQUESTS_CA_BUNDLE", None)  # it would replace the clusters' own authorities
    sizes = [int(argument) for argument in sys.argv[1:]] or SIZES
    with tempfile.TemporaryDirectory(prefix="apiary-bench-") as directory:
        results = []
        for size in sizes:
            results.append(measure(size, Path(directory)))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print("\n".join(report(results)))


if __name__ == "__main__":
    main()
