# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Machines that are clones of a golden snapshot: five of them, in a cache of their own, which the tests damage."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import testinfra

from ansible_collections.apiary.swarm.plugins.module_utils.qemu import processes
from tests.clusters import CONFIRMED, ROOT, Cluster

NAMES = [f"myvm{number}" for number in range(1, 6)]
BUILDING = "making the golden snapshot"
#: what no two machines may share, and the command that shows it
OWN = {
    "host name": "hostname",
    "card to the host": "cat /sys/class/net/eth0/address",
    "card to the others": "cat /sys/class/net/eth1/address",
    "bridge": "cat /sys/class/net/docker0/address",
    "address": "busybox ip -4 -o addr show dev eth1 | awk '{print $4}'",
    "machine-id": "cat /etc/machine-id",
    "boot": "cat /proc/sys/kernel/random/boot_id",
    "SSH host key": "sha256sum </etc/ssh/ssh_host_ed25519_key",
    "TLS key": "sed -n '/PRIVATE/,$p' /etc/apiary/tls/server.pem | sha256sum",
    "random number": "cat /proc/sys/kernel/random/uuid",
}
#: what of it stays when a machine starts again
LASTING = set(OWN) - {"boot", "random number", "bridge"}


def cluster_of(directory: Path, name: str, network: int, hosts: list[str]) -> Cluster:
    inventory = directory / name
    shutil.copytree(ROOT / "inventories" / "qemu", inventory)
    (inventory / "hosts.yml").write_text(json.dumps({"managers": {"hosts": dict.fromkeys(hosts)}}))
    settings = {
        "cluster_name": name,
        "qemu_machine_loopback_network": f"127.0.{network}.0/24",
        "qemu_machine_lan_network": f"192.168.{network}.0/24",
        "qemu_machine_cache_dir": str(directory / "cache"),
        "qemu_machine_memory_mib": 512,
        "qemu_machine_snapshot_images": [],
        "qemu_machine_accelerator": "tcg",  # only QEMU keeps a machine's memory, and emulation works everywhere
    }
    return Cluster(str(inventory), settings, state=directory)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A directory for two clusters and their cache, which begins with the machine image of the user's."""
    with tempfile.TemporaryDirectory(prefix="apiary-") as path:
        machines = Path(path) / "cache" / "qemu"
        machines.mkdir(parents=True)
        own = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apiary" / "qemu"
        for image in own.glob("*/vmlinuz"):
            (machines / image.parent.name).symlink_to(image.parent)
        yield Path(path)


@pytest.fixture(scope="module")
def cluster(directory: Path) -> Iterator[Cluster]:
    """Five machines, which the tests make."""
    five = cluster_of(directory, "snapshots", 89, NAMES)
    yield five
    five.play("destroy", *CONFIRMED)


def golden(directory: Path) -> list[Path]:
    return [path.resolve() for path in (directory / "cache" / "qemu" / "golden").glob("*") if path.is_symlink()]


def shown(cluster: Cluster, name: str) -> dict[str, str]:
    host = testinfra.get_host(f"ssh://{name}", ssh_config=str(cluster.directory / "ssh" / "config"))
    lines = host.check_output("; ".join(OWN.values())).splitlines()
    return dict(zip(OWN, lines, strict=True))


