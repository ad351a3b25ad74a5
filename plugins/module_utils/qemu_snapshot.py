# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Golden snapshots: a machine's memory and disk with a warm engine, from which machines are cloned within seconds.

A snapshot is a directory with four files. ``ram`` is the memory of a template, mapped by each clone so that it keeps
its changes to itself; ``state`` is the rest of QEMU's state, without the memory (QEMU's migration capability
x-ignore-shared); ``disk`` is the template's disk, and ``overlay`` an empty qcow2 file for what a clone changes on it.
``manifest.json`` says how they were when they were whole. Under User Mode Linux, which cannot keep its memory, a
snapshot is the disk alone, and clones boot. ``<cache>/golden/<key>`` is a link to the snapshot of that key,
``<key>-<number>``: one that was thrown away keeps its disk while machines build on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils import image_build, qemu, uml
from ansible_collections.apiary.swarm.plugins.module_utils.cluster_files import endpoint, prepared
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import lock, private_directory, write_private
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import Image, bases_of, images_of
from ansible_collections.apiary.swarm.plugins.module_utils.pki import ensure_ssh_key
from ansible_collections.apiary.swarm.plugins.module_utils.qmp import Monitor

#: how long a clone may take from its first instruction until it has its identity; half a second on an idle host
_BEGIN_SECONDS = 60
#: how long its engine may then take to answer
_ANSWER_SECONDS = 60
#: what a template takes at most while it is built: its memory, and a disk with the engine's data
_DISK_BYTES = 1 << 30
_FILES = ("ram", "state", "disk", "overlay")
_SHUTDOWN_SECONDS = 120
_IGNORE_SHARED = [{"capability": "x-ignore-shared", "state": True}]


class SnapshotRefused(ApiaryError):
    """A snapshot does not become a machine."""


