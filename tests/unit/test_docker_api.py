# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What requests end in, in words; and changes to a service that others change, too."""

from __future__ import annotations

import errno
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import docker.errors
import pytest
import requests.exceptions
from urllib3.exceptions import ProtocolError

from ansible_collections.apiary.swarm.plugins.module_utils import docker_api
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import (
    UPDATE_TRIES,
    change_service,
    connect,
    explained,
    persistently,
    scale,
)
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError, PassingError
from tests.fake_engine import FakeEngine

OUTDATED = "rpc error: code = Unknown desc = update out of sequence"
TCP, UNIX = "tcp://192.168.59.31:2376", "unix:///run/docker.sock"


def refusal(status: int, message: str) -> docker.errors.APIError:
    return docker.errors.APIError(str(status), response=MagicMock(status_code=status), explanation=message)


def broken(error: OSError) -> requests.exceptions.ConnectionError:
    """Return what the SDK makes of an error of a socket."""
    return requests.exceptions.ConnectionError(ProtocolError("Connection aborted.", error))


def unreached(error: Exception) -> docker.errors.DockerException:
    made = docker.errors.DockerException(f"Error while fetching server API version: {error}")
    made.__cause__ = error
    return made


#: what a request ended in, with whose engine, → a part of what is said, and whether it may pass
ENDS: dict[str, tuple[Exception, str, str, bool]] = {
    "full disk": (OSError(errno.ENOSPC, "No space left on device", "/state/key.pem"), TCP, "Make room", False),
    "missing file": (FileNotFoundError(errno.ENOENT, "No such file", "/state/ca.pem"), UNIX, "/state/ca.pem", False),
    "read-only disk": (OSError(errno.EROFS, "Read-only file system", "/state"), TCP, "for reading only", False),
    "damaged archive": (OSError("Not a gzipped file"), TCP, "this computer failed", False),
    "too many files": (broken(OSError(errno.EMFILE, "Too many open files")), TCP, "ulimit", False),
    "unreadable key": (unreached(broken(PermissionError(errno.EACCES, "denied"))), TCP, "this computer failed", False),
    "closed socket": (
        unreached(broken(PermissionError(errno.EACCES, "denied"))),
        UNIX,
        "may not use the socket",
        False,
    ),
    "no socket": (unreached(broken(FileNotFoundError(errno.ENOENT, "none"))), UNIX, "Is the machine running?", True),
    "refused": (unreached(broken(ConnectionRefusedError(errno.ECONNREFUSED, "no"))), TCP, "machine running?", True),
    "cut": (ConnectionResetError(errno.ECONNRESET, "reset"), TCP, "connection to the engine at tcp:", True),
    "slow": (requests.exceptions.ReadTimeout("Read timed out. (read timeout=60)"), TCP, "Read timed out", True),
    "old engine": (docker.errors.InvalidVersion("too old"), TCP, "cannot be used: too old", False),
    "busy manager": (refusal(500, "rpc error: code = DeadlineExceeded desc = context"), TCP, "refused a request", True),
    "no leader": (refusal(500, "rpc error: The swarm does not have a leader."), TCP, "does not have a leader", True),
    "our mistake": (refusal(400, "invalid reference; context deadline exceeded"), TCP, "invalid reference", False),
    "locked": (refusal(503, "Swarm is encrypted and needs to be unlocked"), TCP, "refused a request", False),
}


@pytest.mark.parametrize(("error", "host", "said", "passes"), ENDS.values(), ids=ENDS)
def test_cause_is_named_only_where_the_error_names_it(error: Exception, host: str, said: str, passes: bool) -> None:
    told = explained(error, host)
    assert said in str(told)
    assert told.may_pass is passes
    assert passes or "Is the machine running" not in str(told)


def test_error_of_this_computer_is_not_laid_to_an_engine_that_answers(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path / "docker.sock")
    engine.start()
    try:
        with pytest.raises(ApiaryError) as raised, connect({"docker_host": f"unix://{engine.socket}"}):
            (tmp_path / "gone" / "key.pem").write_bytes(b"")
    finally:
        engine.stop()
    assert str(raised.value).startswith("this computer failed: [Errno 2]")


@pytest.mark.parametrize("error", [PassingError("silent"), refusal(500, "code = DeadlineExceeded")])
def test_what_may_pass_is_asked_again_until_time_is_up(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    clock = MagicMock(now=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
    answers = MagicMock(side_effect=[error, error, "here"])
    assert persistently(answers, 60, clock) == "here"
    with pytest.raises(type(error)):
        persistently(MagicMock(side_effect=error), 60, clock)
    assert now[0] == pytest.approx(62, abs=2)


def test_what_will_not_pass_is_asked_once() -> None:
    ask = MagicMock(side_effect=refusal(400, "no"))
    with pytest.raises(docker.errors.APIError):
        docker_api.persistently(ask, 60)
    assert ask.call_count == 1


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
