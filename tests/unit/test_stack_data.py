# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Data of services: the directories there are to be, the one node that keeps it, and that no run moves it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import docker.errors
import pytest

from ansible_collections.apiary.swarm.plugins.action import stack_data as action_module
from ansible_collections.apiary.swarm.plugins.module_utils import compose, node_programs, stack_data, swarm_hosts
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.stack_data import Directory
from ansible_collections.apiary.swarm.plugins.modules.stack_data import ARGUMENT_SPEC
from tests.project_template import rendered

PATH = "/var/lib/apiary/getstartedlab/redis"
LABELLED = ["node.role == manager", "node.labels.apiary.data == true"]


def document(volumes: list[Any], constraints: list[str], mode: str = "replicated") -> dict[str, Any]:
    deploy = {"mode": mode, "placement": {"constraints": constraints}}
    return {"services": {"db": {"image": "db:1", "volumes": volumes, "deploy": deploy}}}


BIND = {"type": "bind", "source": "/var/lib/apiary/db", "target": "/data"}


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        ([BIND], ["/var/lib/apiary/db"]),
        (["/var/lib/apiary/db:/data"], ["/var/lib/apiary/db"]),
        (["/var/lib/apiary/a/b:/data:ro", BIND], ["/var/lib/apiary/a/b", "/var/lib/apiary/db"]),
        (["/var/lib/apiary:/data"], []),
        (["/var/lib/apiary2/db:/data", "named:/data", "/anonymous"], []),
        ([{"type": "volume", "source": "named", "target": "/data"}, {"type": "tmpfs", "target": "/tmp"}], []),  # noqa: S108
        ([], []),
    ],
)
def test_directories_are_what_is_bound_below_the_data_directory(volumes: list[Any], expected: list[str]) -> None:
    found = stack_data.directories(document(volumes, LABELLED), "/var/lib/apiary")
    assert [directory.path for directory in found] == expected


def test_the_project_s_stack_has_one() -> None:
    found = stack_data.directories(compose.parse(rendered()), "/var/lib/apiary")
    assert found == [Directory("redis", PATH, "apiary/redis:1")]


@pytest.mark.parametrize("constraints", [[], ["node.role == manager"], ["node.labels.disk == ssd"]])
def test_data_that_may_be_looked_for_on_any_node_is_refused(constraints: list[str]) -> None:
    with pytest.raises(ApiaryError, match=r"services.db: /var/lib/apiary/db .*node.labels.apiary.data == true"):
        stack_data.directories(document([BIND], constraints), "/var/lib/apiary")


@pytest.mark.parametrize(
    ("constraints", "mode"),
    [(["node.hostname==node2"], "replicated"), (["node.id == x"], "replicated"), ([], "global")],
)
def test_directories_on_nodes_of_the_users_choice_are_the_users(constraints: list[str], mode: str) -> None:
    assert stack_data.directories(document([BIND], constraints, mode), "/var/lib/apiary") == []


def live(*paths: str) -> dict[str, Any]:
    mounts = [{"Type": "bind", "Source": path} for path in paths]
    return {"Spec": {"TaskTemplate": {"ContainerSpec": {"Mounts": mounts or None}}}}


@pytest.mark.parametrize(
    ("services", "missing"),
    [({}, True), ({"db": live()}, True), ({"db": live("/other")}, True), ({"db": live("/d")}, False)],
)
def test_directories_are_made_for_services_that_do_not_run_on_them_yet(services: dict[str, Any], missing: bool) -> None:
    wanted = [Directory("db", "/d")]
    assert stack_data.unbound(wanted, services) == (wanted if missing else [])


def node(name: str, data: bool = False, **labels: str) -> dict[str, Any]:
    labels |= {"apiary.data": "true"} if data else {}
    return {
        "ID": f"id-{name}",
        "Version": {"Index": 7},
        "Spec": {"Role": "manager", "Labels": labels or None},
        "Description": {"Hostname": name},
    }


@pytest.mark.parametrize(
    ("nodes", "asked", "running", "expected"),
    [
        ([node("a"), node("b", True)], None, ["db"], "b"),
        ([node("a"), node("b", True)], node("b"), ["db"], "b"),
        ([node("a"), node("b")], None, [], None),
        ([node("a"), node("b")], node("b"), ["db"], None),  # its node is gone, and another one was named
        ([], None, [], None),
    ],
)
def test_the_node_that_has_the_data_is_the_one_with_the_label(
    nodes: list[Any], asked: Any, running: list[str], expected: str | None
) -> None:
    found = stack_data.keeper(nodes, asked, running)
    assert (found and found["Description"]["Hostname"]) == expected


