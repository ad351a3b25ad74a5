# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stack's template is found wherever a run is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.apiary.swarm.plugins.action.stack_render import _refuse_unknown_services
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.project_files import find

TEMPLATE = "templates/stack.yml.j2"


def located(name: str, task_vars: dict[str, str]) -> Path:
    return find(name, task_vars, "template", "Set stack_template to the path of yours")


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
    assert located(TEMPLATE, {"playbook_dir": str(project / directory)}) == project / TEMPLATE


@pytest.mark.parametrize(
    ("source", "wanted", "unknown"),
    [
        ("{% if 'web' in stack_services %}", ["web"], ""),
        ("{% if 'web' in stack_services %}{% if \"db\" in stack_services %}", ["web", "cache"], "cache"),
        ("{% if 'web' in stack_services %}", ["nonsense", "web", "more"], "nonsense, more"),
        ("a template that does not go by it", ["visualizer", "redis"], ""),
    ],
)
def test_services_that_a_template_does_not_know_are_refused(
    tmp_path: Path, source: str, wanted: list[str], unknown: str
) -> None:
    path = tmp_path / "stack.yml.j2"
    path.write_text(source)
    refused = f"stack_services has {unknown}, and {path} knows only " if unknown else ""
    try:
        _refuse_unknown_services(path, wanted, {"services": {"web": {}, "db": {}}})
    except ApiaryError as error:
        assert refused
        assert refused in str(error)
    else:
        assert not refused


def test_template_is_found_from_the_role_of_a_foreign_playbook(project: Path, tmp_path: Path) -> None:
    variables = {"playbook_dir": str(tmp_path / "elsewhere"), "role_path": str(project / "roles" / "stack")}
    assert located(TEMPLATE, variables) == project / TEMPLATE


def test_template_that_is_nowhere_is_named_with_where_it_was_looked_for(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ApiaryError, match=r"there is no template 'other.j2'; looked for .*Set stack_template"):
        located("other.j2", {"playbook_dir": str(project / "playbooks")})
