# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Starting a service's tasks anew when the routing mesh has lost some."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.action import stack_probe
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.probe import Answer, Entrypoint, Hearing, Target


class Manager:
    """A manager whose service goes through the given update states, one a look."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.posted: list[tuple[dict[str, Any], int]] = []

    def inspect_service(self, _name: str) -> dict[str, Any]:
        state = self.states.pop(0) if self.posted and len(self.states) > 1 else self.states[0]
        return {
            "ID": "s1",
            "Version": {"Index": 7},
            "Spec": {"TaskTemplate": {"ForceUpdate": 2}},
            "UpdateStatus": {"State": state} if self.posted else None,
        }

    def _url(self, pattern: str, *parts: str) -> str:
        return pattern.format(*parts)

    def _post_json(self, _url: str, data: dict[str, Any], params: dict[str, int]) -> None:
        self.posted.append((data, params["version"]))

    def _raise_for_status(self, _response: None) -> None:
        pass


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


def test_tasks_are_started_anew_once_and_waited_for() -> None:
    manager = Manager("updating", "updating", "completed")
    stack_probe.start_anew(manager, "shop", ["web"])
    assert manager.posted == [({"TaskTemplate": {"ForceUpdate": 3}}, 7)]
    assert manager.states == ["completed"]


def test_a_repair_that_does_not_complete_is_an_error() -> None:
    with pytest.raises(ApiaryError, match="its update is paused"):
        stack_probe.start_anew(Manager("updating", "paused"), "shop", ["web"])


HERE, DRAINED = Entrypoint("myvm1", "127.0.99.101"), Entrypoint("myvm2", "127.0.99.102")
DOCKER = {
    "docker_host": "tcp://127.0.99.101:2376",
    "validate_certs": True,
    "ca_path": "/keys/ca.pem",
    "client_cert": "/keys/cert.pem",
    "client_key": "/keys/key.pem",
}


@pytest.mark.parametrize(
    ("unserved", "asked"), [(frozenset(), {HERE, DRAINED}), (frozenset({"myvm2"}), {HERE})], ids=["all", "drained"]
)
def test_a_node_without_a_proxy_is_not_asked(unserved: frozenset[str], asked: set[Entrypoint]) -> None:
    hearings = stack_probe._continued({}, [Target("web", 4000, {}, True, unserved)], [HERE, DRAINED])
    assert {entrypoint for _service, _port, entrypoint in hearings} == asked


def test_silence_where_others_heard_http_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("web", 4000, {"0f01aa860247": "web.1 on myvm1", "7fc2aa6579b9": "web.2 on myvm2"})
    said = Answer(text="0f01aa860247", is_http=True), Answer(text="7fc2aa6579b9", is_http=True)
    silence = (Answer(is_silent=True),) * 2

    def ask(hearing: Hearing, _until: float, _deadline: float) -> None:
        for answer in said if hearing.entrypoint is HERE else silence:
            hearing.note(answer)

    monkeypatch.setattr(stack_probe, "_targets", lambda _api, _name: [target])
    monkeypatch.setattr(stack_probe, "ask_until_heard", ask)
    hearings = stack_probe.hear(None, {"name": "shop", "timeout_seconds": 0}, [HERE, DRAINED])
    assert [hearing.is_done for hearing in hearings] == [True, False]


@pytest.mark.parametrize(
    ("is_proxied", "said", "unsaid"),
    [(False, "the routing mesh may have lost tasks", "proxy"), (True, "service logs shop_ingress", "mesh")],
)
def test_the_remedy_fits_what_publishes_the_port(is_proxied: bool, said: str, unsaid: str) -> None:
    target = Target("web", 4000, {"0f01aa860247": "web.1 on myvm1"}, is_proxied)
    message = str(
        stack_probe._failure({"name": "shop", "timeout_seconds": 1, "docker": DOCKER}, [Hearing(target, HERE)])
    )
    assert said in message
    assert unsaid not in message
    assert "docker --host tcp://127.0.99.101:2376 --tlsverify" in message
    assert "--tlskey /keys/key.pem service update --force shop_web" in message
