# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Change a number, run one playbook."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import verify
from tests.clusters import Cluster

pytestmark = pytest.mark.lifecycle


def kept(cluster: Cluster, path: Path, *arguments: str) -> bool:
    return all(promise["kept"] for promise in verify(cluster, path, *arguments).values())


def test_scaling_up_starts_the_difference_alone(made: Cluster) -> None:
    before = set(made.web_containers())
    run = made.play("stack", "-e", f"web_replicas={made.replicas + 2}")
    after = set(made.web_containers())
    assert run.changed == 1, run.output
    assert before < after
    assert len(after) == made.replicas + 2


def test_verifying_tells_the_number_that_runs_from_the_number_asked_for(made: Cluster, tmp_path: Path) -> None:
    found = verify(made, tmp_path / "verdicts.json")
    assert found["services"]["findings"] == [
        f"web: has {made.replicas + 2} replicas, the template asks for {made.replicas}"
    ]


def test_scaling_down_stops_the_difference_alone(made: Cluster, tmp_path: Path) -> None:
    before = set(made.web_containers())
    fewer = f"web_replicas={made.replicas - 2}"
    assert made.play("stack", "-e", fewer).changed == 1
    after = set(made.web_containers())
    assert after < before
    assert len(after) == made.replicas - 2
    assert set(made.answers(list(made.machines)[-1], 2 * len(after))) == {container[:12] for container in after}
    assert kept(made, tmp_path / "verdicts.json", "-e", fewer)


def test_plan_shows_the_number_that_would_change(made: Cluster) -> None:
    before = made.web_containers()
    run = made.play("stack", "--check", "--diff")
    assert run.changed == 1, run.output
    assert f"replicas: {made.replicas}" in run.output
    assert made.web_containers() == before


def test_deploying_again_goes_back_to_the_inventorys_number(made: Cluster, tmp_path: Path) -> None:
    assert made.play("stack").changed == 1
    for machine in made.machines:
        assert len(made.answers(machine, 2 * made.replicas)) == made.replicas
    assert kept(made, tmp_path / "verdicts.json")
