# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role backup."""

from __future__ import annotations

import gzip
import io
import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from molecule.conftest import STATE

DIRECTORY = STATE / "backups"
DATA = "/var/lib/apiary/getstartedlab"
CONFIRMED = ("-e", "restore_confirmed=true")


@pytest.fixture(scope="session")
def backup(scenario: Any) -> Path:
    """A backup with at least two visits in it."""
    scenario.counted("node1")
    before = set(DIRECTORY.iterdir())
    scenario.play("backup")
    (made,) = set(DIRECTORY.iterdir()) - before
    return made


@pytest.fixture(scope="session")
def visits(backup: Path) -> int:
    """How many visits there were when it was made."""
    with tarfile.open(backup) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
    return int(manifest["services"]["redis"]["contents"].split()[2])


def content(directory: str, scenario: Any) -> list[str]:
    listed = scenario.inside("node1").run(f"ls {directory}")
    assert listed.succeeded, listed.stderr
    return sorted(listed.stdout.split())


def test_backup_is_one_file_for_its_owner(backup: Path) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert stat.S_IMODE(backup.parent.stat().st_mode) == 0o700
    with tarfile.open(backup) as archive:
        assert archive.getnames() == ["manifest.json", "redis/dump.rdb"]


def test_backup_has_what_there_was(scenario: Any, backup: Path, visits: int) -> None:
    assert visits >= 1
    assert scenario.counted("node2") == visits + 1


def test_services_go_on_while_they_are_copied(scenario: Any, backup: Path) -> None:
    before = scenario.running_tasks("node1", "getstartedlab_redis")
    scenario.play("backup", "-e", f"backup_file={DIRECTORY}/other.tar.gz")
    assert scenario.running_tasks("node1", "getstartedlab_redis") == before


def test_backup_overwrites_nothing(scenario: Any, backup: Path) -> None:
    before = backup.read_bytes()
    run = scenario.play("backup", "-e", f"backup_file={backup}", succeeds=False)
    assert "is there already" in run.output
    assert backup.read_bytes() == before


@pytest.mark.parametrize("playbook", ["backup", "restore"])
def test_service_that_is_not_there_is_named(scenario: Any, backup: Path, playbook: str) -> None:
    run = scenario.play(playbook, *CONFIRMED, "-e", '{"backup_services": ["rdis"]}', succeeds=False)
    assert "backup_services has rdis" in " ".join(run.output.split())


def test_restore_asks_first(scenario: Any, backup: Path) -> None:
    run = scenario.play("restore", succeeds=False)
    assert "restore_confirmed=true" in run.output


def test_check_of_a_restore_changes_nothing(scenario: Any, backup: Path) -> None:
    before = scenario.running_tasks("node1", "getstartedlab_redis")
    scenario.play("restore", *CONFIRMED, "--check")
    assert scenario.running_tasks("node1", "getstartedlab_redis") == before


def test_counter_goes_on_from_the_backup(scenario: Any, backup: Path, visits: int) -> None:
    later = scenario.counted("node1")
    scenario.play("restore", *CONFIRMED, "-e", f"backup_file={backup}")
    assert visits < scenario.counted("node2") <= later
    names = content(DATA, scenario)
    assert [name.partition("-")[0] for name in names] == ["redis", "redis.before"]
    assert content(f"{DATA}/{names[1]}", scenario) == ["appendonlydir", "dump.rdb"]


def test_restored_stack_is_as_it_was_deployed(scenario: Any, backup: Path) -> None:
    assert "changed=0" in scenario.play("stack").output.split("PLAY RECAP")[1].splitlines()[1]


def damaged(backup: Path, path: Path, data: bytes) -> Path:
    """A backup that is whole, and whose data is *data*."""
    with tarfile.open(backup) as source, tarfile.open(path, "w:gz") as target:
        for member in source:
            read = source.extractfile(member).read()  # type: ignore[union-attr]  # they are files
            read = data if member.name == "redis/dump.rdb" else read
            member.size = len(read)
            target.addfile(member, io.BytesIO(read))
    return path


def test_data_that_redis_does_not_take_is_taken_back(scenario: Any, backup: Path, tmp_path: Path) -> None:
    before = scenario.counted("node1")
    bad = damaged(backup, tmp_path / "bad.tar.gz", b"REDIS0010 and nothing more")
    run = scenario.play("restore", *CONFIRMED, "-e", f"backup_file={bad}", succeeds=False)
    assert "getstartedlab_redis has the data again that it had before" in " ".join(run.output.split())
    assert scenario.counted("node2") > before


def test_backup_that_is_cut_off_stops_nothing(scenario: Any, backup: Path, tmp_path: Path) -> None:
    before = scenario.running_tasks("node1", "getstartedlab_redis")
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(gzip.compress(gzip.decompress(backup.read_bytes()))[:-9])
    run = scenario.play("restore", *CONFIRMED, "-e", f"backup_file={cut}", succeeds=False)
    assert "is damaged" in " ".join(run.output.split())
    assert scenario.running_tasks("node1", "getstartedlab_redis") == before


def test_restore_that_is_killed_is_finished_by_the_next(scenario: Any, backup: Path, visits: int) -> None:
    later = scenario.counted("node1")
    scenario.play_until("restore", "stopping it", *CONFIRMED, "-e", f"backup_file={backup}")
    scenario.play("restore", *CONFIRMED, "-e", f"backup_file={backup}")
    assert visits < scenario.counted("node2") <= later
    assert not [name for name in content(DATA, scenario) if name.endswith(".restored")]
