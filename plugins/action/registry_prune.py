# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remove from the registry service what nobody needs; see the module of the same name for its documentation."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

import docker.errors
from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import Node, connect, on_all, scale
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.registry_service import SERVICE
from ansible_collections.apiary.swarm.plugins.module_utils.registry_storage import (
    DATA,
    REPOSITORIES,
    Contents,
    Unwanted,
    blob_path,
    contents_of,
    needed,
    parts_of,
    unwanted,
    used_images,
)
from ansible_collections.apiary.swarm.plugins.modules.registry_prune import ARGUMENT_SPEC

_CLEANER = "apiary-registry-prune"
_LIST = "/apiary-unwanted"
#: KiB before, then after, on lines of their own; the registry's own words go to the other stream
_SCRIPT = f"""\
set -e
size() {{ du -sk {DATA} | cut -f1; }}
config=/etc/docker/registry/config.yml
[ -e "$config" ] || config=/etc/distribution/config.yml
size
cd {REPOSITORIES}
xargs rm -rf <{_LIST}
registry garbage-collect "$config" >&2
size
"""
_STOP_SECONDS = 120.0
_CLEANING_SECONDS = 3600


class ActionModule(ApiaryAction):
    """Read what is there, stop the registry, remove, collect, start it again."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        with connect(params["docker"]) as manager, _where_it_runs(manager, params) as (engine, container):
            contents = _contents(engine, container)
            kept = needed(contents, params["registry"], [*params["keep"], *used_images(manager.services())])
            superfluous = unwanted(contents, _with_parts(engine, container, kept))
            result: dict[str, Any] = {"changed": bool(superfluous), "removed": superfluous.names}
            if self._task.diff and superfluous:
                result["diff"] = {"prepared": "".join(f"remove {name}\n" for name in superfluous.names)}
            if superfluous and not self._task.check_mode:
                Display().display("  removing what nobody needs; there is no registry meanwhile")
                with _stopped(manager, engine, params["name"], container):
                    before, after = _clean(engine, container, superfluous)
                result |= {"bytes_before": before, "bytes_after": after}
        return result


@contextmanager
def _where_it_runs(manager: Any, params: Mapping[str, Any]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Yield the engine that runs the registry's task, and its container."""
    service = f"{params['name']}_{SERVICE}"
    tasks = [
        task
        for task in manager.tasks(filters={"service": service, "desired-state": "running"})
        if task["Status"]["State"] == "running"
    ]
    if not tasks:
        raise ApiaryError(
            f"the registry service {service} does not run, so what is in it cannot be told; 'docker service ps "
            f"{service}' says why"
        )

    def node_id(node: Node) -> str:
        with suppress(ApiaryError), connect(node["docker"]) as api:
            return str(api.info()["Swarm"]["NodeID"])
        return ""  # another node's engine that is down is no hindrance

    ids = on_all(params["nodes"], node_id)
    home = next((node for node in params["nodes"] if ids[node["name"]] == tasks[0]["NodeID"]), None)
    if home is None:
        raise ApiaryError(
            f"the registry runs on node {tasks[0]['NodeID']}, which is no host of this inventory: only what has that "
            "host can remove something"
        )
    with connect(home["docker"], timeout_seconds=_CLEANING_SECONDS) as engine:
        yield engine, engine.inspect_container(tasks[0]["Status"]["ContainerStatus"]["ContainerID"])


def _contents(engine: Any, container: Mapping[str, Any]) -> Contents:
    try:
        with _file(engine, container, REPOSITORIES) as archive:
            return contents_of(archive)
    except docker.errors.NotFound:
        return Contents()  # nothing was ever pushed


def _with_parts(engine: Any, container: Mapping[str, Any], digests: set[str]) -> set[str]:
    """Return *digests* with those of the manifests that lists among them are made of."""
    kept, to_read = set(digests), list(digests)
    while to_read:
        with suppress(docker.errors.NotFound), _file(engine, container, blob_path(to_read.pop())) as archive:
            with tarfile.open(fileobj=archive) as tar:
                content = tar.extractfile(tar.getmembers()[0])
                parts = parts_of(json.load(content)) if content else []
            to_read += [digest for digest in parts if digest not in kept]
            kept |= set(parts)
    return kept


@contextmanager
def _file(engine: Any, container: Mapping[str, Any], path: str) -> Iterator[IO[bytes]]:
    stream, _stat = engine.get_archive(container["Id"], path)
    with tempfile.TemporaryFile() as file:
        for chunk in stream:
            file.write(chunk)
        file.seek(0)
        yield file


@contextmanager
def _stopped(manager: Any, engine: Any, name: str, container: Mapping[str, Any]) -> Iterator[None]:
    """Have no registry: what is pushed during a garbage collection may be half gone after it."""
    service = f"{name}_{SERVICE}"
    try:
        scale(manager, service, 0)
        deadline = time.monotonic() + _STOP_SECONDS
        while _runs(engine, container["Id"]):
            if time.monotonic() > deadline:
                raise ApiaryError(f"{service} still runs {_STOP_SECONDS:.0f} seconds after it was told to stop")
            time.sleep(0.5)
        yield
    finally:
        scale(manager, service, 1)


def _runs(engine: Any, container: str) -> bool:
    try:
        return bool(engine.inspect_container(container)["State"]["Running"])
    except docker.errors.NotFound:
        return False


def _clean(engine: Any, container: Mapping[str, Any], superfluous: Unwanted) -> tuple[int, int]:
    """Remove, in a container with the registry's programs and its data; return the bytes before and after."""
    _remove(engine)  # an interrupted run may have left it
    volume = next(mount["Name"] for mount in container["Mounts"] if mount["Destination"] == DATA)
    try:
        engine.create_container(
            container["Config"]["Image"],
            name=_CLEANER,
            entrypoint=["sh", "-c", _SCRIPT],
            command=[],
            environment=container["Config"]["Env"],
            host_config=engine.create_host_config(
                mounts=[docker.types.Mount(DATA, volume)], network_mode="none", cap_drop=["ALL"]
            ),
        )
        engine.put_archive(_CLEANER, "/", _listed(superfluous.directories))
        engine.start(_CLEANER)
        status = engine.wait(_CLEANER, timeout=_CLEANING_SECONDS)["StatusCode"]
        sizes = engine.logs(_CLEANER, stdout=True, stderr=False).decode().split()
        if status != 0 or len(sizes) != 2:
            lines = engine.logs(_CLEANER).decode(errors="replace").splitlines()[-20:]
            raise ApiaryError(
                f"the registry's data could not be cleaned (exit code {status}). Its last lines:\n"
                + "\n".join(f"  {line}" for line in lines)
            )
    finally:
        _remove(engine)
    return int(sizes[0]) << 10, int(sizes[1]) << 10


def _remove(engine: Any) -> None:
    with suppress(docker.errors.NotFound):
        engine.remove_container(_CLEANER, force=True)


def _listed(directories: Sequence[str]) -> bytes:
    text = "".join(f"{directory}\n" for directory in directories).encode()
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo(_LIST.lstrip("/"))
            entry.size, entry.mode = len(text), 0o644
            archive.addfile(entry, io.BytesIO(text))
        return buffer.getvalue()
