# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backups: what a service says of its data, what is in the file, and what becomes of the directories on the node."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.apiary.swarm.plugins.action import stack_restore
from ansible_collections.apiary.swarm.plugins.module_utils import stack_backup as backups
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.stack_backup import Entry, Kept

LABELS = {"apiary.backup": "/data/dump.rdb", "apiary.backup.save": "/redis/save", "apiary.backup.check": "sh -c 'x y'"}
MOUNT = {"Type": "bind", "Source": "/var/lib/apiary/shop/redis", "Target": "/data"}


def service(labels: dict[str, str] | None = None, *mounts: dict[str, str], constraint: str = "") -> dict[str, Any]:
    return {
        "ID": "s1",
        "Spec": {
            "Name": "shop_redis",
            "Labels": LABELS if labels is None else labels,
            "TaskTemplate": {
                "ContainerSpec": {"Image": "redis:1", "Mounts": list(mounts or (MOUNT,))},
                "Placement": {"Constraints": [constraint] if constraint else None},
            },
        },
    }


REDIS = Kept("redis", "s1", "redis:1", MOUNT["Source"], "/data", "dump.rdb", ("/redis/save",), ("sh", "-c", "x y"))


# What a service says


@pytest.mark.parametrize("asked", [[], ["redis"]])
def test_service_says_by_labels_what_to_copy(asked: list[str]) -> None:
    services = {"redis": service(), "web": service({})}
    assert backups.kept(services, asked, "shop") == [REDIS]
    assert REDIS.in_container == "/data/dump.rdb"


@pytest.mark.parametrize(
    ("path", "relative"), [("/data", "."), ("/data/", "."), ("/data/a/b", "a/b"), ("/data/dump.rdb", "dump.rdb")]
)
def test_what_is_copied_is_a_part_of_what_is_bound(path: str, relative: str) -> None:
    (kept,) = backups.kept({"redis": service({"apiary.backup": path})}, [], "shop")
    assert (kept.path, kept.save, kept.check) == (relative, (), ())


@pytest.mark.parametrize(
    ("services", "asked", "words"),
    [
        ({}, [], ["no stack shop", "playbooks/stack.yml"]),
        ({"web": service({})}, [], ["no service of the stack shop", "apiary.backup"]),
        ({"redis": service()}, ["rdis"], ["backup_services has rdis", "no such service", "redis"]),
        ({"redis": service(), "web": service({})}, ["web"], ["backup_services has web", "apiary.backup", "as redis"]),
        ({"redis": service({"apiary.backup": "/other/x"})}, [], ["/other/x", "no directory that the service binds"]),
        ({"redis": service(None, {**MOUNT, "Type": "volume"})}, [], ["/data/dump.rdb", "no directory"]),
    ],
)
def test_what_cannot_be_copied_is_named(services: dict[str, Any], asked: list[str], words: list[str]) -> None:
    with pytest.raises(ApiaryError) as error:
        backups.kept(services, asked, "shop")
    assert [word for word in words if word not in str(error.value)] == []


def task(node: str, state: str = "running", created: str = "1", service_id: str = "s1") -> dict[str, Any]:
    return {
        "ID": f"{node}-{created}",
        "ServiceID": service_id,
        "NodeID": node,
        "CreatedAt": created,
        "DesiredState": "running",
        "Status": {"State": state},
    }


def node(key: str, **labels: str) -> dict[str, Any]:
    return {"ID": key, "Spec": {"Labels": {name.replace("_", "."): value for name, value in labels.items()}}}


