# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The acceptance suite on virtual machines that are nothing but hosts with SSH: what made them is not used any more."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters import CONFIRMED, ROOT, Cluster

NAMES = ["myvm1", "myvm2", "myvm3"]
LOOPBACK = "127.0.93"
PASSWORD = "correct horse"  # noqa: S105  of a machine that lives for this test
PREPARE = f"""
set -e
apt-get -qq update
apt-get -qq --yes --no-install-recommends install sudo >/dev/null
for user in ann bob; do
  id -u $user >/dev/null 2>&1 || useradd --create-home --shell /bin/bash $user
  echo "$user:{PASSWORD}" | chpasswd
  mkdir -p /home/$user/.ssh
  cp /root/.ssh/authorized_keys /home/$user/.ssh/
  chown -R $user: /home/$user/.ssh
done
printf 'ann ALL=(ALL) NOPASSWD: ALL\\nbob ALL=(ALL) ALL\\n' >/etc/sudoers.d/people
"""


@pytest.fixture(scope="module")
def machines() -> Iterator[Cluster]:
    """Three virtual machines with sudo, and two users on each."""
    with tempfile.TemporaryDirectory(prefix="apiary-") as directory:
        inventory = Path(directory) / "vms"
        inventory.mkdir()
        (inventory / "group_vars").symlink_to(ROOT / "inventories" / "qemu" / "group_vars")
        groups = {"managers": NAMES[:1], "workers": NAMES[1:]}
        (inventory / "hosts.json").write_text(
            json.dumps({name: {"hosts": dict.fromkeys(its)} for name, its in groups.items()})
        )
        settings = {"cluster_name": "hosts", "qemu_machine_loopback_network": f"{LOOPBACK}.0/24"}
        cluster = Cluster(str(inventory), settings, state=Path(directory))
        try:
            cluster.play("machines")
            for name in NAMES:
                config = ["-F", str(cluster.directory / "ssh" / "config")]
                subprocess.run(["ssh", *config, name, "sh -s"], input=PREPARE, text=True, check=True, timeout=900)
            yield cluster
        finally:
            cluster.play("destroy", *CONFIRMED)


def inventory(machines: Cluster, directory: Path, **variables: str) -> Path:
    """An inventory of the machines as hosts: addresses, ports, a key and the known host keys, and nothing more."""
    known = directory / "known_hosts"
    kept = machines.directory / "machines"
    known.write_text("".join((kept / name / "known_hosts").read_text() for name in NAMES))
    hosts = {name: {"ansible_host": f"{LOOPBACK}.10{name[-1]}", "ansible_port": 2222} for name in NAMES}
    content = {
        "managers": {"hosts": {name: hosts[name] for name in NAMES[:1]}},
        "workers": {"hosts": {name: hosts[name] for name in NAMES[1:]}},
        "all": {"vars": {
            "ansible_ssh_private_key_file": str(machines.directory / "ssh" / "id_ed25519"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}",
            **variables,
        }},
    }  # fmt: skip
    path = directory / "hosts.json"
    path.write_text(json.dumps(content))
    (directory / "group_vars").symlink_to(ROOT / "inventories" / "ssh" / "group_vars")
    return path


@pytest.mark.parametrize(
    "user",
    [{"ansible_user": "ann"}, {"ansible_user": "bob", "ansible_become_password": PASSWORD}],
    ids=["without a sudo password", "with a sudo password"],
)
def test_hosts_pass_the_acceptance_suite(machines: Cluster, tmp_path: Path, user: dict[str, str]) -> None:
    suite = [sys.executable, "-m", "pytest", "-q", "tests/acceptance", "--lifecycle"]
    # Starting a task, and asking whether it is healthy, takes an emulated CPU long.
    stack = {"web_replicas": 3, "health_interval": "30s"}
    settings = {"project_dir": str(ROOT), "cluster_name": "hosts-fleet", **stack}
    given = ["--inventory", str(inventory(machines, tmp_path, **user)), "--cluster-vars", json.dumps(settings)]
    done = subprocess.run([*suite, *given], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
    assert " passed" in done.stdout
    assert PASSWORD not in done.stdout
