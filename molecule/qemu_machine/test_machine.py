# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role qemu_machine."""

from __future__ import annotations

import platform
from typing import Any

import docker.errors
import pytest


def test_machine_has_an_engine_and_a_kernel_of_its_own(scenario: Any) -> None:
    info = scenario.engine("myvm1").info()
    assert info["Name"] == "myvm1"
    assert info["KernelVersion"] != platform.release()


def test_engine_refuses_strangers(scenario: Any) -> None:
    with pytest.raises((docker.errors.DockerException, OSError), match=r"certificate required|bad certificate"):
        scenario.engine("myvm1", keys=False).info()


def test_machine_has_the_memory_and_cpus_that_were_asked_for(scenario: Any) -> None:
    info = scenario.engine("myvm1").info()
    assert info["NCPU"] == 1
    assert 0.8 < info["MemTotal"] / 1024**3 <= 1


def test_images_and_containers_are_kept_on_its_disk(scenario: Any) -> None:
    assert scenario.engine("myvm1").info()["Driver"] == "overlay2"
