# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every scenario of molecule/, as "molecule test -s NAME" runs it. Its output is kept in .cache/molecule/NAME.log."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.scenarios import NAMES, Scenarios, missing


@pytest.mark.parametrize("name", NAMES)
def test_scenario(name: str, scenarios: Scenarios, record_property: Callable[[str, object], None]) -> None:
    if lack := missing(name):
        pytest.skip(lack)
    outcome = scenarios.outcome(name)
    record_property("seconds", round(outcome.seconds))
    output = outcome.log.read_text()
    end = "\n".join(output.splitlines()[-150:])
    assert outcome.status == 0, f"the end of {outcome.log}:\n{end}"
    # Molecule is content with no tests at all.
    assert re.search(r"=+ \d+ passed", output), f"no test was run, see {outcome.log}:\n{end}"