@pytest.fixture(scope="module")
def before(cluster: Cluster) -> dict[str, dict[str, str]]:
    """What is a clone's own, of each as it was born."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(NAMES, pool.map(lambda name: shown(cluster, name), NAMES), strict=True))


def test_killed_build_leaves_no_snapshot_and_no_machine_that_runs(cluster: Cluster, directory: Path) -> None:
    cluster.play_until("machines", BUILDING)
    deadline = time.monotonic() + 10
    while processes(directory) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes(directory) == []
    assert golden(directory) == []


def test_of_two_runs_at_once_one_builds_and_both_use_it(cluster: Cluster, directory: Path) -> None:
    other = cluster_of(directory, "other", 88, ["myvm1"])
    try:
        with ThreadPoolExecutor() as pool:
            runs = list(pool.map(lambda one: one.play("machines"), (cluster, other)))
        assert sum(run.output.count(BUILDING) for run in runs) == 1
        assert len(golden(directory)) == 1
        assert [path.name for path in directory.glob("cache/qemu/golden/*.making")] == []
        bases = {path.resolve().parent for path in directory.glob("apiary/*/machines/*/disk.base")}
        assert bases == set(golden(directory))
    finally:
        other.play("destroy", *CONFIRMED)


@pytest.mark.parametrize("what", OWN)
def test_no_two_clones_share(before: dict[str, dict[str, str]], what: str) -> None:
    values = [machine[what] for machine in before.values()]
    assert all(values)
    assert len(set(values)) == len(NAMES), values


def test_each_clone_is_who_the_inventory_says(before: dict[str, dict[str, str]]) -> None:
    found = {name: (machine["host name"], machine["address"]) for name, machine in before.items()}
    assert found == {name: (name, f"192.168.89.10{name[-1]}/24") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_clock_of_a_clone_is_right(cluster: Cluster, name: str) -> None:
    with cluster.api(name) as api:
        api.ping()  # the connection costs more than the question
        asked = time.time()
        told = api.info()["SystemTime"]
    seconds = float(subprocess.check_output(["date", "-d", told, "+%s.%N"]))
    assert asked - 2 < seconds < time.time() + 1


def test_a_clone_writes_only_what_it_changes(cluster: Cluster) -> None:
    assert (cluster.directory / "machines" / "myvm1" / "disk.qcow2").stat().st_blocks * 512 < 100 << 20


def test_golden_image_is_not_larger_than_promised(directory: Path) -> None:
    taken = sum(path.stat().st_blocks * 512 for path in golden(directory)[0].iterdir())
    assert taken < 3 << 29


def test_nothing_is_made_again_on_the_next_run(cluster: Cluster) -> None:
    assert cluster.play("machines").changed == 0


def rebooted(cluster: Cluster, name: str, since: str) -> dict[str, str]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            now = shown(cluster, name)
        except Exception:  # whatever keeps SSH from answering passes, or runs into the deadline
            time.sleep(1)
            continue
        if now["boot"] != since:
            return now
        time.sleep(1)
    raise AssertionError(f"{name} has not rebooted after two minutes")


def test_clone_that_reboots_boots_from_cold_with_its_identity_and_its_data(
    cluster: Cluster, before: dict[str, dict[str, str]]
) -> None:
    with cluster.api("myvm2") as api:
        api.create_volume("kept")
        template_id = api.info()["ID"]
    process = cluster.process("myvm2")
    host = testinfra.get_host("ssh://myvm2", ssh_config=str(cluster.directory / "ssh" / "config"))
    host.run("busybox reboot")
    now = rebooted(cluster, "myvm2", before["myvm2"]["boot"])
    assert {what: now[what] for what in LASTING} == {what: before["myvm2"][what] for what in LASTING}
    assert cluster.process("myvm2") == process
    cluster.play("machines")
    with cluster.api("myvm2") as api:
        assert [volume["Name"] for volume in api.volumes()["Volumes"]] == ["kept"]
        assert api.info()["ID"] != template_id


def test_clone_that_was_killed_boots_from_cold_with_its_identity(
    cluster: Cluster, before: dict[str, dict[str, str]]
) -> None:
    os.kill(cluster.process("myvm3"), signal.SIGKILL)
    assert cluster.play("machines").changed == 1
    now = shown(cluster, "myvm3")
    assert {what: now[what] for what in LASTING} == {what: before["myvm3"][what] for what in LASTING}
    assert now["boot"] != before["myvm3"]["boot"]


def remove(cluster: Cluster, name: str) -> None:
    os.kill(cluster.process(name), signal.SIGKILL)
    shutil.rmtree(cluster.directory / "machines" / name)


def test_foreign_state_is_noticed_thrown_away_and_rebuilt(cluster: Cluster, directory: Path) -> None:
    """QEMU itself must refuse: the manifest says that all is well."""
    (foreign,) = golden(directory)
    state, manifest = foreign / "state", foreign / "manifest.json"
    stamps = json.loads(manifest.read_text())
    state.write_bytes(b"QEVM" + os.urandom(1 << 19))
    sha256 = subprocess.check_output(["sha256sum", state], text=True).split()[0]
    status = state.stat()
    manifest.write_text(json.dumps(stamps | {"state": [status.st_size, status.st_mtime_ns], "sha256": sha256}))
    remove(cluster, "myvm4")
    output = cluster.play("machines").output
    assert "does not become myvm4: it is thrown away and built again" in " ".join(output.split())
    assert golden(directory) != [foreign]
    assert [path.name for path in foreign.iterdir()] == ["disk"], "others build on it"
    assert shown(cluster, "myvm4")["host name"] == "myvm4"


def test_machine_may_be_born_by_a_cold_boot(cluster: Cluster) -> None:
    remove(cluster, "myvm5")
    output = cluster.play("machines", "-e", "qemu_machine_snapshot=false").output
    assert "golden" not in output
    assert (cluster.directory / "machines" / "myvm5" / "disk.img").exists()
    assert shown(cluster, "myvm5")["host name"] == "myvm5"


def test_pruning_keeps_what_machines_use_and_what_new_ones_would(cluster: Cluster, directory: Path) -> None:
    disks = {path.resolve() for path in directory.glob("apiary/*/machines/*/disk.base")}
    old = directory / "cache" / "qemu" / "0123456789ab"
    old.mkdir()
    (old / "root.ext2").write_bytes(b"old")
    listed = cluster.play("prune", "--check")
    assert str(old) in listed.output
    assert old.exists()
    current = golden(directory)
    cluster.play("prune")
    assert not old.exists()
    assert golden(directory) == current
    assert all(disk.exists() for disk in disks)
    assert cluster.play("prune").changed == 0
