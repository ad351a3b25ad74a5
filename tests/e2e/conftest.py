# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is particular to virtual machines, on the cluster that the acceptance tests make.

The files are run in the order of their names, the last of them once that cluster is removed.
"""

from __future__ import annotations

import pytest

from tests.clusters import Cluster

#: the range of the tests' virtual machines
LOOPBACK = "127.0.98"


@pytest.fixture(scope="session")
def cluster(qemu: Cluster) -> Cluster:
    """The cluster, made if no test before has done so."""
    if not (qemu.directory / "machines").exists():
        qemu.play("site")
    return qemu
