# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stack's template is found wherever a run is started."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

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


@pytest.mark.parametrize(
    ("accelerators", "given", "interval", "start_period"),
    [
        pytest.param([None, None], {}, "10s", None, id="machines that say nothing: as the image has it"),
        pytest.param(["kvm", "kvm"], {}, "10s", None, id="virtual machines at native speed"),
        pytest.param(["kvm", "tcg"], {}, "30s", "600s", id="one of them is emulated"),
        pytest.param(["tcg"], {"health_interval": "5s", "health_start_period": "9s"}, "5s", "9s", id="as it was asked"),
    ],
)
def test_checks_leave_the_cpu_of_an_emulated_machine_to_what_starts(
    accelerators: list[str | None], given: dict[str, str], interval: str, start_period: str | None
) -> None:
    facts = {f"n{n}": {"machine_accelerator": of} if of else {} for n, of in enumerate(accelerators)}
    names = ("web", "visualizer", "redis")
    variables = {
        "groups": {"all": list(facts), "managers": ["n0"]},
        "hostvars": facts,
        "stack_services": list(names),
        "stack_secrets": [],
        "stack_name": "shop",
        "stack_data_dir": "/data",
        "stack_docker_group_id": 1,
        **{f"{name}_image": name for name in names},
        **given,
    }
    source = (Path(__file__).parents[2] / "templates" / "docker-compose.yml.j2").read_text()
    compose = yaml.safe_load(str(Templar(DataLoader(), variables=variables).template(trust_as_template(source))))
    for name in names:
        health = compose["services"][name]["healthcheck"]
        assert (health["interval"], health.get("start_period")) == (interval, start_period)
        assert health.get("timeout") == ("120s" if "tcg" in accelerators else None)
