# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Changes to a service that others change, too."""

from __future__ import annotations

from copy import deepcopy
from typing import Any
from unittest.mock import MagicMock

import docker.errors
import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import UPDATE_TRIES, change_service, scale

OUTDATED = "rpc error: code = Unknown desc = update out of sequence"


class Manager:
    """A manager with one service, of which each of the first writes is refused with one of *refusals*."""

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.service: dict[str, Any] = {
            "ID": "s1",
            "Version": {"Index": 7},
            "Spec": {"Name": "shop_web", "Mode": {"Replicated": {"Replicas": 3}}, "Future": {"kept": True}},
        }
        self.written = 0

    def inspect_service(self, _service: str) -> dict[str, Any]:
        return deepcopy(self.service)

    def _url(self, pattern: str, *parts: str) -> str:
        return pattern.format(*parts)

    def _post_json(self, url: str, data: dict[str, Any], params: dict[str, int]) -> None:
        assert url == "/services/s1/update"
        if self.refusals:
            self.service["Version"]["Index"] += 1
            raise docker.errors.APIError("500", response=MagicMock(status_code=500), explanation=self.refusals.pop(0))
        assert params == {"version": self.service["Version"]["Index"]}
        self.service["Spec"] = data
        self.written += 1

    def _raise_for_status(self, _response: None) -> None:
        pass


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


@pytest.mark.parametrize("refused", range(UPDATE_TRIES))
def test_service_is_changed_in_its_newest_version_and_keeps_what_nobody_knows(refused: int) -> None:
    manager = Manager(*[OUTDATED] * refused)
    scale(manager, "shop_web", 5)
    assert manager.service["Spec"] == {
        "Name": "shop_web",
        "Mode": {"Replicated": {"Replicas": 5}},
        "Future": {"kept": True},
    }
    assert manager.written == 1


@pytest.mark.parametrize("refusals", [[OUTDATED] * UPDATE_TRIES, ["invalid reference format"]])
def test_change_that_is_refused_for_good_is_an_error(refusals: list[str]) -> None:
    manager = Manager(*refusals)
    with pytest.raises(docker.errors.APIError, match=refusals[-1]):
        scale(manager, "shop_web", 5)
    assert manager.written == 0
    assert manager.refusals == []


def test_nothing_is_written_where_nothing_changes() -> None:
    manager = Manager()
    change_service(manager, "shop_web", lambda spec: spec.setdefault("Mode", {}))
    assert manager.written == 0
