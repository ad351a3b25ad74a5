# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A computer with another Debian, and so another Python, that runs playbooks: a container with a copy of this tree.

It has this computer's network, and all paths are the same on both, so that a test can look at what a playbook has made.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker.errors

from ansible_collections.apiary.swarm.plugins.module_utils import containers
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from tests.clusters import ROOT, engine
from tests.engine_images import image_in, start_container

_CONTEXT = Path(__file__).parent / "controller"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_HOME = "/home/ann"


@dataclass(frozen=True)
class Controller:
    """The container, and the engine that it is one of."""

    api: Any
    container: str

    def run(self, command: Sequence[str], environment: Mapping[str, str], user: int | None = None) -> tuple[int, str]:
        """Run a command in the copy of the tree as who runs the tests; return its exit status and what it printed."""
        environment = {**environment, "HOME": _HOME, "PATH": f"{ROOT}/.venv/bin:/usr/bin:/bin", "DOCKER_HOST": engine()}
        asked = self.api.exec_create(
            self.container,
            list(command),
            user=str(os.getuid() if user is None else user),
            workdir=str(ROOT),
            environment=environment,
        )
        output = self.api.exec_start(asked["Id"])
        return int(self.api.exec_inspect(asked["Id"])["ExitCode"]), output.decode()

    def must(self, *command: str, user: int | None = None) -> str:
        """Run a command that succeeds; return what it printed."""
        status, output = self.run(command, {"INVENTORY": "containers"}, user)
        assert status == 0, f"{' '.join(command)}: {output}"
        return output


@contextmanager
def controller(suite: str) -> Iterator[Controller]:
    """Yield a computer with a Debian release, on which the README's first command was followed by 'make setup'."""
    name = f"apiary-controller-{suite}-{os.getuid()}"
    with connect({"docker_host": engine()}, timeout_seconds=1200) as api:
        with suppress(docker.errors.NotFound):  # of tests that were killed
            containers.remove(api, name)
        image = image_in(api, "apiary/controller", _CONTEXT, {}, suite)
        configs = containers.host_configs(api, "auto", _binds(), network_mode="host")
        # A volume, since this computer's tree may be in one of the directories that are shared.
        container = start_container(api, image, configs, {"/": _tree()}, name=name, volumes=[str(ROOT)])
        try:
            ours = Controller(api, container)
            own = f"{_HOME} {_HOME}/.cache {ROOT} {ROOT}/.cache"
            ours.must("sh", "-c", f"mkdir -p {own} && chown {os.getuid()} {own}", user=0)
            if os.getuid() != 0:
                ours.must("useradd", "--no-create-home", "--uid", str(os.getuid()), "ann", user=0)
            ours.must("make", "setup")
            yield ours
        finally:
            containers.remove(api, container)


def _binds() -> list[str]:
    """What the two computers share: the engine, directories of tests, image caches, and whom they trust."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apiary"
    cache.mkdir(parents=True, exist_ok=True)
    binds = [f"{path}:{path}" for path in (tempfile.gettempdir(), engine().removeprefix("unix://"))]
    return [*binds, f"{cache}:{_HOME}/.cache/apiary", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"]


def _tree() -> bytes:
    """What 'git clone' would bring, with what was changed since, as a tar."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in filter(None, listed.stdout.split("\0")):
            if os.path.lexists(ROOT / name):
                tar.add(ROOT / name, str(ROOT / name).lstrip("/"), filter=_ours)
    return archive.getvalue()


def _ours(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid, member.gid = os.getuid(), os.getgid()
    return member