@pytest.mark.parametrize(
    ("nodes", "asked", "words"),
    [
        ([node("a", True), node("b", True)], None, ["2 nodes have it: a, b", "--label-rm"]),
        ([node("a", True), node("b")], node("b"), ["stack_data_node is b", "on a", "backup.yml", "restore.yml"]),
        ([node("a"), node("b")], None, ["no node has the label", "db has data", "--label-add", "stack_data_node=NODE"]),
    ],
)
def test_data_is_not_left_behind(nodes: list[Any], asked: Any, words: list[str]) -> None:
    with pytest.raises(ApiaryError) as error:
        stack_data.keeper(nodes, asked, ["db"])
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.parametrize(
    ("user", "expected"),
    [("999", "999:999"), ("999:1000", "999:1000"), ("", "0:0"), ("redis", "0:0"), ("redis:redis", "0:0")],
)
def test_owner_is_the_user_that_the_service_runs_as(user: str, expected: str) -> None:
    assert stack_data.owner(user) == expected


# The script, here with a directory of the test in the place of the mounted one


def make(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = stack_data.MAKE.replace("/data/", f"{data}/").replace("chown", "true")
    command = ["sh", "-c", script, "sh", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_directories_are_made_whole_and_once(tmp_path: Path) -> None:
    first = make(tmp_path, "shop/db", "999:999", "x y", "0:0")
    assert (first.returncode, first.stdout) == (0, "made shop/db\nmade x y\n")
    assert (tmp_path / "shop/db").stat().st_mode & 0o777 == 0o700
    (tmp_path / "shop/db/kept").touch()
    (tmp_path / "shop/db").chmod(0o750)
    assert make(tmp_path, "shop/db", "999:999").stdout == ""
    assert (tmp_path / "shop/db/kept").exists()
    assert (tmp_path / "shop/db").stat().st_mode & 0o777 == 0o750
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop", "x y"]


def test_run_that_was_interrupted_is_finished_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "db.making").mkdir()
    assert make(tmp_path, "db", "999:999").returncode == 0
    assert (tmp_path / "db").is_dir()


def test_no_empty_directory_takes_the_place_of_data_that_a_restore_has_moved(tmp_path: Path) -> None:
    (tmp_path / "db.before-restore-20261125T172148Z").mkdir()
    result = make(tmp_path, "db", "999:999")
    assert result.returncode == stack_data.HALF_RESTORED
    assert not (tmp_path / "db").exists()


def test_directory_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "shop").touch()
    result = make(tmp_path, "shop/db", "999:999")
    assert result.returncode not in (0, stack_data.HALF_RESTORED)
    assert "Not a directory" in result.stderr


# The whole of it


class FakeSwarm:
    """Two machines: what is asked of their engines, and what becomes of it."""

    def __init__(self) -> None:
        self.live_nodes = [node("node1"), node("node2")]
        self.live_services: list[dict[str, Any]] = []
        self.ran: list[tuple[str, list[str], Any]] = []
        self.answer: tuple[int, str] | Exception = (0, "made getstartedlab/redis\n")
        self.where = ""

    def __call__(self, endpoint: dict[str, Any], *_options: Any) -> FakeSwarm:
        self.where = endpoint["docker_host"]
        return self

    def __enter__(self) -> FakeSwarm:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def info(self) -> dict[str, Any]:
        return {"Swarm": {"NodeID": f"id-{self.where}"}}

    def nodes(self) -> list[dict[str, Any]]:
        return self.live_nodes

    def services(self, filters: Any) -> list[dict[str, Any]]:
        return self.live_services

    def inspect_image(self, name: str) -> dict[str, Any]:
        if name != "apiary/redis:1":
            raise docker.errors.NotFound("x")
        return {"Config": {"User": "999:999"}}

    def update_node(self, key: str, version: int, spec: dict[str, Any]) -> None:
        (found,) = [entry for entry in self.live_nodes if entry["ID"] == key]
        assert version == found["Version"]["Index"]
        found["Spec"] = spec

    def run(self, api: Any, name: str, command: list[str], binds: Any, timeout_seconds: float) -> tuple[int, str]:
        self.ran.append((self.where, command[4:], binds))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def deployed(self) -> None:
        service = live(PATH)
        service["Spec"] |= {"Name": "getstartedlab_redis", "Labels": {"com.docker.stack.namespace": "getstartedlab"}}
        self.live_services = [service]

    @property
    def holder(self) -> list[str]:
        return [entry["Description"]["Hostname"] for entry in stack_data.holders(self.live_nodes)]


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> FakeSwarm:
    made = FakeSwarm()
    monkeypatch.setattr(action_module, "connect", made)
    monkeypatch.setattr(swarm_hosts, "connect", made)
    monkeypatch.setattr(node_programs, "run", made.run)
    return made


