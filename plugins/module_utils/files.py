# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files of a cluster: written whole or not at all, and for their owner's eyes only."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def private_directory(path: Path) -> Path:
    """Make *path* (and what leads to it), readable by its owner only, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write *content* to *path* so that an interruption leaves the old file or the new one, never a half."""
    making = path.with_name(f"{path.name}.making.{threading.get_native_id()}")
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    making.replace(path)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on *path*; Ansible's workers make machines of one cluster at the same time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
