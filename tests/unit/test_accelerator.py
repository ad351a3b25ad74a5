# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What machines run with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils import accelerator, uml

NO_KVM, NO_UML = "a kernel does not boot", "a kernel does not boot: panic"


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What booting a kernel would show, and how often that was tried."""
    found: dict[str, Any] = {"kvm": "", "uml": "", "asked": []}

    def boot(kind: str) -> Any:
        def answer(*_: object) -> str:
            found["asked"].append(kind)
            return str(found[kind])

        return answer

    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(accelerator, "_boot_under_kvm", boot("kvm"))
    monkeypatch.setattr(accelerator, "_boot_under_uml", boot("uml"))
    monkeypatch.setattr(accelerator, "find_tool", lambda _name: "/bin/sh")
    monkeypatch.setattr(accelerator, "QEMU", "true")
    monkeypatch.setattr(uml, "missing_programs", lambda: "")
    monkeypatch.setattr(uml, "size_problem", lambda *_: "")
    return found


def choose(cache: Path, wanted: str = "auto", unfit: dict[str, str] | None = None) -> accelerator.Choice:
    return accelerator.choose_accelerator(wanted, Path("/cache/image"), "", cache, cpus=1, unfit=unfit)


@pytest.mark.parametrize(
    ("wanted", "kvm", "mode", "unfit", "chosen", "reason"),
    [
        ("auto", "", "", [], "kvm", "KVM (it works here)"),
        ("auto", "", "", ["uml"], "kvm", "KVM (it works here)"),
        ("auto", NO_KVM, "", [], "uml", f"User Mode Linux (KVM does not work: {NO_KVM})"),
        ("auto", NO_KVM, NO_UML, [], "tcg", f"(KVM does not work: {NO_KVM}; nor does User Mode Linux: {NO_UML})"),
        ("auto", NO_KVM, "", ["uml"], "tcg", "nor does User Mode Linux: the disk"),
        ("auto", "", "", ["kvm", "tcg"], "uml", "User Mode Linux (KVM does not work: the disk)"),
        ("auto", "", NO_UML, ["kvm", "tcg"], "uml", "User Mode Linux (KVM does not work: the disk)"),
        ("kvm", NO_KVM, NO_UML, [], "kvm", "qemu_machine_accelerator is kvm"),
        ("uml", "", NO_UML, [], "uml", "qemu_machine_accelerator is uml"),
        ("tcg", "", "", [], "tcg", "qemu_machine_accelerator is tcg"),
    ],
)
def test_fastest_that_boots_is_chosen(
    probes: dict[str, Any],
    tmp_path: Path,
    wanted: str,
    kvm: str,
    mode: str,
    unfit: list[str],
    chosen: str,
    reason: str,
) -> None:
    probes.update(kvm=kvm, uml=mode)
    choice = choose(tmp_path, wanted, dict.fromkeys(unfit, "the disk"))
    assert choice.accelerator == chosen
    assert reason in choice.reason
    assert "\n" not in choice.reason


@pytest.mark.parametrize(
    ("wanted", "device", "missing", "cpus", "expected"),
    [
        ("auto", False, "", 1, ""),
        (
            "auto",
            False,
            "linux.uml is missing",
            1,
            "/dev/kvm is closed to this user; and no User Mode Linux: linux.uml is",
        ),
        ("auto", True, "linux.uml is missing", 1, "unless KVM turns out to work; and no User Mode Linux: linux.uml is"),
        ("auto", True, "", 2, "unless KVM turns out to work; and no User Mode Linux: qemu_machine_cpus is 2"),
        ("uml", False, "linux.uml is missing", 1, ""),
        ("kvm", False, "linux.uml is missing", 1, ""),
        ("tcg", True, "", 1, "qemu_machine_accelerator is tcg"),
    ],
)
def test_emulation_is_foreseen_where_nothing_else_can_work(
    monkeypatch: pytest.MonkeyPatch, wanted: str, device: bool, missing: str, cpus: int, expected: str
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: device)
    monkeypatch.setattr(Path, "exists", lambda _path: True)
    monkeypatch.setattr(uml, "missing_programs", lambda: missing)
    foreseen = accelerator.foreseen_emulation(wanted, cpus)
    assert foreseen.startswith(expected)
    assert bool(foreseen) == bool(expected)


def test_what_was_seen_to_work_is_not_tried_again(probes: dict[str, Any], tmp_path: Path) -> None:
    probes["kvm"] = NO_KVM
    assert [choose(tmp_path).accelerator, choose(tmp_path).accelerator] == ["uml", "uml"]
    assert probes["asked"] == ["kvm", "uml"]


def test_what_a_setting_may_have_cured_is_tried_again(probes: dict[str, Any], tmp_path: Path) -> None:
    probes.update(kvm=NO_KVM, uml=NO_UML)
    assert choose(tmp_path).accelerator == "tcg"
    probes["uml"] = ""
    assert choose(tmp_path).accelerator == "uml"


def test_another_processor_is_another_question(
    probes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes["kvm"] = NO_KVM
    choose(tmp_path)
    monkeypatch.setattr(accelerator, "_processor", lambda: "with AMX")
    probes["uml"] = NO_UML
    assert choose(tmp_path).accelerator == "tcg"


@pytest.mark.parametrize("missing", ["program", "size"])
def test_nothing_is_booted_where_it_cannot_work(
    probes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    probes["kvm"] = NO_KVM
    if missing == "program":
        monkeypatch.setattr(uml, "missing_programs", lambda: "linux.uml is missing")
    else:
        monkeypatch.setattr(uml, "size_problem", lambda *_: "too large")
    assert choose(tmp_path).accelerator == "tcg"
    assert probes["asked"] == ["kvm"]