@pytest.mark.parametrize(
    ("tasks", "constraint", "expected"),
    [
        ([task("a"), task("b", "failed", "2")], "", "a"),
        ([task("a", "failed"), task("b", "failed", "2")], "", "b"),
        ([task("a", "failed")], "node.labels.apiary.data == true", "b"),
        ([task("a")], "node.labels.apiary.data == true", "a"),
        ([], "node.labels.apiary.data == true", "b"),
        ([], "", None),
        ([task("gone", "failed")], "", None),
        ([task("a", service_id="other")], "", None),
    ],
)
def test_data_is_where_the_service_runs_or_must_run_or_ran_last(
    tasks: list[Any], constraint: str, expected: str | None
) -> None:
    found = backups.node_of_data(service(constraint=constraint), tasks, [node("a"), node("b", apiary_data="true")])
    assert (found and found["ID"]) == expected


# The file


def engine_copy(**files: str) -> io.BytesIO:
    """Return what an engine answers to a request for a file or a directory."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.uid, member.mode = len(content), 999, 0o640
            archive.addfile(member, io.BytesIO(content.encode()))
    output.seek(0)
    return output


def write(path: Path, copied: io.BytesIO | None = None, kept: Kept = REDIS, stack: str = "shop") -> Path:
    entries = [Entry("redis", "redis:1", "dump.rdb", "1 keys, 42 visits")]
    with backups.writing(path, backups.manifest_of(stack, "2026-11-25T17:21:48Z", 1, entries)) as archive:
        backups.add(archive, kept, copied or engine_copy(**{"dump.rdb": "data"}))
    return path


def files(path: Path) -> dict[str, tuple[str, int, int]]:
    output = io.BytesIO()
    backups.files_of(path, "redis", "/home/files", output)
    with tarfile.open(fileobj=output) as archive:
        return {m.name: (archive.extractfile(m).read().decode(), m.uid, m.mode) for m in archive if m.isreg()}  # type: ignore[union-attr]


def test_backup_comes_back_as_it_went_in(tmp_path: Path) -> None:
    path = write(tmp_path / "deep" / "backup.tar.gz")
    assert backups.read(path, "shop") == {"redis": Entry("redis", "redis:1", "dump.rdb", "1 keys, 42 visits")}
    assert files(path) == {"home/files/dump.rdb": ("data", 999, 0o640)}
    assert backups.created(path) == "2026-11-25T17:21:48Z"


@pytest.mark.parametrize(
    ("path", "copied", "expected"),
    [
        ("dump.rdb", {"dump.rdb": "x"}, ["home/files/dump.rdb"]),
        ("a/b", {"b/c": "x", "b/d/e": "y"}, ["home/files/a/b/c", "home/files/a/b/d/e"]),
        (".", {"data/c": "x", "data/d/e": "y"}, ["home/files/c", "home/files/d/e"]),
    ],
)
def test_files_lie_as_in_the_directory_that_is_bound(
    tmp_path: Path, path: str, copied: dict[str, str], expected: list[str]
) -> None:
    kept = Kept("redis", "s1", "redis:1", "/d", "/data", path)
    assert sorted(files(write(tmp_path / "b", engine_copy(**copied), kept))) == expected


def test_backup_is_for_its_owner_alone(tmp_path: Path) -> None:
    os.umask(previous := os.umask(0))
    try:
        os.umask(0)
        path = write(tmp_path / "new" / "backup.tar.gz")
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_backup_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(tarfile.ReadError):
        write(tmp_path / "b", io.BytesIO(b"no tar archive" * 100))
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ApiaryError, match=r"cannot be written to .*file/b: File exists"):
        write(tmp_path / "file" / "b")


def damaged(path: Path, kind: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    changed = {
        "cut": content[:-20],
        "altered": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
        "empty": b"",
        "text": b"hello" * 100,
    }
    path.write_bytes(changed[kind])


@pytest.mark.parametrize("kind", ["cut", "altered", "empty", "text"])
def test_damaged_backup_is_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "b", engine_copy(**{"dump.rdb": "some data"}))
    damaged(path, kind)
    with pytest.raises(ApiaryError, match=f"the backup {path}"):
        backups.read(path, "shop")


def test_backup_of_another_stack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ApiaryError, match="is of the stack other, not of shop"):
        backups.read(write(tmp_path / "b", stack="other"), "shop")


@pytest.mark.parametrize(
    ("member", "kind"), [("redis/../x", tarfile.REGTYPE), ("/etc/x", tarfile.REGTYPE), ("redis/x", tarfile.CHRTYPE)]
)
def test_archive_with_members_that_reach_out_is_refused(tmp_path: Path, member: str, kind: bytes) -> None:
    path = tmp_path / "b"
    with backups.writing(path, backups.manifest_of("shop", "x", 1, [])) as archive:
        info = tarfile.TarInfo(member)
        info.type = kind
        archive.addfile(info, io.BytesIO())
    with pytest.raises(ApiaryError, match="damaged"):
        backups.read(path, "shop")


def test_archive_that_is_no_backup_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "b", mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    with pytest.raises(ApiaryError, match="no backup of Apiary's"):
        backups.read(tmp_path / "b", "shop")


def test_newest_backup_is_found_by_its_name(tmp_path: Path) -> None:
    for name in ("shop-20261125T172148Z", "shop-20261126T072148Z", "other-20271125T172148Z"):
        (tmp_path / f"{name}.tar.gz").touch()
    assert backups.newest(tmp_path, "shop").name == "shop-20261126T072148Z.tar.gz"
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ApiaryError, match=r"no backup of the stack mine .*playbooks/backup.yml"):
            backups.newest(directory, "mine")


def test_services_that_a_backup_has_not_are_named(tmp_path: Path) -> None:
    entries = {"redis": Entry("redis", "redis:1", "dump.rdb", "")}
    assert backups.chosen(entries, [], tmp_path) == backups.chosen(entries, ["redis"], tmp_path)
    with pytest.raises(ApiaryError, match=r"backup_services has db, and the backup .* has only redis"):
        backups.chosen(entries, ["redis", "db"], tmp_path)


# On the node, here with directories of the test in the place of the mounted ones


class Node:
    def __init__(self, home: Path) -> None:
        self.data, self.files = home / "data", home / "files"
        (self.data / "db").mkdir(parents=True)
        self.files.mkdir()
        (self.data / "db" / "old").write_text("old")
        (self.files / "new").write_text("new")

    def run(self, script: str, moment: str = "T1", until: str = "") -> int:
        """Run a script, or what of it comes before *until*: as if the machine stopped there."""
        script = script.partition(until)[0] if until else script
        script = script.replace("cd /data", f"cd {self.data}").replace("/project/files", str(self.files))
        return subprocess.run(["sh", "-c", script, "sh", "db", moment], capture_output=True, check=False).returncode

    @property
    def content(self) -> dict[str, list[str]]:
        return {path.name: sorted(inner.name for inner in path.iterdir()) for path in self.data.iterdir()}


@pytest.fixture
def machine(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_data_is_exchanged_and_the_old_one_kept(machine: Node) -> None:
    assert machine.run(backups.PREPARE) == 0
    assert machine.content == {"db": ["old"], "db.restored": ["new"]}
    assert machine.run(backups.EXCHANGE) == 0
    assert machine.content == {"db": ["new"], "db.before-restore-T1": ["old"]}


def test_undoing_brings_back_the_old_data(machine: Node) -> None:
    for script in (backups.PREPARE, backups.EXCHANGE, backups.UNDO):
        assert machine.run(script) == 0
    assert machine.content == {"db": ["old"]}


def test_there_is_nothing_to_undo_where_there_was_nothing(machine: Node) -> None:
    (machine.data / "db" / "old").unlink()
    (machine.data / "db").rmdir()
    assert machine.run(backups.PREPARE) == 0
    assert machine.run(backups.EXCHANGE) == 0
    assert machine.run(backups.UNDO) != 0
    assert machine.content == {"db": ["new"]}


def test_restore_that_was_interrupted_between_the_moves_is_undone_first(machine: Node) -> None:
    machine.run(backups.PREPARE)
    machine.run(backups.EXCHANGE, until='mv "$1.restored"')
    assert machine.content == {"db.before-restore-T1": ["old"], "db.restored": ["new"]}
    assert machine.run(backups.PREPARE) == 0
    assert machine.content == {"db": ["old"], "db.restored": ["new"]}


def test_no_restore_removes_what_an_earlier_one_has_replaced(machine: Node) -> None:
    for moment in ("T1", "T2"):
        machine.run(backups.PREPARE, moment)
        machine.run(backups.EXCHANGE, moment)
    assert machine.content == {"db": ["new"], "db.before-restore-T1": ["old"], "db.before-restore-T2": ["new"]}


def test_copy_that_fails_leaves_the_data_alone(machine: Node) -> None:
    (machine.files / "new").unlink()
    machine.files.rmdir()
    assert machine.run(backups.PREPARE) != 0
    assert machine.content["db"] == ["old"]


# The restore of a service


class FakeService:
    """A service that stops and starts as it is told, and fails with data that it does not like."""

    def __init__(self, *, likes: bool, checks: bool) -> None:
        self.likes, self.checks = likes, checks
        self.scripts: list[str] = []
        self.scaled: list[int] = []
        self.started = 0

    def on_node(self, _what: str, script: str, _files: Any = b"") -> None:
        self.scripts.append(next(name for name in ("PREPARE", "EXCHANGE", "UNDO") if getattr(backups, name) == script))

    def scale(self, replicas: int) -> None:
        self.scaled.append(replicas)
        self.started += replicas

    def tasks(self) -> list[dict[str, Any]]:
        if not self.scaled or not self.scaled[-1]:
            return []
        is_good = self.likes or "UNDO" in self.scripts
        made = task("a", "running" if is_good else "failed", str(self.started))
        made["Status"]["ContainerStatus"] = {"ContainerID": "c"}
        return [made]


def restore(monkeypatch: pytest.MonkeyPatch, fake: FakeService, check: tuple[str, ...] = ("check",)) -> Any:
    kept = Kept("redis", "s1", "redis:1", "/d/redis", "/data", "dump.rdb", (), check)
    job = stack_restore._Job(kept, Entry("redis", "redis:1", "dump.rdb", "1 keys"), "node1", 1)
    params = {"name": "shop", "timeout_seconds": 1, "endpoints": {"node1": {}}, "docker": {}}
    made = stack_restore._Restore(params, job, Path("b"), "T1")
    monkeypatch.setattr(made, "_prepare", lambda: fake.on_node("", backups.PREPARE))
    monkeypatch.setattr(made, "_on_node", fake.on_node)
    monkeypatch.setattr(made, "_scale", fake.scale)
    monkeypatch.setattr(made, "_tasks", fake.tasks)
    monkeypatch.setattr(made, "_told", lambda task: "bad file format")
    monkeypatch.setattr(stack_restore, "connect", MagicMock())
    monkeypatch.setattr(
        stack_restore, "execute", lambda _api, _container, command: (0 if fake.checks else 1, " ".join(command))
    )
    return made


def test_service_is_stopped_for_the_exchange_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeService(likes=True, checks=True)
    assert restore(monkeypatch, fake).run() == "check 1 keys"
    assert (fake.scripts, fake.scaled) == (["PREPARE", "EXCHANGE"], [0, 1])


@pytest.mark.parametrize(
    ("likes", "checks", "reason"), [(False, True, "bad file format"), (True, False, "exit status 1")]
)
def test_data_that_does_not_serve_is_taken_back(
    monkeypatch: pytest.MonkeyPatch, likes: bool, checks: bool, reason: str
) -> None:
    fake = FakeService(likes=likes, checks=checks)
    with pytest.raises(ApiaryError, match=f"(?s)shop_redis has the data again that it had before.*{reason}"):
        restore(monkeypatch, fake).run()
    assert (fake.scripts, fake.scaled) == (["PREPARE", "EXCHANGE", "UNDO"], [0, 1, 0, 1])


def test_service_that_cannot_be_prepared_for_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeService(likes=True, checks=True)
    made = restore(monkeypatch, fake)
    monkeypatch.setattr(made, "_prepare", MagicMock(side_effect=ApiaryError("no space")))
    with pytest.raises(ApiaryError, match="no space"):
        made.run()
    assert fake.scaled == []


def test_service_whose_exchange_fails_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeService(likes=True, checks=True)
    made = restore(monkeypatch, fake)
    monkeypatch.setattr(made, "_on_node", MagicMock(side_effect=ApiaryError("read-only")))
    with pytest.raises(ApiaryError, match="read-only"):
        made.run()
    assert fake.scaled == [0, 1]


class FakeSwarm:
    """A swarm with one service, which keeps what was before an update as Docker does."""

    def __init__(self, replicas: int) -> None:
        self.service = service({"com.docker.stack.namespace": "shop"})
        self.service["Spec"]["Mode"] = {"Replicated": {"Replicas": replicas}}
        self.service["Version"] = {"Index": 1}
        self._url, self._raise_for_status = MagicMock(), MagicMock()

    def services(self, **_filters: Any) -> list[dict[str, Any]]:
        return [self.service]

    def tasks(self, **_filters: Any) -> list[dict[str, Any]]:
        return [task("n1")]

    def nodes(self) -> list[dict[str, Any]]:
        return [node("n1")]

    def inspect_service(self, _key: str) -> dict[str, Any]:
        return deepcopy(self.service)

    def _post_json(self, _url: str, data: dict[str, Any], params: dict[str, Any]) -> None:
        assert params == {"version": self.service["Version"]["Index"]}
        version = {"Index": params["version"] + 1}
        self.service |= {"PreviousSpec": self.service["Spec"], "Spec": data, "Version": version}


def test_restore_that_was_interrupted_twice_knows_how_many_tasks_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    swarm = FakeSwarm(3)
    monkeypatch.setattr(stack_restore, "connect", MagicMock(return_value=nullcontext(swarm)))
    params = {"name": "shop", "docker": {}, "endpoints": {"n1": {}}}
    monkeypatch.setattr(stack_restore, "host_of", lambda *_: "n1")
    monkeypatch.setattr(backups, "kept", lambda *_: [REDIS])
    for _ in range(3):
        (job,) = stack_restore._jobs(params, [Entry("redis", "redis:1", "dump.rdb", "1 keys")])
        stack_restore._Restore(params, job, Path("b"), "T1")._scale(0)
        assert swarm.service["Spec"]["Mode"] == {"Replicated": {"Replicas": 0}}
    assert job.replicas == 3


def test_what_there_is_to_do_is_read_once_no_other_restore_is_at_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = Entry("redis", "redis:1", "dump.rdb", "1 keys")
    replicas = 0  # as while another restore has stopped the service
    restored = []

    @contextmanager
    def lock(_path: Path) -> Iterator[None]:
        nonlocal replicas
        replicas = 3
        yield

    class Restore:
        def __init__(self, _params: Any, job: Any, _path: Path, _moment: str) -> None:
            restored.append(job.replicas)

        def run(self) -> str:
            return "1 keys"

    monkeypatch.setattr(stack_restore, "lock", lock)
    monkeypatch.setattr(stack_restore, "_Restore", Restore)
    monkeypatch.setattr(
        stack_restore, "_jobs", lambda _params, _entries: [stack_restore._Job(REDIS, entry, "node1", replicas)]
    )
    file = write(tmp_path / "shop-20260101T000000Z.tar")
    action = object.__new__(stack_restore.ActionModule)
    action._task = MagicMock(check_mode=False)
    params = {"name": "shop", "file": str(file), "services": [], "directory": str(tmp_path)}
    assert action.outcome(params, {})["services"]["redis"]["now"] == "1 keys"
    assert restored == [3]
