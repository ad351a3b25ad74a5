#!/usr/bin/env python3
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How long clones of a golden snapshot take, beside cold boots, and beside the plainest script for the same calls.

usage: make bench ARGS='snapshots [RUNS] [RUNS_OF_SITE]'   (5 and 1 unless told otherwise)

Machine image, golden snapshot and archives are made first, if need be. Then, taking turns so that a busy machine slows
all of it: a clone, the same without anything of Apiary's (QEMU, its monitor, the machine's API), a cold boot of the
same lean machine, three clones at once. And site.yml with two nodes and one web service, beside a script that resumes
the same snapshots and makes the same calls. The ratios are what counts. What was made is removed again.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sizes  # type: ignore[import-not-found]  # beside this script

from ansible_collections.apiary.swarm.plugins.module_utils import qemu, qemu_snapshot
from ansible_collections.apiary.swarm.plugins.module_utils.cluster_files import endpoint, prepared
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.files import private_directory
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache
from ansible_collections.apiary.swarm.plugins.module_utils.pki import ensure_ssh_key
from ansible_collections.apiary.swarm.plugins.module_utils.qmp import Forward, Monitor

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apiary" / "qemu"
NUMBER = 90
SETTINGS = {
    "qemu_machine_loopback_network": f"127.0.{NUMBER}.0/24",
    "qemu_machine_lan_network": f"192.168.{NUMBER}.0/24",
    "stack_services": ["web"],
    "image_list": sizes.image_list("web"),
    "web_replicas": 2,
    "project_dir": str(ROOT),
}


