# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stack's template is found wherever a run is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.apiary.swarm.plugins.action.stack_render import ActionModule
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

TEMPLATE = "templates/stack.yml.j2"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a template, and a run that was started elsewhere."""
    path = tmp_path / "project" / TEMPLATE
    path.parent.mkdir(parents=True)
    path.touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return tmp_path / "project"


@pytest.mark.parametrize("directory", [".", "playbooks", "playbooks/steps"])
def test_template_is_found_from_the_play(project: Path, directory: str) -> None:
    action = ActionModule.__new__(ActionModule)
    assert action._find(TEMPLATE, {"playbook_dir": str(project / directory)}) == project / TEMPLATE


def test_template_is_found_from_the_role_of_a_foreign_playbook(project: Path, tmp_path: Path) -> None:
    action = ActionModule.__new__(ActionModule)
    variables = {"playbook_dir": str(tmp_path / "elsewhere"), "role_path": str(project / "roles" / "stack")}
    assert action._find(TEMPLATE, variables) == project / TEMPLATE


def test_template_that_is_nowhere_is_named_with_where_it_was_looked_for(project: Path, tmp_path: Path) -> None:
    action = ActionModule.__new__(ActionModule)
    with pytest.raises(ApiaryError, match=r"there is no template 'other.j2'; looked for .*Set stack_template"):
        action._find("other.j2", {"playbook_dir": str(project / "playbooks")})