def run(check: bool = False, **given: Any) -> dict[str, Any]:
    action = action_module.ActionModule.__new__(action_module.ActionModule)
    action._task = MagicMock(check_mode=check, diff=True)
    params = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}
    hosts = ("node1", "node2")
    asked = {
        "docker": {"docker_host": "node1"},
        "name": "getstartedlab",
        "compose": rendered(),
        "data_dir": "/var/lib/apiary",
        "endpoints": {host: {"docker_host": host} for host in hosts},
        "data_dirs": dict.fromkeys(hosts, "/var/lib/apiary"),
    }
    return action.outcome(params | asked | given, {})


def test_first_deploy_makes_the_directory_on_the_first_manager_and_labels_it(swarm: FakeSwarm) -> None:
    result = run()
    assert result["changed"]
    assert result["actions"][0] == f"make {PATH} on node1"
    assert swarm.ran == [("node1", ["getstartedlab/redis", "999:999"], {"/var/lib/apiary": "/data"})]
    assert swarm.holder == ["node1"]


def test_rerun_asks_the_manager_alone(swarm: FakeSwarm) -> None:
    run()
    swarm.deployed()
    swarm.ran.clear()
    assert run() == {"changed": False, "actions": [], "node": "node1"}
    assert swarm.ran == []


def test_deploy_after_the_stack_was_removed_finds_what_was_kept(swarm: FakeSwarm) -> None:
    run()
    swarm.answer = (0, "")
    assert not run()["changed"]


def test_another_first_manager_does_not_move_the_data(swarm: FakeSwarm) -> None:
    run(node="node2")
    swarm.deployed()
    assert swarm.holder == ["node2"]
    assert run()["node"] == "node2"
    with pytest.raises(ApiaryError, match="stack_data_node is node1, and the data is on node2"):
        run(node="node1")
    assert swarm.holder == ["node2"]


def test_data_whose_node_is_gone_is_not_begun_anew_unasked(swarm: FakeSwarm) -> None:
    run()
    swarm.deployed()
    swarm.live_nodes = [node("node2")]
    with pytest.raises(ApiaryError, match="no node has the label"):
        run()
    assert run(node="node2")["node"] == "node2"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((1, "mkdir: cannot create directory: Read-only file system\n"), ["Read-only", "stack_data_dir"]),
        (
            docker.errors.APIError("x", MagicMock(status_code=400), "error while creating mount source path"),
            ["mount source path", "stack_data_dir"],
        ),
        ((stack_data.HALF_RESTORED, "x.before-restore is there, and x is not"), ["interrupted", "restore.yml again"]),
    ],
)
def test_directory_that_cannot_be_made_ends_the_deploy_before_it_begins(
    swarm: FakeSwarm, answer: Any, words: list[str]
) -> None:
    swarm.answer = answer
    with pytest.raises(ApiaryError) as error:
        run()
    assert [word for word in ["nothing was deployed", "node1", *words] if word not in str(error.value)] == []
    assert swarm.holder == []


def test_directory_of_another_kind_of_machine_is_refused(swarm: FakeSwarm) -> None:
    dirs = {"node1": "/var/lib/apiary", "node2": "/var/lib/boot2docker/data"}
    with pytest.raises(ApiaryError, match="set it to /var/lib/boot2docker/data"):
        run(node="node2", data_dirs=dirs)
    assert swarm.ran == []


def test_node_that_is_no_host_is_refused(swarm: FakeSwarm) -> None:
    with pytest.raises(ApiaryError, match="stack_data_node is node7, and there is no such host in the inventory"):
        run(node="node7")


def test_host_of_the_data_is_found_by_its_engine_where_names_differ(swarm: FakeSwarm) -> None:
    swarm.live_nodes[1]["Description"]["Hostname"] = "debian"
    swarm.live_nodes[1]["Spec"]["Labels"] = {"apiary.data": "true"}
    assert run()["node"] == "node2"
    assert swarm.ran[0][0] == "node2"


def test_machine_that_has_the_data_and_does_not_answer_is_named(swarm: FakeSwarm) -> None:
    swarm.live_nodes.append(node("node3", True))
    with pytest.raises(ApiaryError, match=r"data of stacks is on the node node3, .*playbooks/machines.yml"):
        run()


def test_check_foretells_and_changes_nothing(swarm: FakeSwarm) -> None:
    result = run(check=True)
    assert result["actions"][0] == f"make {PATH} on node1, unless it is there"
    assert (swarm.ran, swarm.holder) == ([], [])


def test_check_of_a_swarm_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_module, "connect", MagicMock(side_effect=ApiaryError("cannot be reached")))
    assert run(check=True)["changed"]
    with pytest.raises(ApiaryError, match="cannot be reached"):
        run()


def test_stack_without_data_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_module, "connect", MagicMock(side_effect=AssertionError))
    text = rendered(stack_services=["web"])
    assert run(compose=text, endpoints={}) == {"changed": False, "actions": [], "node": ""}
    with pytest.raises(ApiaryError, match="stack_endpoints, which says how nodes are reached, is empty"):
        run(endpoints={})
