# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is true of all scenarios in molecule/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
SCENARIOS = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))


def load(*path: str) -> Any:
    return yaml.safe_load(ROOT.joinpath(*path).read_text())


@pytest.mark.parametrize("role", ROLES)
def test_role_has_a_scenario(role: str) -> None:
    assert role in SCENARIOS


def test_each_scenario_has_ranges_of_its_own() -> None:
    listed = load("molecule", "inventory", "group_vars", "all.yml")["scenario_names"]
    assert sorted(listed) == SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario_has_tests(scenario: str) -> None:
    # molecule would find nothing to verify, and be content
    assert list((ROOT / "molecule" / scenario).glob("test_*.py"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario_verifies_and_removes_what_it_made(scenario: str) -> None:
    shared = load(".config", "molecule", "config.yml")["scenario"]["test_sequence"]
    sequence = load("molecule", scenario, "molecule.yml").get("scenario", {}).get("test_sequence", shared)
    assert sequence[0] == "destroy"  # what an earlier run left
    assert sequence[-2:] == ["verify", "destroy"]


@pytest.mark.parametrize("role", ROLES)
def test_scenario_of_a_role_checks_and_converges_twice(role: str) -> None:
    shared = load(".config", "molecule", "config.yml")["scenario"]["test_sequence"]
    sequence = load("molecule", role, "molecule.yml").get("scenario", {}).get("test_sequence", shared)
    assert sequence[-5:] == ["check", "converge", "idempotence", "verify", "destroy"]
