# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The virtual machines themselves."""

from __future__ import annotations

import pytest
import testinfra

from tests.clusters import Cluster, listens


@pytest.mark.parametrize("machine", ["myvm1", "myvm2"])
def test_machine_starts_only_what_the_job_needs(cluster: Cluster, machine: str) -> None:
    host = testinfra.get_host(f"ssh://{machine}", ssh_config=str(cluster.directory / "ssh" / "config"))
    assert host.check_output("hostname") == machine
    assert host.file("/etc/apiary/tls/server.pem").mode == 0o600
    programs = set(host.check_output("ps -o comm= -p $(pgrep -d, -P 1)").split())
    assert programs <= {"containerd", "dockerd", "haproxy", "sshd", "containerd-shim"}
    assert host.check_output("bash -c 'cat <(echo a shell) /dev/stdin </dev/null'") == "a shell"


def test_what_the_stack_publishes_is_forwarded_while_the_machines_run(cluster: Cluster) -> None:
    before = cluster.process("myvm1")
    assert not listens(cluster.entrypoints["myvm1"], 4001)
    assert cluster.play("machines", "-e", "web_port=4001").changed == 2
    assert listens(cluster.entrypoints["myvm1"], 4001)
    assert listens(cluster.entrypoints["myvm1"], 4000), "it may be another stack's"
    assert cluster.play("machines").changed == 0
    assert cluster.process("myvm1") == before
