# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every scenario of molecule/, as "molecule test -s NAME" runs it. Its output is kept in .cache/molecule/NAME.log."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, request: pytest.FixtureRequest) -> None:
    if re.search(r"\bvirtual\b", (ROOT / "molecule" / name / "molecule.yml").read_text()):
        if not shutil.which("qemu-system-x86_64"):
            pytest.skip("qemu-system-x86_64 missing: 'make dev' installs what the tests need")
    else:
        request.getfixturevalue("outer_engine")
    log = ROOT / ".cache" / "molecule" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        status = molecule("test", name, log, "w")
    except BaseException:  # also when interrupted: molecule removes its nodes only when it ends by itself
        molecule("destroy", name, log, "a")
        raise
    output = log.read_text()
    end = "\n".join(output.splitlines()[-150:])
    assert status == 0, f"the end of {log}:\n{end}"
    # Molecule is content with no tests at all.
    assert re.search(r"=+ \d+ passed", output), f"no test was run, see {log}:\n{end}"


def molecule(command: str, name: str, log: Path, mode: str) -> int:
    with log.open(mode) as output:
        return subprocess.run(
            ["molecule", command, "-s", name],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=1200,
            check=False,
        ).returncode
