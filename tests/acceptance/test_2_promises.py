# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is true of a cluster that was made: looked at, never touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.promises import PROMISES
from tests.acceptance.conftest import verify
from tests.clusters import Cluster


@pytest.mark.parametrize("promise", PROMISES)
def test_promise(verdicts: dict[str, dict[str, Any]], promise: str) -> None:
    assert not verdicts[promise]["findings"], PROMISES[promise][0]


def test_networks_to_come_will_not_meet_the_machines_own_either(verdicts: dict[str, dict[str, Any]]) -> None:
    assert not verdicts["networks"]["remarks"]


def test_verifying_in_check_mode_finds_the_same(
    made: Cluster, verdicts: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    again = verify(made, tmp_path / "verdicts.json", "--check")
    assert {name: verdict["kept"] for name, verdict in again.items()} == {
        name: verdict["kept"] for name, verdict in verdicts.items()
    }
