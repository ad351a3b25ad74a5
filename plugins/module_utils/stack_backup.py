# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backups of what services keep in directories of a node: what a service says of itself, and the file that is made.

A backup is a compressed tar archive. Its first member is MANIFEST, the others are each service's files in a directory
of its name, as they lie in the directory that it binds.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.stack_data import BEFORE, LABEL, RESTORED

#: on a service: the file or directory to copy, as its containers see it
COPY_LABEL = "apiary.backup"
#: the command that makes it a copy of one moment
SAVE_LABEL = "apiary.backup.save"
#: the command that says what data there is; with what it said before, it fails where there is less
CHECK_LABEL = "apiary.backup.check"

MANIFEST = "manifest.json"
_FORMAT = 1
SUFFIX = ".tar.gz"
_NOT_OVER = ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running")

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """What a service keeps: where, and how it is copied and checked."""

    name: str
    service_id: str
    image: str
    #: the node's directory, and where containers find it
    source: str
    target: str
    #: relative to both: what to copy; "." is everything
    path: str
    save: tuple[str, ...] = ()
    check: tuple[str, ...] = ()

    @property
    def in_container(self) -> str:
        return str(PurePosixPath(self.target) / self.path)


@dataclass(frozen=True)
class Entry:
    """What a backup's manifest says of one service."""

    name: str
    image: str
    path: str
    #: what its check said at the time
    contents: str


def kept(services: Mapping[str, Object], asked: Sequence[str], stack: str) -> list[Kept]:
    """Return what the swarm's *services* keep, those in *asked* or all; ApiaryError where there is no such thing."""
    if not services:
        raise ApiaryError(f"there is no stack {stack} in the swarm: deploy it with playbooks/stack.yml")
    able = [name for name, service in services.items() if COPY_LABEL in _labels(service)]
    problems = [_absence(name, services, able, stack) for name in asked if name not in able]
    if not asked and not able:
        problems.append(
            f"no service of the stack {stack} says what of it to back up: label one in the template, under deploy, "
            f"with {COPY_LABEL} and the path of its data in the container"
        )
    if problems:
        raise ApiaryError("\n".join(problems))
    return [_kept(name, services[name]) for name in sorted(asked or able)]


def _absence(name: str, services: Mapping[str, Object], able: Iterable[str], stack: str) -> str:
    if name not in services:
        return (
            f"backup_services has {name}, and the stack {stack} in the swarm has no such service, only "
            f"{', '.join(sorted(services))}"
        )
    return (
        f"backup_services has {name}, which does not say what of it to back up: label it in the template, under "
        f"deploy, with {COPY_LABEL} and the path of its data in the container, as {', '.join(able) or 'redis'} does"
    )


def _kept(name: str, service: Object) -> Kept:
    container = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    labels = _labels(service)
    wanted = PurePosixPath(labels[COPY_LABEL])
    for mount in container.get("Mounts") or []:
        target = PurePosixPath(mount["Target"])
        if mount.get("Type") == "bind" and (target == wanted or target in wanted.parents):
            return Kept(
                name,
                service["ID"],
                container["Image"],
                str(mount["Source"]),
                str(target),
                str(wanted.relative_to(target)),
                tuple(shlex.split(labels.get(SAVE_LABEL, ""))),
                tuple(shlex.split(labels.get(CHECK_LABEL, ""))),
            )
    raise ApiaryError(
        f"the label {COPY_LABEL} of {name} is {wanted}, which is in no directory that the service binds from its node"
    )


def is_over(task: Object) -> bool:
    return task["Status"]["State"] not in _NOT_OVER


def running(tasks: Iterable[Object], service_id: str) -> Object | None:
    """Return the task of a service that runs and shall run, None where there is none."""
    found = [
        task
        for task in tasks
        if task["ServiceID"] == service_id and task["DesiredState"] == task["Status"]["State"] == "running"
    ]
    return max(found, key=lambda task: str(task["CreatedAt"]), default=None)


def node_of_data(service: Object, tasks: Iterable[Object], nodes: Sequence[Object]) -> Object | None:
    """Return the node that has a service's data: where it runs, or must run, or ran last."""
    by_id = {node["ID"]: node for node in nodes}
    if (task := running(tasks, service["ID"])) and task.get("NodeID") in by_id:
        return by_id[task["NodeID"]]
    placement = service["Spec"]["TaskTemplate"].get("Placement") or {}
    if any(LABEL in str(constraint) for constraint in placement.get("Constraints") or []):
        labelled = [node for node in nodes if (node["Spec"].get("Labels") or {}).get(LABEL) == "true"]
        if len(labelled) == 1:
            return labelled[0]
    own = [task for task in tasks if task["ServiceID"] == service["ID"] and task.get("NodeID") in by_id]
    last = max(own, key=lambda task: str(task["CreatedAt"]), default=None)
    return by_id[last["NodeID"]] if last else None


def _labels(service: Object) -> Object:
    return service["Spec"].get("Labels") or {}


# The file


