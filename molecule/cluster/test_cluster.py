# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REFUSED = {
    "no manager": ({"workers": ["node1"]}, {}, "no host in the group 'managers'"),
    "a host in both groups": ({"managers": ["node1"], "workers": ["node1"]}, {}, "node1: in both groups"),
    "a host in neither": ({"managers": ["node1"], "others": ["node7"]}, {}, "node7: neither in the group"),
    "a bad name": ({"managers": ["node1"]}, {"cluster_name": "My Cluster"}, "cluster_name is 'My Cluster'"),
    "no such provider": ({"managers": ["node1"]}, {"machine_provider": "abacus"}, "'abacus', which is no provider"),
}


@pytest.fixture
def refused(scenario: Any) -> Iterator[str]:
    """The name of a cluster that is not to be; what was made of it after all is removed."""
    yield "molecule-refused"
    for container in scenario.outer.containers.list(all=True, filters={"label": "apiary.cluster=molecule-refused"}):
        container.remove(force=True, v=True)


@pytest.mark.parametrize(("groups", "settings", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_inventory_is_refused_and_nothing_is_made(
    scenario: Any, refused: str, tmp_path: Path, groups: dict[str, list[str]], settings: dict[str, str], message: str
) -> None:
    variables = Path(__file__).parents[1] / "inventory" / "group_vars"
    (tmp_path / "group_vars").symlink_to(variables)
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({name: {"hosts": dict.fromkeys(hosts)} for name, hosts in groups.items()}))
    before = {container.id for container in scenario.containers.values()}
    settings = {"cluster_name": refused, **settings}
    run = scenario.play("machines", "-e", json.dumps(settings), inventory=inventory, succeeds=False)
    _, _, reason = run.output.partition("[ERROR]")
    assert message in " ".join(reason.split()), run.output
    assert {container.id for container in scenario.containers.values()} == before
    assert scenario.outer.containers.list(all=True, filters={"label": f"apiary.cluster={refused}"}) == []


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_report_has_each_node_as_the_engine_has_it(scenario: Any, node: str) -> None:
    run = scenario.play("molecule/cluster/converge.yml")
    words = next(line.split() for line in run.output.splitlines() if line.split()[:1] == [node] and "ready" in line)
    (entry,) = scenario.listed("node1")[node]
    assert words[1] == scenario.ready("node1")[node]
    assert words[2] == entry["Status"]["State"]
    assert words[3] == entry["Status"]["Addr"]
    assert words[4] == scenario.entrypoint(node)
