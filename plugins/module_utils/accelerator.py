# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Can this host accelerate virtual machines? /dev/kvm being there proves nothing, so a kernel is booted once."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path

from ansible_collections.apiary.swarm.plugins.module_utils.files import lock, private_directory, write_private
from ansible_collections.apiary.swarm.plugins.module_utils.qemu import QEMU

#: a kernel under KVM reaches its init in about a second; a nested one that hangs never does
_PROBE_SECONDS = 10


def _boots_under_kvm(image: Path, cpu_model: str) -> bool:
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
        return False
    return b"apiary: probe passed" in probe.stdout


def choose_accelerator(wanted: str, image: Path, cpu_model: str, cache_directory: Path) -> str:
    """Return ``kvm`` or ``tcg``; ``auto`` probes and remembers the answer for this kernel, QEMU and CPU model."""
    if wanted != "auto":
        return wanted
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    version = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    question = f"{platform.release()} | {version} | {cpu_model or 'host'}"
    memory = private_directory(cache_directory) / "accelerator.json"
    with lock(memory.with_suffix(".lock")):
        try:
            answers: dict[str, str] = json.loads(memory.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            answers = {}
        if question not in answers:
            answers[question] = "kvm" if _boots_under_kvm(image, cpu_model) else "tcg"
            write_private(memory, json.dumps(answers, indent=2).encode())
        return answers[question]