@contextmanager
def writing(path: Path, manifest: Mapping[str, Any]) -> Iterator[tarfile.TarFile]:
    """Yield an archive that begins with *manifest*, and appears as *path*, for its owner alone, when it is whole."""
    making = path.with_name(f".{path.name}.making")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz") as archive:
                content = json.dumps(manifest, indent=2).encode() + b"\n"
                member = tarfile.TarInfo(MANIFEST)
                member.size, member.mode, member.mtime = len(content), 0o600, manifest["time"]
                archive.addfile(member, io.BytesIO(content))
                yield archive
            file.flush()
            os.fsync(file.fileno())
        making.rename(path)
    except OSError as error:
        raise ApiaryError(f"the backup cannot be written to {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            making.unlink()


def manifest_of(stack: str, created: str, seconds: int, entries: Iterable[Entry]) -> dict[str, Any]:
    services = {entry.name: {key: value for key, value in asdict(entry).items() if key != "name"} for entry in entries}
    return {"format": _FORMAT, "stack": stack, "created": created, "time": seconds, "services": services}


def add(archive: tarfile.TarFile, kept_by: Kept, copied: IO[bytes]) -> int:
    """Put what an engine has *copied* (a tar archive) into the backup, and return the bytes of its files."""
    size = 0
    with tarfile.open(fileobj=copied, mode="r|") as source:
        for member in source:
            # The engine begins with the last part of the path that it was asked for.
            inside = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            member.name = str(PurePosixPath(kept_by.name, kept_by.path, inside))
            archive.addfile(member, source.extractfile(member) if member.isreg() else None)
            size += member.size
    return size


def read(path: Path, stack: str) -> dict[str, Entry]:
    """Return what the backup *path* says of each service; ApiaryError where it is damaged or another stack's."""
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            first = archive.next()
            content = archive.extractfile(first) if first and first.name == MANIFEST else None
            if content is None:
                raise ApiaryError(f"{path} is no backup of Apiary's: it does not begin with {MANIFEST}")
            manifest = json.loads(content.read())
            there = {PurePosixPath(member.name).parts[0] for member in archive if _is_sound(member)}
            while stream.read(1 << 20):
                pass  # the checksum comes last
    except OSError as error:
        # a truncated or altered one is an OSError too
        raise ApiaryError(f"the backup {path} cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error, tarfile.TarError, ValueError, KeyError) as error:
        raise ApiaryError(f"the backup {path} is damaged ({error}): choose another with backup_file") from error
    if manifest.get("format") != _FORMAT:
        raise ApiaryError(f"the backup {path} has the format {manifest.get('format')}, and this Apiary knows {_FORMAT}")
    if manifest["stack"] != stack:
        raise ApiaryError(f"the backup {path} is of the stack {manifest['stack']}, not of {stack}: choose another")
    entries = {name: Entry(name, **entry) for name, entry in manifest["services"].items()}
    if missing := sorted(set(entries) - there):
        raise ApiaryError(f"the backup {path} is damaged: it has no files of {', '.join(missing)}")
    return entries


def _is_sound(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir() or member.issym()):
        raise tarfile.ReadError(f"it has the member {member.name}, which none of ours has")
    return True


def created(path: Path) -> str:
    """Return when the backup *path* was made."""
    with tarfile.open(path, mode="r:gz") as archive:
        first = archive.next()
        content = archive.extractfile(first) if first else None
        return str(json.loads(content.read())["created"]) if content else ""


def files_of(path: Path, name: str, home: str, output: IO[bytes]) -> None:
    """Write the files of the service *name* in the backup *path* to *output*, a tar archive with all below *home*."""
    with tarfile.open(path, mode="r:gz") as source, tarfile.open(fileobj=output, mode="w") as target:
        for member in source:
            parts = PurePosixPath(member.name).parts
            if parts[0] == name:
                member.name = str(PurePosixPath(home.strip("/"), *parts[1:]))
                target.addfile(member, source.extractfile(member) if member.isreg() else None)
    output.seek(0)


def newest(directory: Path, stack: str) -> Path:
    """Return the newest backup in *directory*; their names begin with the stack's, and go on with the time."""
    found = sorted(directory.glob(f"{stack}-*{SUFFIX}")) if directory.is_dir() else []
    if not found:
        raise ApiaryError(
            f"there is no backup of the stack {stack} in {directory}: make one with playbooks/backup.yml, or name one "
            "with backup_file"
        )
    return found[-1]


def chosen(entries: Mapping[str, Entry], asked: Sequence[str], path: Path) -> list[Entry]:
    """Return the entries that are *asked* for, or all."""
    if missing := [name for name in asked if name not in entries]:
        raise ApiaryError(
            f"backup_services has {', '.join(missing)}, and the backup {path} has only {', '.join(sorted(entries))}"
        )
    return [entries[name] for name in sorted(asked or entries)]


# On the node: the data's directory is /data/$1, and its parent is what is mounted. The new directory is made beside it,
# and nothing is changed before all of it is there. The old one gets a name of its own and is never removed. A restore
# that was interrupted between two moves is undone first.
PREPARE = f"""\
set -e
cd /data
if [ ! -e "$1" ]; then
  for old in "$1{BEFORE}"-*; do
    if [ -e "$old" ]; then last=$old; fi
  done
  if [ -n "$last" ]; then mv "$last" "$1"; fi
fi
rm -rf "$1{RESTORED}"
mkdir "$1{RESTORED}"
cp -a /project/files/. "$1{RESTORED}/"
like=$1
[ -e "$like" ] || like="$1{RESTORED}/$(ls -A "$1{RESTORED}" | head -n 1)"
owner() {{ echo "$3:$4"; }}
chown "$(owner $(ls -ldn "$like"))" "$1{RESTORED}"
chmod 0700 "$1{RESTORED}"
sync
"""
EXCHANGE = f"""\
set -e
cd /data
if [ -e "$1" ]; then mv "$1" "$1{BEFORE}-$2"; fi
mv "$1{RESTORED}" "$1"
sync
"""
UNDO = f"""\
set -e
cd /data
[ -e "$1{BEFORE}-$2" ]
mv "$1" "$1{RESTORED}"
mv "$1{BEFORE}-$2" "$1"
rm -rf "$1{RESTORED}"
sync
"""
