# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where Galaxy is out of reach, the collections come out of a wheel: the needed ones, and no others."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "extract_collections.py"
IN_WHEEL = {"near.one": ["near.two", "far.three"], "near.two": [], "far.three": ["near.one"], "far.three_more": []}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "bundle-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made:
        for name, dependencies in IN_WHEEL.items():
            folder = f"ansible_collections/{name.replace('.', '/')}"
            manifest = {"collection_info": {"dependencies": dict.fromkeys(dependencies, "*")}}
            made.writestr(f"{folder}/MANIFEST.json", json.dumps(manifest))
            made.writestr(f"{folder}/plugins/modules/thing.py", "")
    return path


def extract(wheel: Path, name: str) -> subprocess.CompletedProcess[str]:
    requirements = wheel.with_name("requirements.yml")
    requirements.write_text(json.dumps({"collections": [{"name": name}]}))
    command = [sys.executable, *map(str, (SCRIPT, wheel, requirements, wheel.with_name("out")))]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("wanted", "got"),
    [("near.one", {"near.one", "near.two", "far.three"}), ("near.two", {"near.two"})],
)
def test_extracts_what_is_wanted_and_all_it_depends_on(wheel: Path, wanted: str, got: set[str]) -> None:
    assert extract(wheel, wanted).returncode == 0
    folders = wheel.with_name("out").glob("ansible_collections/*/*")
    assert {f"{folder.parent.name}.{folder.name}" for folder in folders} == got


def test_names_the_collection_that_the_wheel_lacks(wheel: Path) -> None:
    result = extract(wheel, "near.nothing")
    assert result.returncode == 1
    assert "bundle-1-py3-none-any.whl does not contain the collection near.nothing" in result.stderr
