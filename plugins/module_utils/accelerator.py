# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How machines run on this host: KVM, User Mode Linux or emulation.

Neither /dev/kvm nor a package being there proves anything, so each is tried by booting a kernel that powers off.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.apiary.swarm.plugins.module_utils import uml, xstate
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import lock, private_directory, write_private
from ansible_collections.apiary.swarm.plugins.module_utils.qemu import KERNEL, QEMU, find_tool

#: a kernel under KVM reaches its init in about a second; a nested one that hangs never does
_PROBE_SECONDS = 10
#: User Mode Linux takes two on an idle host, and it does its work with the processor's ordinary time
_UML_PROBE_SECONDS = 40
_PASSED = b"apiary: probe passed"
_NAMES = {"kvm": "KVM", "uml": "User Mode Linux", "tcg": "emulation"}


@dataclass(frozen=True)
class Choice:
    """An accelerator, and in words which it is and why."""

    accelerator: str
    reason: str


def choose_accelerator(
    wanted: str,
    image: Path,
    cpu_model: str,
    cache_directory: Path,
    *,
    cpus: int,
    unfit: Mapping[str, str] | None = None,
) -> Choice:
    """Return what a machine with so many processors runs with: for ``auto`` the fastest that works here.

    *unfit* says of accelerators why this machine cannot have them.
    """
    unfit = unfit or {}
    if wanted != "auto":
        return Choice(wanted, f"{_NAMES[wanted]} (qemu_machine_accelerator is {wanted})")
    kvm = unfit.get("kvm") or _kvm_problem(image, cpu_model, cache_directory)
    if not kvm:
        return Choice("kvm", "KVM (it works here)")
    if "tcg" in unfit:
        return Choice("uml", f"User Mode Linux (KVM does not work: {kvm})")
    mode = unfit.get("uml") or uml.size_problem(cpus) or _uml_problem(image, cache_directory)
    if not mode:
        return Choice("uml", f"User Mode Linux (KVM does not work: {kvm})")
    return Choice("tcg", f"emulation, which is slow (KVM does not work: {kvm}; nor does User Mode Linux: {mode})")


def foreseen_emulation(wanted: str, cpus: int) -> str:
    """Say why machines will be emulated, as far as that can be told before there is a kernel to boot; empty if not."""
    if wanted == "tcg":
        return "qemu_machine_accelerator is tcg"
    mode = uml.size_problem(cpus) or uml.missing_programs()
    if wanted != "auto" or not mode:
        return ""
    closed = _kvm_closed()
    return f"{closed or 'unless KVM turns out to work'}; and no User Mode Linux: {mode}"


def _kvm_closed() -> str:
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        return ""
    return "/dev/kvm is closed to this user" if Path("/dev/kvm").exists() else "there is no /dev/kvm"


def _kvm_problem(image: Path, cpu_model: str, cache_directory: Path) -> str:
    if closed := _kvm_closed():
        return closed
    version = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    question = f"kvm | {platform.release()} | {version} | {cpu_model or 'host'}"
    return _remembered(cache_directory, question, lambda: _boot_under_kvm(image, cpu_model), failures=True)


def _uml_problem(image: Path, cache_directory: Path) -> str:
    if missing := uml.missing_programs():
        return missing
    kernel = Path(find_tool(KERNEL) or "")
    stamp = kernel.stat()
    question = f"uml | {platform.release()} | {image.name} | {stamp.st_size} {stamp.st_mtime_ns} | {_processor()}"
    # What keeps it from working is often cured by a setting, so it is tried again each time.
    return _remembered(cache_directory, question, lambda: _boot_under_uml(image), failures=False)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    known = "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))
    return hashlib.sha256(known.encode()).hexdigest()[:12]


def _remembered(cache_directory: Path, question: str, ask: Callable[[], str], *, failures: bool) -> str:
    memory = private_directory(cache_directory) / "accelerator.json"
    with lock(memory.with_suffix(".lock")):
        try:
            answers: dict[str, str] = json.loads(memory.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            answers = {}
        if question not in answers:
            problem = ask()
            if problem and not failures:
                return problem
            answers[question] = problem
            write_private(memory, json.dumps(answers, indent=2).encode())
        return answers[question]


def _boot_under_kvm(image: Path, cpu_model: str) -> str:
    command = [
        QEMU,
        *("-machine", "pc", "-nodefaults", "-no-user-config", "-display", "none", "-m", "256", "-no-reboot"),
        *("-accel", "kvm", "-cpu", cpu_model or "host"),
        *("-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initramfs")),
        *("-append", "console=ttyS0 quiet panic=-1 rdinit=/init apiary.probe", "-serial", "stdio"),
    ]
    try:
        probe = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"a kernel did not boot within {_PROBE_SECONDS} s"
    return "" if _PASSED in probe.stdout else "a kernel does not boot"


def _boot_under_uml(image: Path) -> str:
    try:
        command = uml.together([*xstate.preloaded(image.parent), *uml.probe_command(image)])
    except ApiaryError as error:
        return str(error)
    with tempfile.TemporaryDirectory(prefix="apiary-") as directory:
        try:
            probe = subprocess.run(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_UML_PROBE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"a kernel did not boot within {_UML_PROBE_SECONDS} s"
    return "" if _PASSED in probe.stdout else uml.boot_problem(probe.stdout.decode(errors="replace"))
