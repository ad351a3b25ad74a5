# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Taking down leaves nothing, and says what it kept."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.apiary.swarm.plugins.module_utils.qemu import processes

from .conftest import LOOPBACK, Cluster


def listeners() -> list[str]:
    """Addresses of the tests' range that something listens on, from the kernel."""
    wanted = "".join(f"{int(byte):02X}" for byte in reversed(LOOPBACK.split(".")))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and row[1].split(":")[0].endswith(wanted)]


def test_destroy_asks_first(cluster: Cluster) -> None:
    run = cluster.play("destroy", succeeds=False)
    assert "destroy_confirmed=true" in run.output
    assert processes(cluster.directory)


def test_destroy_in_check_mode_removes_nothing(cluster: Cluster) -> None:
    assert cluster.play("destroy", "-e", "destroy_confirmed=true", "--check").changed == 1
    assert len(processes(cluster.directory)) == 2


def test_destroy_leaves_nothing_and_says_what_it_kept(cluster: Cluster) -> None:
    assert listeners()
    run = cluster.play("destroy", "-e", "destroy_confirmed=true")
    assert processes(cluster.directory) == []
    assert listeners() == []
    assert not cluster.directory.exists()
    assert re.search(r"kept: .*image cache, \d+ MiB", run.output)


def test_destroying_again_has_nothing_to_do(cluster: Cluster) -> None:
    assert cluster.play("destroy", "-e", "destroy_confirmed=true").changed == 0


def test_no_run_has_shown_a_secret(cluster: Cluster) -> None:
    everything = "\n".join(cluster.outputs)
    assert len(everything) > 1000
    for secret in ("SWMTKN-", "SWMKEY-", "PRIVATE KEY"):
        assert secret not in everything
