# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of the cache nobody needs: neither a machine that exists, nor one that the inventory would make."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ansible_collections.apiary.swarm.plugins.module_utils import qemu_snapshot

_MACHINE_IMAGE = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Superfluous:
    """Something to remove, how, and the lock under which it would be made."""

    path: Path
    bytes: int
    lock: Path
    remove: Callable[[], None]


def superfluous(
    machines: Path, archives: Path, *, image: Path, snapshot_keys: Collection[str], archives_kept: Collection[Path]
) -> list[Superfluous]:
    """Return what can go: of *machines*, machine images and snapshots, and of *archives*, archives of images."""
    used = qemu_snapshot.used(machines)
    return [
        *_machine_images(machines, used | {image}),
        *_snapshots(machines / "golden", snapshot_keys, used),
        *_archives(archives, archives_kept),
    ]


@contextmanager
def free(lock: Path) -> Iterator[bool]:
    """Hold a lock, unless somebody else does; tell which."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _machine_images(machines: Path, kept: Collection[Path]) -> Iterator[Superfluous]:
    for path in sorted(machines.glob("*")):
        name = path.name.partition(".making.")[0]
        if _MACHINE_IMAGE.fullmatch(name) and path not in kept and path.is_dir():
            yield _whole(path, machines / f"{name}.lock")


def _snapshots(directory: Path, keys: Collection[str], used: Collection[Path]) -> Iterator[Superfluous]:
    current = {(directory / key).resolve() for key in keys}
    for path in sorted(directory.glob("*")):
        key = re.split(r"[-.]", path.name)[0]
        lock = directory / f"{key}.lock"
        if path.is_symlink() or not path.is_dir() or path.resolve() in current:
            continue
        needed = {entry for entry in path.iterdir() if entry.name == "disk"} if path.resolve() in used else set()
        size = sum(_bytes(entry) for entry in path.iterdir() if entry not in needed)
        if size or not needed:
            yield Superfluous(path, size, lock, partial(_remove_snapshot, path, key, keep_disk=bool(needed)))


def _remove_snapshot(path: Path, key: str, *, keep_disk: bool) -> None:
    link = path.with_name(key)
    if link.is_symlink() and link.resolve() == path.resolve():
        link.unlink()
    qemu_snapshot.remove(path, keep_disk=keep_disk)


def _archives(directory: Path, kept: Collection[Path]) -> Iterator[Superfluous]:
    for path in sorted(directory.glob("*.tar.gz")):
        if path not in kept:
            yield Superfluous(path, _bytes(path), path.with_suffix(".lock"), partial(_remove_archive, path))
    for path in sorted(directory.glob("*.making")):
        if path.is_dir():
            yield _whole(path, path.with_suffix(".lock"))


def _remove_archive(path: Path) -> None:
    path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)
    path.unlink()


def _whole(path: Path, lock: Path) -> Superfluous:
    """Something to remove as a whole; of what was moved elsewhere, the link to it."""
    return Superfluous(path, _bytes(path), lock, path.unlink if path.is_symlink() else partial(shutil.rmtree, path))


def _bytes(path: Path) -> int:
    return qemu_snapshot.disk_usage(path) if path.is_dir() and not path.is_symlink() else path.lstat().st_blocks * 512
