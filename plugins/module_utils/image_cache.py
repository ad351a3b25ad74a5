# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's cache of image archives: each is there whole, with its checksum beside it, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import lock, private_directory
from ansible_collections.apiary.swarm.plugins.module_utils.image_archive import diff_ids, left_out

#: what making the image base needs: the root filesystem, its layer and the archive, and room to spare
NEEDED_BYTES = 1 << 30

_LOCAL_ERRORS = {errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS}


class ImageCache:
    """Archives in *directory*, such as ``apiary-web-4f9d0c1b2a3e.tar.gz``, and a file ``.sha256`` beside each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, reference: str) -> Path:
        """Return where the archive of *reference* is or would be."""
        return self.directory / f"{reference.replace('/', '-').replace(':', '-')}.tar.gz"

    def has(self, reference: str) -> bool:
        """Say whether the archive is there; whether it is sound is for sound() to say, which reads it."""
        return _checksum_file(self.path(reference)).is_file() and self.path(reference).is_file()

    def sound(self, reference: str, base_reference: str = "") -> bool:
        """Say whether the archive is there, as it was written, and what it leaves out is in the archive of its base.

        A base that was made again has the same tag, and another layer: what was built on the earlier one is void.
        """
        path = self.path(reference)
        try:
            recorded = _checksum_file(path).read_text().split()[0]
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != recorded:
                    return False
            return not base_reference or left_out(path) <= set(diff_ids(self.path(base_reference)))
        except (OSError, IndexError, tarfile.TarError):
            return False

    @contextmanager
    def making(self, reference: str, base_reference: str = "") -> Iterator[Path | None]:
        """Give a path to write the archive to, or None when it is there by now; at the end it becomes the archive.

        The directory of that path is for other files that are needed on the way. Whoever else wants to make the
        same archive waits. An interruption leaves nothing that counts as one.
        """
        try:
            private_directory(self.directory)
            with lock(self.path(reference).with_suffix(".lock")):
                if self.sound(reference, base_reference):
                    yield None
                    return
                self._require_space(reference)
                path = self.path(reference)
                workshop = path.with_suffix(".making")
                # The lock is ours, so what is there was left by a run that was killed.
                shutil.rmtree(workshop, ignore_errors=True)
                workshop.mkdir()
                try:
                    yield workshop / path.name
                    _commit(workshop / path.name, path)
                finally:
                    shutil.rmtree(workshop)
        except OSError as error:
            if error.errno not in _LOCAL_ERRORS:  # an engine's connection broke: its errors are OSErrors too
                raise
            raise ApiaryError(f"cannot keep {reference} in {self.directory} (image_cache_dir): {error}") from error

    def _require_space(self, reference: str) -> None:
        problem = space_problem(self.directory)
        if problem:
            raise ApiaryError(f"{reference} cannot be made: {problem}")


def space_problem(directory: Path) -> str:
    """Return what is wrong with the room in *directory*, which may not exist yet; empty when there is enough."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free >= NEEDED_BYTES:
        return ""
    return (
        f"{directory} (image_cache_dir) has {free >> 20} MiB free, {NEEDED_BYTES >> 20} MiB are needed: "
        "free some, or set image_cache_dir to a directory elsewhere"
    )


def _commit(unfinished: Path, path: Path) -> None:
    with unfinished.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    # A crash between these leaves an archive without checksum, or with another's: neither is sound.
    unfinished.replace(path)
    checksum = _checksum_file(path)
    new = checksum.with_suffix(".sha256.making")
    new.write_text(f"{digest}  {path.name}\n")
    new.replace(checksum)


def _checksum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
