# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Taking down leaves nothing, and asks first."""

from __future__ import annotations

import pytest

from tests.clusters import CONFIRMED, SECRETS, Cluster, serves

pytestmark = pytest.mark.lifecycle


def test_destroy_asks_first(made: Cluster) -> None:
    before = made.parts()
    run = made.play("destroy", succeeds=False)
    assert "destroy_confirmed=true" in run.output
    assert made.parts() == before


def test_destroy_in_check_mode_removes_nothing(made: Cluster) -> None:
    before = made.parts()
    assert made.play("destroy", *CONFIRMED, "--check").changed == 1
    assert made.parts() == before
    assert len(made.web_containers()) == made.replicas


def test_destroy_leaves_nothing_and_says_what_it_removed(made: Cluster) -> None:
    assert all(serves(address, made.port) for address in made.entrypoints.values())
    assert len(made.parts()) > 2 * len(made.machines)  # a listener and more for each, and the files
    run = made.play("destroy", *CONFIRMED)
    assert made.parts() == []
    assert not any(serves(address, made.port) for address in made.entrypoints.values())
    for machine in made.machines:
        assert machine in run.output[run.output.rindex("removed: ") :]


def test_destroying_again_has_nothing_to_do(made: Cluster) -> None:
    assert made.play("destroy", *CONFIRMED).changed == 0


def test_no_run_has_shown_a_secret(made: Cluster) -> None:
    everything = "\n".join(made.outputs)
    assert len(everything) > 1000
    assert [secret for secret in SECRETS if secret in everything] == []