@dataclass(frozen=True)
class Recipe:
    """What a snapshot is made of: all that a clone must have in common with it, and the images that are in it."""

    cache: Path
    image: Path
    memory_mib: int
    cpus: int
    disk_gib: int
    accelerator: str
    cpu_model: str
    images: tuple[Image, ...]
    image_cache: ImageCache
    boot_timeout_seconds: int

    @property
    def key(self) -> str:
        """The name of the snapshot: it follows from everything that is in it or must match."""
        if self.accelerator == "uml":
            parts = ["uml", self.image.name, str(self.disk_gib), *sorted(image.reference for image in self.images)]
            return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
        anywhere = replace(self._template(Path("/"), "127.0.0.1"), image=Path(self.image.name))
        parts = [
            *qemu.command_line(anywhere, self.accelerator, self.cpu_model, qemu.Ram(Path("/ram"), shared=False)),
            _qemu_version(),
            _host_cpu() if self.accelerator == "kvm" else "",
            str(self.disk_gib),
            *sorted(image.reference for image in self.images),
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    @property
    def link(self) -> Path:
        return self.cache / "golden" / self.key

    def _template(self, directory: Path, entrypoint: str) -> qemu.Machine:
        return qemu.Machine(
            name="template",
            cluster_directory=directory,
            image=self.image,
            memory_mib=self.memory_mib,
            cpus=self.cpus,
            disk_gib=self.disk_gib,
            disk_cache="unsafe",  # it is of no use before it is whole
            entrypoint=entrypoint,
            lan_address="192.0.2.1",
            lan_prefix=24,
            multicast="230.0.0.1:12399",
        )

    def template(self, directory: Path) -> qemu.Machine:
        """Return the machine that becomes the snapshot, on an address that no cluster uses: several may be built."""
        return self._template(directory, f"127.254.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}")


def recipe(params: Mapping[str, Any], accelerator: str) -> Recipe:
    """Return the recipe that a module's options ask for; ``snapshot`` among them has what IMAGES_SPEC describes."""
    return Recipe(
        cache=Path(params["cache_directory"]),
        image=Path(params["image"]),
        accelerator=accelerator,
        images=tuple(images_of(params["snapshot"])),
        image_cache=ImageCache(Path(params["snapshot"]["cache_dir"])),
        **{key: params[key] for key in ("memory_mib", "cpus", "disk_gib", "cpu_model", "boot_timeout_seconds")},
    )


@lru_cache
def _qemu_version() -> str:
    return subprocess.run([qemu.QEMU, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]


def _host_cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


def longest_socket(cache: Path) -> Path:
    """Return the longest path of a socket that building a snapshot needs."""
    return cache / "golden" / f"{'x' * 12}.making" / "machines" / "template" / "monitor"


def problem(golden: Path) -> str:
    """Say what is wrong with a snapshot, as far as it can be told at once; empty if nothing."""
    try:
        manifest = json.loads((golden / "manifest.json").read_text())
        digest = manifest.pop("sha256", "")
        for name, stamp in manifest.items():
            if stamp != _stamp(golden / name):
                return f"{name} is not as it was written"
        if "state" in manifest and digest != _digest(golden / "state"):
            return "state is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (json.JSONDecodeError, AttributeError):
        return "manifest.json is damaged"
    return ""


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def ensure(recipe: Recipe, *, say: Callable[[str], None], warn: Callable[[str], None]) -> tuple[Path, bool]:
    """Return the directory of the snapshot, which is built unless it is there, and whether it was built.

    Whoever wants the same one meanwhile waits for it.
    """
    private_directory(recipe.link.parent)
    parent = os.getppid()
    with lock(recipe.link.with_suffix(".lock")):
        if os.getppid() != parent:
            raise ApiaryError("the run that wanted a golden snapshot was killed")
        if recipe.link.is_symlink():
            golden = recipe.link.resolve()
            if not (wrong := problem(golden)):
                return golden, False
            warn(f"the golden snapshot {golden} is damaged ({wrong}): it is thrown away and built again")
            _discard(recipe, golden)
        return _build(recipe, say, parent), True


def discard(recipe: Recipe, golden: Path) -> None:
    """Throw a snapshot away, unless somebody else has done so; its disk stays while machines build on it."""
    with lock(recipe.link.with_suffix(".lock")):
        if recipe.link.is_symlink() and recipe.link.resolve() == golden:
            _discard(recipe, golden)


def _discard(recipe: Recipe, golden: Path) -> None:
    recipe.link.unlink()
    remove(golden, keep_disk=golden in used(recipe.cache))


def remove(golden: Path, *, keep_disk: bool) -> None:
    """Remove a snapshot that no link leads to, but for the disk if machines build on it."""
    if keep_disk:
        for path in golden.iterdir():
            if path.name != "disk":
                path.unlink()
    else:
        shutil.rmtree(golden, ignore_errors=True)


# Who uses what


def register(cache: Path, machine: qemu.Machine) -> None:
    """Leave a trace of the machine in the cache, so that nothing is removed from there on which it builds."""
    users = private_directory(cache / "users")
    name = hashlib.sha256(str(machine.directory).encode()).hexdigest()[:12]
    write_private(users / name, str(machine.directory).encode())


def used(cache: Path) -> set[Path]:
    """Return the snapshots and machine images on which existing machines build; forget machines that are gone."""
    found = set()
    for entry in (cache / "users").glob("*"):
        directory = Path(entry.read_text())
        if not directory.is_dir():
            entry.unlink()
            continue
        base = directory / "disk.base"
        if base.is_symlink():
            found.add(base.readlink().parent)
        try:
            found.add(Path(json.loads((directory / "machine.json").read_text())["image"]))
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            continue
    return found


# Building


def _build(recipe: Recipe, say: Callable[[str], None], parent: int) -> Path:
    making = recipe.link.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)  # of a build that was interrupted: the lock says that none is under way
    _require_space(recipe)
    started = time.monotonic()
    names = ", ".join(image.reference for image in recipe.images)
    say(f"  making the golden snapshot {recipe.key}{f' with {names}' if names else ''}, once")
    try:
        private_directory(making)
        machine = recipe.template(making)
        with _running(recipe, machine, parent):
            _fill(recipe, machine, say)
            if recipe.accelerator == "uml":
                _shut_down(machine)
            else:
                _freeze(machine, making)
        machine.disk_path.rename(making / "disk")
        if (making / "ram").exists():
            # What is all zeros is not kept: a file of 1 GiB takes the room of what the template uses.
            subprocess.run(["fallocate", "--dig-holes", str(making / "ram")], check=True, capture_output=True)
        for directory in ("client", "machines", "pki", "ssh"):
            shutil.rmtree(making / directory)
        (making / "lock").unlink()
        manifest: dict[str, Any] = {name: _stamp(making / name) for name in _FILES if (making / name).exists()}
        if "state" in manifest:
            manifest["sha256"] = _digest(making / "state")
        write_private(making / "manifest.json", json.dumps(manifest).encode())
        golden = recipe.link.parent.resolve() / f"{recipe.key}-{secrets.token_hex(4)}"
        making.rename(golden)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    link = recipe.link.with_suffix(".link")
    link.unlink(missing_ok=True)
    link.symlink_to(golden.name)
    link.replace(recipe.link)
    took = f"took {time.monotonic() - started:.0f} s to make"
    say(f"  the golden snapshot {took}, and takes {disk_usage(golden) >> 20} MiB of {recipe.cache.parent}")
    return golden


def _require_space(recipe: Recipe) -> None:
    needed = (recipe.memory_mib << 20) + _DISK_BYTES
    free = shutil.disk_usage(recipe.link.parent).free
    if free < needed:
        raise ApiaryError(
            f"the golden snapshot cannot be made: {recipe.cache} (qemu_machine_cache_dir) has {free >> 20} MiB free, "
            f"{needed >> 20} MiB are needed: playbooks/prune.yml frees what is not used, or set qemu_machine_cache_dir "
            "to a directory elsewhere, or qemu_machine_snapshot to false"
        )


@contextmanager
def _running(recipe: Recipe, machine: qemu.Machine, parent: int) -> Iterator[None]:
    """Run the template, which ends with this process if that is killed, and with the process that started this one.

    Ansible's workers, of which this is one, outlive their parent when that is killed.
    """
    making = machine.cluster_directory
    with prepared(making, "template"):
        ensure_ssh_key(private_directory(making / "ssh") / "id_ed25519", "template")
    qemu.prepare(machine)
    mortal = ("setpriv", "--pdeathsig", "KILL", "--")
    errors = machine.directory / "errors"
    if recipe.accelerator == "uml":
        process = uml.run(machine, mortal, template=True)
    else:
        ram = qemu.Ram(making / "ram", shared=True)
        command = qemu.command_line(machine, recipe.accelerator, recipe.cpu_model, ram, template=True)
        with errors.open("wb") as file:
            process = subprocess.Popen([*mortal, *command], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    threading.Thread(target=_kill_orphan, args=(process, parent), daemon=True).start()
    try:
        if not qemu.wait_until(lambda: machine.monitor_path.exists() or process.poll() is not None, 30, 0.05):
            raise ApiaryError("QEMU did not start the template within 30 s")
        if process.poll() is not None:
            raise ApiaryError(f"QEMU did not start the template: {errors.read_text().strip()}")
        yield
    finally:
        process.kill()
        process.wait()


def _kill_orphan(process: subprocess.Popen[bytes], parent: int) -> None:
    while process.poll() is None:
        if os.getppid() != parent:
            process.kill()
        time.sleep(0.5)


def _fill(recipe: Recipe, machine: qemu.Machine, say: Callable[[str], None]) -> None:
    """Have the template's engine warm, and the project's images in it; those that are new are built there."""
    cache = recipe.image_cache
    for base in bases_of(recipe.images):  # on the controller, while the template boots
        if not cache.sound(base.reference):
            say(f"  making {base.reference} from Debian {base.debian_suite} and {base.directory}, once")
            image_build.bootstrap(base, cache)
    qemu.wait_for_api(machine, recipe.boot_timeout_seconds)
    reached = endpoint(machine.cluster_directory, machine.entrypoint)
    with connect(reached, timeout_seconds=image_build.TIMEOUT_SECONDS) as api:
        for image in recipe.images:
            base_reference = image.our_base_reference
            if cache.sound(image.reference, base_reference):
                image_build.load(api, image.reference, cache, "the template", base_reference)
            else:
                say(f"  building {image.reference} in the template")
                image_build.build(api, image, cache, "the template")
        api.info()


def _shut_down(machine: qemu.Machine) -> None:
    """Have the template's disk whole: of User Mode Linux, nothing but the disk can be kept."""
    if not qemu.stop(machine.directory, graceful=True, timeout_seconds=_SHUTDOWN_SECONDS):
        raise ApiaryError(
            f"the template did not shut down within {_SHUTDOWN_SECONDS} s. The end of its console:\n"
            f"{qemu.console_tail(machine)}"
        )


def _freeze(machine: qemu.Machine, making: Path) -> None:
    """Have the template give up its identity, and write down its state."""
    tell(machine, "forget", "waiting", 120)
    time.sleep(1)  # for what the guest still does after its answer
    with Monitor(machine.monitor_path, timeout_seconds=60) as monitor:
        monitor.execute("stop")
        monitor.execute("migrate-set-capabilities", capabilities=_IGNORE_SHARED)
        monitor.execute("migrate", uri=f"exec:cat >{shlex.quote(str(making / 'state'))}")
        _await_migration(monitor, 60)
        overlay = {"snapshot-file": str(making / "overlay"), "format": "qcow2"}
        monitor.execute("blockdev-snapshot-sync", device="virtio1", **overlay)
        monitor.execute("quit")
    qemu.wait_until(lambda: not qemu.processes(making), 30, 0.05)


def _await_migration(monitor: Monitor, timeout_seconds: float) -> None:
    answer: dict[str, str] = {}

    def over() -> bool:
        nonlocal answer
        answer = monitor.execute("query-migrate")
        return answer.get("status") in ("completed", "failed")

    if not qemu.wait_until(over, timeout_seconds, 0.01) or answer["status"] == "failed":
        raise ApiaryError(f"QEMU did not finish the transfer of the machine's state: {answer}")


# Cloning


def clone(machine: qemu.Machine, golden: Path, recipe: Recipe) -> None:
    """Make *machine* from a snapshot and give it its identity; SnapshotRefused if that does not work."""
    private_directory(machine.directory)
    machine.newborn_path.touch()
    register(recipe.cache, machine)
    machine.base_path.unlink(missing_ok=True)
    machine.base_path.symlink_to(golden / "disk")
    if recipe.accelerator == "uml":
        _boot_clone(machine, recipe.boot_timeout_seconds)
        return
    shutil.copyfile(golden / "overlay", machine.overlay_path)
    machine.overlay_path.chmod(0o600)
    qemu.prepare(machine)
    ram = qemu.Ram(golden / "ram", shared=False)
    command = qemu.command_line(machine, recipe.accelerator, recipe.cpu_model, ram)
    qemu.launch(machine, [*command, "-incoming", "defer"])
    try:
        with Monitor(machine.monitor_path, timeout_seconds=60) as monitor:
            monitor.execute("migrate-set-capabilities", capabilities=_IGNORE_SHARED)
            monitor.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(str(golden / 'state'))}")
            _await_migration(monitor, 60)
            monitor.execute("cont")
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        tell(machine, f"begin {seconds} {nanoseconds} {secrets.token_hex(64)}", "ready", _BEGIN_SECONDS)
        qemu.wait_for_api(machine, _ANSWER_SECONDS, 0.03)
    except (ApiaryError, OSError) as error:
        forget(machine)
        raise SnapshotRefused(str(error)) from error
    qemu.record(machine, recipe.accelerator)
    machine.newborn_path.unlink()


def _boot_clone(machine: qemu.Machine, timeout_seconds: float) -> None:
    """Boot a machine whose disk is its template's; the kernel makes the file of what it changes on it."""
    qemu.prepare(machine)
    try:
        uml.start(machine)
        qemu.wait_for_api(machine, timeout_seconds, 0.1)
    except ApiaryError:
        forget(machine)
        raise
    machine.newborn_path.unlink()


def forget(machine: qemu.Machine) -> None:
    """End a clone that has no identity, and remove its disk."""
    qemu.stop(machine.directory, graceful=False)
    machine.overlay_path.unlink(missing_ok=True)
    machine.cow_path.unlink(missing_ok=True)
    machine.base_path.unlink(missing_ok=True)
    machine.newborn_path.unlink(missing_ok=True)


def tell(machine: qemu.Machine, word: str, answer: str, timeout_seconds: float) -> None:
    """Send a line to the machine's second serial line, and wait until it answers."""
    deadline = time.monotonic() + timeout_seconds
    heard = b""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(machine.agent_path))
        line.sendall(f"{word}\n".encode())
        while answer.encode() not in heard.split():
            line.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                received = line.recv(4096)
            except TimeoutError:
                received = b""
            if not received:
                raise ApiaryError(
                    f"{machine.name} did not answer '{answer}' within {timeout_seconds} s. The end of its console:\n"
                    f"{qemu.console_tail(machine)}"
                )
            heard += received


def disk_usage(directory: Path) -> int:
    """Return the bytes that the files below *directory* take, in which holes do not count."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