class Bench:
    """Machines of one cluster, made in several ways."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.cluster = sizes.Cluster("bench", NUMBER, 3, state)
        self.inventory = state / "inventory"
        shutil.copytree(ROOT / "inventories" / "qemu" / "group_vars", self.inventory / "group_vars")
        hosts = {"managers": {"hosts": {"node1": None}}, "workers": {"hosts": {"node2": None}}}
        (self.inventory / "hosts.yml").write_text(json.dumps(hosts))

    def play(self, playbook: str, *arguments: str) -> str:
        settings = json.dumps(SETTINGS | {"cluster_name": self.cluster.name})
        command = ["ansible-playbook", "-i", str(self.inventory), f"playbooks/{playbook}.yml", "-e", settings]
        environment = {**os.environ, "XDG_STATE_HOME": str(self.state), "ANSIBLE_NOCOLOR": "1"}
        result = subprocess.run([*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
        if result.returncode:
            sys.exit(result.stdout)
        return result.stdout

    def destroy(self) -> None:
        self.play("destroy", "-e", "destroy_confirmed=true")

    def learn(self) -> None:
        """Have the snapshot, and find out how the playbook starts machines."""
        self.play("machines")
        started = json.loads((self.cluster.directory / "machines" / "node1" / "machine.json").read_text())
        base = self.cluster.directory / "machines" / "node1" / "disk.base"
        self.golden, self.image, self.accelerator = base.resolve().parent, started["image"], started["accelerator"]
        self.destroy()

    def machine(self, name: str) -> qemu.Machine:
        machine = qemu.Machine(
            name=name,
            cluster_directory=self.cluster.directory,
            image=Path(self.image),
            memory_mib=1024,
            cpus=1,
            disk_gib=10,
            entrypoint=self.cluster.entrypoint(name),
            lan_address=self.cluster.address(name),
            lan_prefix=24,
            multicast=f"230.0.{NUMBER}.1:12399",
            forwards=frozenset({Forward("tcp", sizes.PORT, sizes.PORT)}),
        )
        with prepared(machine.cluster_directory, self.cluster.name):
            ensure_ssh_key(private_directory(machine.cluster_directory / "ssh") / "id_ed25519", "apiary")
        return machine

    def own_name(self, machine: qemu.Machine) -> None:
        with connect(endpoint(machine.cluster_directory, machine.entrypoint)) as api:
            if api.info()["Name"] != machine.name:
                sys.exit(f"{machine.name} has the wrong identity")

    def clone(self, name: str) -> None:
        machine = self.machine(name)
        recipe = qemu_snapshot.Recipe(
            CACHE, machine.image, 1024, 1, 10, self.accelerator, "", (), ImageCache(CACHE), 180
        )
        qemu_snapshot.clone(machine, self.golden, recipe)
        self.own_name(machine)

    def cold(self, name: str) -> None:
        machine = self.machine(name)
        qemu.prepare(machine)
        qemu.start(machine, self.accelerator, "")
        qemu.wait_for_api(machine, 180, 0.03)
        self.own_name(machine)

    def bare(self, name: str) -> None:
        """Resume the snapshot with what QEMU and the guest need, and ask the API."""
        machine = self.machine(name)
        private_directory(machine.directory)
        shutil.copyfile(self.golden / "overlay", machine.overlay_path)
        machine.base_path.symlink_to(self.golden / "disk")
        qemu.prepare(machine)  # keys and certificates
        ram = qemu.Ram(self.golden / "ram", shared=False)
        command = qemu.command_line(machine, self.accelerator, "", ram)
        subprocess.run([*command, "-incoming", "defer", "-daemonize"], check=True, capture_output=True)
        with Monitor(machine.monitor_path) as monitor:
            capability = {"capability": "x-ignore-shared", "state": True}
            monitor.execute("migrate-set-capabilities", capabilities=[capability])
            monitor.execute("migrate-incoming", uri=f"exec:cat {self.golden / 'state'}")
            while monitor.execute("query-migrate").get("status") != "completed":
                time.sleep(0.01)
            monitor.execute("cont")
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(machine.agent_path))
            line.sendall(f"begin {int(time.time())} 0 {secrets.token_hex(64)}\n".encode())
            heard = b""
            while b"ready" not in heard:
                heard += line.recv(100)
        context = ssl.create_default_context(cafile=str(self.cluster.directory / "client" / "ca.pem"))
        context.load_cert_chain(*(self.cluster.directory / "client" / name for name in ("cert.pem", "key.pem")))
        while True:
            try:
                connection = socket.create_connection((machine.entrypoint, 2376), timeout=10)
                with context.wrap_socket(connection, server_hostname=machine.entrypoint) as secure:
                    secure.sendall(b"GET /info HTTP/1.0\r\n\r\n")
                    if secure.recv(100).startswith(b"HTTP/1.0 200"):
                        return
            except OSError:
                time.sleep(0.03)

    def timed(self, work: Callable[[str], None], *names: str) -> float:
        started = time.monotonic()
        with ThreadPoolExecutor() as pool:
            list(pool.map(work, names))
        seconds = time.monotonic() - started
        for name in names:
            qemu.stop(self.cluster.directory / "machines" / name, graceful=False)
            shutil.rmtree(self.cluster.directory / "machines" / name)
        return seconds

    def site(self) -> tuple[float, str, float]:
        """Return the time of site.yml, its phases, and the time of the script that makes the same."""
        started = time.monotonic()
        output = self.play("site")
        ours = time.monotonic() - started
        script = Bare(sizes.Cluster("bench", NUMBER, 2, self.state))
        self.destroy()
        started = time.monotonic()
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.bare, script.cluster.nodes))
        script.swarm()
        script.stack()
        plain = time.monotonic() - started
        self.destroy()
        return ours, next(line for line in output.splitlines() if " · total " in line), plain


class Bare(sizes.Bare):
    """Swarm and stack as the script makes them, with the services that the playbook made."""

    def __init__(self, cluster: sizes.Cluster) -> None:
        self.cluster = cluster
        with cluster.api(cluster.nodes[0]) as api:
            self.services = api.services()
            self.overlays = {
                network["Id"]: network for network in api.networks() if network["Name"].startswith(f"{sizes.STACK}_")
            }


def main() -> None:
    """Print one line a measure, with medians and ranges."""
    runs, sites = (int(word) for word in [*sys.argv[1:], "5", "1"][:2]) if len(sys.argv) != 2 else (int(sys.argv[1]), 1)
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        os.environ.pop(name, None)  # each would replace the cluster's own authority
    with tempfile.TemporaryDirectory(prefix="apiary-") as directory:
        bench = Bench(Path(directory))
        bench.learn()
        measures: dict[str, Callable[[], float]] = {
            "clone": lambda: bench.timed(bench.clone, "node1"),
            "bare QEMU": lambda: bench.timed(bench.bare, "node1"),
            "cold boot": lambda: bench.timed(bench.cold, "node1"),
            "three clones at once": lambda: bench.timed(bench.clone, "node1", "node2", "node3"),
        }
        found: dict[str, list[float]] = {name: [] for name in measures}
        try:
            for _ in range(runs):
                for name, measure in measures.items():
                    found[name].append(measure())
                    print(f"  {name}: {found[name][-1]:.2f} s", file=sys.stderr)
            for name, values in found.items():
                if values:
                    print(f"{name}: median {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})")
            taken = qemu_snapshot.disk_usage(bench.golden)
            print(f"the golden snapshot takes {taken >> 20} MiB", flush=True)
            for _ in range(sites):
                ours, phases, plain = bench.site()
                print(
                    f"site.yml {ours:.1f} s, bare script {plain:.1f} s, ratio {ours / plain:.2f}; {phases}", flush=True
                )
        finally:
            bench.destroy()


if __name__ == "__main__":
    main()
