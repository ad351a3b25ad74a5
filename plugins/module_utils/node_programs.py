# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node's own programs, run through its Docker API: where there is no SSH, no Python and no image with a shell."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

import docker.errors

#: the working directory, for files that are put in
HOME = "/project"
#: the container's own root has nothing but these, which lead to the node's files under /host
_LINKS = ("bin", "lib", "lib32", "lib64", "opt", "sbin", "usr")
_REMOVAL_SECONDS = 30
_POLL_SECONDS = 0.3
#: where the node's programs are
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(
    api: Any,
    name: str,
    command: Sequence[str],
    *,
    mounts: Sequence[Any] = (),
    binds: Mapping[str, str] | None = None,
    files: bytes | IO[bytes] = b"",
    environment: Mapping[str, str] | None = None,
    told: str = "",
    timeout_seconds: float = 60,
) -> tuple[int, str]:
    """Run *command* in a container *name*, which is removed afterwards; return its exit status and what it printed.

    Its image, *name* too, holds links into the node's root, mounted read-only: no image of the user's is needed, and
    none is expected to have a shell. *binds* are directories of the node, made where they are missing, and where the
    command finds them. *files* is a tar archive of what is put in first. *told* is a line that it reads from its
    standard input: unlike its environment, the engine does not keep it.
    """
    _remove(api, name)  # an interrupted run may have left it
    try:
        _create(api, name, command, mounts, binds or {}, environment or {}, is_told=bool(told))
        if files:
            api.put_archive(name, "/", files)
        _start(api, name, told)
        status = api.wait(name, timeout=timeout_seconds)["StatusCode"]
        return status, api.logs(name).decode(errors="replace")
    finally:
        _remove(api, name)


def _start(api: Any, name: str, told: str) -> None:
    if not told:
        api.start(name)
        return
    stream = api.attach_socket(name, params={"stdin": 1, "stream": 1})
    api.start(name)
    getattr(stream, "_sock", stream).sendall(f"{told}\n".encode())
    stream.close()


def _create(
    api: Any,
    name: str,
    command: Sequence[str],
    mounts: Sequence[Any],
    binds: Mapping[str, str],
    environment: Mapping[str, str],
    *,
    is_told: bool,
) -> None:
    api.import_image_from_data(_links_archive(), repository=name.lower())
    api.create_container(
        name.lower(),
        list(command),
        name=name,
        environment={"PATH": PATH, "HOME": HOME, **environment},
        stdin_open=is_told,
        working_dir=HOME,
        host_config=api.create_host_config(
            mounts=[docker.types.Mount("/host", "/", type="bind", read_only=True), *mounts],
            binds=[f"{directory}:{target}" for directory, target in binds.items()],
            network_mode="none",
            # A host with SELinux would not let a container run the host's programs.
            security_opt=["label=disable"],
            log_config=docker.types.LogConfig(type="json-file"),
        ),
    )


def _remove(api: Any, name: str) -> None:
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while True:
        try:
            api.remove_container(name, force=True, v=True)
        except docker.errors.NotFound:
            break
        except docker.errors.APIError as error:
            # A run that was interrupted may have begun to remove it.
            if "already in progress" not in str(error.explanation) or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            break
    with suppress(docker.errors.NotFound):
        api.remove_image(name.lower())


def _links_archive() -> bytes:
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in _LINKS:
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, f"host/{name}"
                archive.addfile(link)
            for name in ("host", HOME.strip("/")):
                directory = tarfile.TarInfo(name)
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(directory)
        return buffer.getvalue()
