# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Golden snapshots, as far as they can be told without starting a machine."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils import qemu, qemu_snapshot
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import Image

IMAGE = Image("apiary/web", Path("/images/web"), "0a1b2c", "")


@pytest.fixture(autouse=True)
def no_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_snapshot, "_qemu_version", lambda: "QEMU emulator version 7.2.22")


@pytest.fixture
def recipe(tmp_path: Path) -> qemu_snapshot.Recipe:
    return qemu_snapshot.Recipe(
        cache=tmp_path / "cache",
        image=Path("/cache/qemu/3f9d0c2a71b4"),
        memory_mib=512,
        cpus=1,
        disk_gib=10,
        accelerator="tcg",
        cpu_model="",
        images=(IMAGE,),
        image_cache=ImageCache(tmp_path / "images"),
        boot_timeout_seconds=180,
    )


@pytest.mark.parametrize(
    "change",
    [
        {"image": Path("/cache/qemu/another")},
        {"memory_mib": 1024},
        {"cpus": 2},
        {"disk_gib": 20},
        {"accelerator": "kvm"},
        {"cpu_model": "max"},
        {"images": ()},
        {"images": (replace(IMAGE, tag="3d4e5f"),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_a_clone_must_match_makes_another_snapshot(recipe: qemu_snapshot.Recipe, change: dict[str, Any]) -> None:
    assert replace(recipe, **change).key != recipe.key


def test_another_qemu_needs_another_snapshot(recipe: qemu_snapshot.Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe.key
    monkeypatch.setattr(qemu_snapshot, "_qemu_version", lambda: "QEMU emulator version 8.2.0")
    assert recipe.key != before


def test_where_files_are_does_not_make_another_snapshot(recipe: qemu_snapshot.Recipe) -> None:
    moved = replace(recipe, cache=Path("/elsewhere"), image=Path("/elsewhere/qemu/3f9d0c2a71b4"))
    assert moved.key == recipe.key


class Builder:
    """Stands in for QEMU: fills the template's directory as a build does, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.builds = 0
        self.seconds = 0.0
        self.error: BaseException | None = None
        monkeypatch.setattr(qemu_snapshot, "_running", self.running)
        monkeypatch.setattr(qemu_snapshot, "_fill", lambda *_: None)
        monkeypatch.setattr(qemu_snapshot, "_freeze", self.freeze)

    @contextmanager
    def running(self, _recipe: qemu_snapshot.Recipe, machine: qemu.Machine, _parent: int) -> Iterator[None]:
        for name in ("client", "pki", "ssh"):
            (machine.cluster_directory / name).mkdir()
        (machine.cluster_directory / "lock").touch()
        machine.directory.mkdir(parents=True)
        machine.disk_path.write_bytes(b"disk")
        yield

    def freeze(self, _machine: qemu.Machine, making: Path) -> None:
        self.builds += 1
        time.sleep(self.seconds)
        with (making / "ram").open("wb") as file:
            file.write(b"memory")
            file.truncate(1 << 24)
        (making / "state").write_bytes(b"state" * 1000)
        (making / "overlay").write_bytes(b"overlay")
        if self.error:
            raise self.error


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    return Builder(monkeypatch)


def ensure(recipe: qemu_snapshot.Recipe) -> tuple[Path, bool, list[str]]:
    warnings: list[str] = []
    golden, built = qemu_snapshot.ensure(recipe, say=lambda _text: None, warn=warnings.append)
    return golden, built, warnings


def test_a_snapshot_is_built_once(recipe: qemu_snapshot.Recipe, builder: Builder) -> None:
    golden, built, _ = ensure(recipe)
    assert built
    assert sorted(path.name for path in golden.iterdir()) == ["disk", "manifest.json", "overlay", "ram", "state"]
    assert ensure(recipe) == (golden, False, [])
    assert builder.builds == 1


def test_memory_that_is_all_zeros_takes_no_room(recipe: qemu_snapshot.Recipe, builder: Builder) -> None:
    golden, _, _ = ensure(recipe)
    assert (golden / "ram").stat().st_size == 1 << 24
    assert qemu_snapshot.disk_usage(golden) < 1 << 20


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def flip_and_hide(path: Path) -> None:
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("name", ["ram", "state", "disk", "overlay", "manifest.json"])
@pytest.mark.parametrize("harm", [Path.unlink, flip, lambda path: os.truncate(path, 3)], ids=["gone", "other", "short"])
def test_a_damaged_snapshot_is_thrown_away_and_rebuilt(
    recipe: qemu_snapshot.Recipe, builder: Builder, name: str, harm: Any
) -> None:
    damaged, _, _ = ensure(recipe)
    harm(damaged / name)
    golden, built, warnings = ensure(recipe)
    assert built
    assert golden != damaged
    assert not damaged.exists()
    assert len(warnings) == 1
    assert str(damaged) in warnings[0]


def test_damage_to_the_state_is_seen_even_if_the_file_looks_untouched(
    recipe: qemu_snapshot.Recipe, builder: Builder
) -> None:
    damaged, _, _ = ensure(recipe)
    flip_and_hide(damaged / "state")
    assert "state is damaged" in ensure(recipe)[2][0]


@pytest.mark.parametrize("error", [ApiaryError("the engine broke"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_build_that_fails_leaves_nothing(
    recipe: qemu_snapshot.Recipe, builder: Builder, error: BaseException
) -> None:
    builder.error = error
    with pytest.raises(type(error)):
        ensure(recipe)
    assert [path.suffix for path in recipe.link.parent.iterdir()] == [".lock"]
    builder.error = None
    assert ensure(recipe)[1]


def test_what_a_killed_build_left_is_cleared_away(recipe: qemu_snapshot.Recipe, builder: Builder) -> None:
    making = recipe.link.with_suffix(".making")
    (making / "machines" / "template").mkdir(parents=True)
    (making / "ram").write_bytes(b"half")
    recipe.link.with_suffix(".link").symlink_to("nowhere")
    golden, _, _ = ensure(recipe)
    assert not making.exists()
    assert recipe.link.resolve() == golden


def test_of_two_runs_at_once_one_builds(recipe: qemu_snapshot.Recipe, builder: Builder) -> None:
    builder.seconds = 0.3
    found: list[tuple[Path, bool, list[str]]] = []
    threads = [threading.Thread(target=lambda: found.append(ensure(recipe))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builder.builds == 1
    assert found[0][0] == found[1][0]
    assert sorted(built for _, built, _ in found) == [False, True]


def test_too_little_room_is_said_before_anything_is_made(recipe: qemu_snapshot.Recipe, builder: Builder) -> None:
    with pytest.raises(ApiaryError, match=r"qemu_machine_cache_dir\) has \d+ MiB free, 4000001024 MiB are needed"):
        ensure(replace(recipe, memory_mib=4_000_000_000))
    assert builder.builds == 0


# Who uses what


@pytest.fixture
def clone(recipe: qemu_snapshot.Recipe, builder: Builder, tmp_path: Path) -> qemu.Machine:
    """A machine that was cloned from the snapshot of the recipe."""
    golden, _, _ = ensure(recipe)
    machine = replace(recipe.template(tmp_path / "state" / "apiary"), name="myvm1")
    machine.directory.mkdir(parents=True)
    machine.base_path.symlink_to(golden / "disk")
    (machine.directory / "machine.json").write_text(json.dumps({"image": "/cache/qemu/3f9d0c2a71b4"}))
    qemu_snapshot.register(recipe.cache, machine)
    return machine


def test_a_machine_uses_its_image_and_its_snapshot(recipe: qemu_snapshot.Recipe, clone: qemu.Machine) -> None:
    golden = recipe.link.resolve()
    assert qemu_snapshot.used(recipe.cache) == {golden, Path("/cache/qemu/3f9d0c2a71b4")}


def test_a_snapshot_that_is_thrown_away_keeps_the_disk_that_a_machine_builds_on(
    recipe: qemu_snapshot.Recipe, clone: qemu.Machine
) -> None:
    golden = recipe.link.resolve()
    (golden / "state").unlink()
    assert ensure(recipe)[1]
    assert [path.name for path in golden.iterdir()] == ["disk"]
    assert clone.base_path.exists()


def test_a_machine_that_is_gone_uses_nothing(recipe: qemu_snapshot.Recipe, clone: qemu.Machine) -> None:
    clone.directory.rename(clone.directory.with_name("gone"))
    assert qemu_snapshot.used(recipe.cache) == set()
    assert list((recipe.cache / "users").iterdir()) == []
