# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of the cache may go."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils import cache_prune, qemu_snapshot

CURRENT, OLD, RUNNING = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"


def snapshot(cache: Path, key: str, name: str, *, linked: bool = True) -> Path:
    directory = cache / "golden" / f"{key}-{name}"
    directory.mkdir(parents=True)
    for file in ("ram", "state", "disk", "overlay", "manifest.json"):
        (directory / file).write_bytes(b"x" * 5000)
    if linked:
        (cache / "golden" / key).symlink_to(directory.name)
    return directory


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with what is current, what is old, and what only a machine uses that exists."""
    cache = tmp_path / "cache"
    for image in (CURRENT, OLD, RUNNING):
        (cache / image).mkdir(parents=True)
        (cache / image / "root.ext2").write_bytes(b"x" * 5000)
    (cache / f"{OLD}.making.Xa1").mkdir()
    snapshot(cache, CURRENT, "1")
    snapshot(cache, CURRENT, "0", linked=False)
    snapshot(cache, OLD, "1")
    (cache / "golden" / f"{OLD}.making").mkdir()
    used = snapshot(cache, RUNNING, "1")
    machine = tmp_path / "state" / "machines" / "myvm1"
    machine.mkdir(parents=True)
    (machine / "disk.base").symlink_to(used / "disk")
    (machine / "machine.json").write_text(json.dumps({"image": str(cache / RUNNING)}))
    (cache / "users").mkdir()
    (cache / "users" / "1").write_text(str(machine))
    images = tmp_path / "images"
    images.mkdir()
    for name in ("apiary-web-1", "apiary-web-0"):
        (images / f"{name}.tar.gz").write_bytes(b"x" * 5000)
        (images / f"{name}.tar.gz.sha256").write_text("...")
    (images / "apiary-redis-1.tar.making").mkdir()
    return cache


def found(cache: Path) -> list[cache_prune.Superfluous]:
    images = cache.parent / "images"
    kept = {images / "apiary-web-1.tar.gz"}
    return cache_prune.superfluous(cache, images, image=cache / CURRENT, snapshot_keys={CURRENT}, archives_kept=kept)


def test_what_neither_machines_nor_the_inventory_need_is_superfluous(cache: Path) -> None:
    assert {str(item.path.relative_to(cache.parent)) for item in found(cache)} == {
        f"cache/{OLD}",
        f"cache/{OLD}.making.Xa1",
        f"cache/golden/{CURRENT}-0",
        f"cache/golden/{OLD}-1",
        f"cache/golden/{OLD}.making",
        f"cache/golden/{RUNNING}-1",
        "images/apiary-redis-1.tar.making",
        "images/apiary-web-0.tar.gz",
    }


def test_of_an_image_that_was_moved_elsewhere_only_the_link_goes(cache: Path, tmp_path: Path) -> None:
    (cache / OLD).rename(tmp_path / "elsewhere")
    (cache / OLD).symlink_to(tmp_path / "elsewhere")
    (item,) = (item for item in found(cache) if item.path == cache / OLD)
    assert item.bytes < 5000
    item.remove()
    assert not (cache / OLD).is_symlink()
    assert (tmp_path / "elsewhere" / "root.ext2").exists()


def test_pruned_cache_holds_what_is_needed_and_has_nothing_more_to_prune(cache: Path) -> None:
    for item in found(cache):
        item.remove()
    assert found(cache) == []
    assert len(list((cache / "golden" / CURRENT).iterdir())) == 5
    assert [path.name for path in (cache / "golden" / f"{RUNNING}-1").iterdir()] == ["disk"]
    assert sorted(path.name for path in (cache.parent / "images").iterdir()) == [
        "apiary-web-1.tar.gz",
        "apiary-web-1.tar.gz.sha256",
    ]
    assert {path.name for path in cache.iterdir()} == {CURRENT, RUNNING, "golden", "users"}


def test_what_is_counted_is_what_is_freed(cache: Path) -> None:
    before = qemu_snapshot.disk_usage(cache)
    items = [item for item in found(cache) if cache in item.path.parents]
    for item in items:
        item.remove()
    assert before - qemu_snapshot.disk_usage(cache) == sum(item.bytes for item in items)


def test_what_is_being_made_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with cache_prune.free(path) as free:
            assert not free
    with cache_prune.free(path) as free:
        assert free


def test_every_superfluous_thing_has_the_lock_under_which_it_is_made(cache: Path) -> None:
    assert {item.path.name: item.lock.name for item in found(cache)} == {
        OLD: f"{OLD}.lock",
        f"{OLD}.making.Xa1": f"{OLD}.lock",
        f"{CURRENT}-0": f"{CURRENT}.lock",
        f"{OLD}-1": f"{OLD}.lock",
        f"{OLD}.making": f"{OLD}.lock",
        f"{RUNNING}-1": f"{RUNNING}.lock",
        "apiary-redis-1.tar.making": "apiary-redis-1.tar.lock",
        "apiary-web-0.tar.gz": "apiary-web-0.tar.lock",
    }
