# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is true of every role, every plugin and every list that is kept in two places."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").glob("*") if path.is_dir())
PLUGINS = sorted(
    (kind, path.stem)
    for directory, kind in {"modules": "module", "filter": "filter", "callback": "callback"}.items()
    for path in (ROOT / "plugins" / directory).glob("*.py")
)
MODULES = [name for kind, name in PLUGINS if kind == "module"]


def load(*path: str) -> Any:
    return yaml.safe_load(ROOT.joinpath(*path).read_text())


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def constraints() -> dict[str, str]:
    pins = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


# Roles


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("path", ["tasks/main.yml", "meta/main.yml", "meta/argument_specs.yml", "README.md"])
def test_role_has(role: str, path: str) -> None:
    assert (ROOT / "roles" / role / path).is_file()


def options(role: str) -> dict[str, Any]:
    entry_points = load("roles", role, "meta", "argument_specs.yml")["argument_specs"].values()
    return {name: option for entry_point in entry_points for name, option in entry_point["options"].items()}


def defaults(role: str) -> dict[str, Any]:
    path = ROOT / "roles" / role / "defaults" / "main.yml"
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


@pytest.mark.parametrize("role", ROLES)
def test_role_default_exists_exactly_for_options_that_are_not_required(role: str) -> None:
    optional = {name for name, option in options(role).items() if not option.get("required")}
    assert set(defaults(role)) == optional


@pytest.mark.parametrize("role", ROLES)
def test_role_documents_the_default_that_it_has(role: str) -> None:
    documented = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert documented == {name: value for name, value in defaults(role).items() if name in documented}


@pytest.mark.parametrize("role", ROLES)
def test_role_option_has_type_and_description(role: str) -> None:
    assert [name for name, option in options(role).items() if not {"type", "description"} <= set(option)] == []


@pytest.mark.parametrize("role", ROLES)
def test_role_default_is_named_after_its_role(role: str) -> None:
    assert [name for name in defaults(role) if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_role_readme_names_every_option_in_sixty_lines(role: str) -> None:
    readme = (ROOT / "roles" / role / "README.md").read_text()
    assert [name for name in options(role) if f"`{name}`" not in readme] == []
    assert len(readme.splitlines()) <= 60


# Plugins


@cache
def documentation(kind: str) -> dict[str, Any]:
    """Return what ansible-doc says of all our plugins of a kind: one run of it takes a second."""
    names = [f"apiary.swarm.{name}" for plugin_kind, name in PLUGINS if plugin_kind == kind]
    command = [sys.executable, "-m", "ansible", "doc", "--json", "--type", kind, *names]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_plugin_has_documentation(kind: str, name: str) -> None:
    page = documentation(kind).get(f"apiary.swarm.{name}", {})
    assert page.get("doc"), "ansible-doc cannot read it"
    assert page["doc"]["short_description"]
    if kind == "module":
        assert page.get("examples"), "no EXAMPLES"
        assert page.get("return"), "no RETURN"
        assert {"check_mode", "diff_mode"} <= set(page["doc"]["attributes"])


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "plugins" / "action").glob("*.py")))
def test_action_plugin_has_the_module_that_documents_it(name: str) -> None:
    assert name in MODULES


def contract(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what a person may rely on of each option: of ARGUMENT_SPEC and of DOCUMENTATION alike."""
    return {
        name: {
            "type": option.get("type", "str"),
            "elements": option.get("elements"),
            "required": option.get("required", False),
            "default": option.get("default"),
            "choices": sorted(option["choices"]) if option.get("choices") else None,
            "options": contract(option.get("options") or option.get("suboptions") or {}),
        }
        for name, option in spec.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_module_documents_the_arguments_that_it_takes(name: str) -> None:
    module = importlib.import_module(f"ansible_collections.apiary.swarm.plugins.modules.{name}")
    assert contract(documentation("module")[f"apiary.swarm.{name}"]["doc"]["options"]) == contract(module.ARGUMENT_SPEC)


# Lists that are kept in two places


def test_collection_ranges_agree() -> None:
    required = {collection["name"]: collection["version"] for collection in load("requirements.yml")["collections"]}
    assert load("galaxy.yml")["dependencies"] == required


def test_version_agrees() -> None:
    assert pyproject()["project"]["version"] == load("galaxy.yml")["version"]


def test_lowest_ansible_agrees() -> None:
    ranges = {Requirement(line).name: Requirement(line).specifier for line in pyproject()["project"]["dependencies"]}
    lowest = [Version(part.version) for part in ranges["ansible-core"] if part.operator == ">="]
    assert [Version(part.version) for part in SpecifierSet(load("meta", "runtime.yml")["requires_ansible"])] == lowest


@pytest.mark.parametrize("line", pyproject()["project"]["dependencies"] + pyproject()["dependency-groups"]["dev"])
def test_constraints_pin_what_is_required(line: str) -> None:
    requirement = Requirement(line)
    assert constraints()[canonicalize_name(requirement.name)] in requirement.specifier


def test_make_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE)) - {"dev", "inventory"}  # steps of others
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z0-9-]+) +\S", shown, re.MULTILINE)) == targets


@pytest.mark.parametrize(("system", "settings"), [("Linux", "C.UTF-8 unset"), ("Darwin", "en_US.UTF-8 YES")])
def test_make_runs_ansible_as_the_system_wants(tmp_path: Path, system: str, settings: str) -> None:
    (tmp_path / "uname").write_text(f"#!/bin/sh\necho {system}\n")
    (tmp_path / "uname").chmod(0o755)
    show = "show:; @echo $$LC_ALL $${OBJC_DISABLE_INITIALIZE_FORK_SAFETY-unset}"
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = ["make", f"--eval={show}", "show"]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout == f"{settings}\n"


@pytest.mark.parametrize("playbook", re.findall(r"playbooks/\S+\.yml", (ROOT / "Makefile").read_text()))
def test_make_calls_a_playbook_that_exists(playbook: str) -> None:
    assert (ROOT / playbook).is_file()
