# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names that become part of a path, a label or a container's name."""

from __future__ import annotations

import pytest
import yaml

from ansible_collections.apiary.swarm.plugins.module_utils import names
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.ssh import Target
from tests.clusters import ROOT

ELSEWHERE = [
    "",
    ".",
    "..",
    "../other",
    "../../other",
    "brk/",
    "/etc",
    "a/b",
    "a\\b",
    "-x",
    "a b",
    "a\n",
    "a\n/b",
    "$HOME",
]


@pytest.mark.parametrize("name", ["apiary", "a", "7", "my-cluster-2"])
def test_cluster_may_be_called(name: str) -> None:
    names.check_cluster(name)


@pytest.mark.parametrize("name", [*ELSEWHERE, "A", "a.b", "a_b"])
def test_cluster_may_not_be_called(name: str) -> None:
    with pytest.raises(ApiaryError, match="small letters, digits and hyphens"):
        names.check_cluster(name)


@pytest.mark.parametrize("name", ["myvm1", "node-1", "web_1", "db.example.com", "192.0.2.7", "2001:db8::7"])
def test_machine_may_be_called(name: str) -> None:
    names.check_machine(name)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_machine_may_not_be_called(name: str) -> None:
    with pytest.raises(ApiaryError, match="begins with a letter or a digit"):
        names.check_machine(name)


def test_host_by_ssh_may_not_be_called_so_either() -> None:
    with pytest.raises(ApiaryError, match="begins with a letter or a digit"):
        Target("../other", "127.0.0.1")


def test_preflight_has_the_same_rules() -> None:
    rules = yaml.safe_load((ROOT / "roles/cluster/vars/main.yml").read_text())
    assert (rules["__cluster_name_rule"], rules["__cluster_host_rule"]) == (names.CLUSTER, names.MACHINE)
