# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Render a stack's template and check it; see the module of the same name for its documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleTemplateError
from ansible.template import trust_as_template
from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import compose
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.compose_check import problems_of, warnings_of
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.project_files import find
from ansible_collections.apiary.swarm.plugins.modules.stack_render import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Return the rendered compose file, its services and its published ports."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        path = find(params["template"], task_vars, "template", "Set stack_template to the path of yours")
        text = self._render(path, task_vars)
        try:
            document = compose.parse(text)
        except compose.ComposeError as error:
            raise ApiaryError(_yaml_message(path, text, error)) from error
        if problems := problems_of(document, params["name"]):
            raise ApiaryError(
                f"{path}: " + "\n".join(["this cannot be deployed:", *(f"- {line}" for line in problems)])
            )
        _refuse_unknown_services(path, params["services"], document)
        for warning in warnings_of(document):
            Display().warning(f"{path}: {warning}")
        return {
            "changed": False,
            "compose": text,
            "services": compose.summary(document),
            "published_ports": [port.as_dict() for port in compose.published_ports(document)],
            "directory": str(path.parent),
        }

    def _render(self, path: Path, task_vars: dict[str, Any]) -> str:
        source = path.read_text(encoding="utf-8")
        templar = self._templar.copy_with_new_env(searchpath=[str(path.parent)], available_variables=task_vars)
        try:
            rendered = templar.template(
                trust_as_template(source), escape_backslashes=False, overrides={"trim_blocks": True}
            )
        except AnsibleTemplateError as error:
            raise ApiaryError(_template_message(path, source, error)) from error
        except AnsibleError as error:
            raise ApiaryError(f"{path}: {error}") from error
        # Ansible marks where a text came from; what is handed on is the text alone.
        return "".join(str(rendered or ""))


def _refuse_unknown_services(path: Path, wanted: Sequence[str], document: Mapping[str, Any]) -> None:
    """Refuse services that are asked for and did not come out, of a template that goes by stack_services at all."""
    known = sorted(set(re.findall(r"""['"]([\w-]+)['"] in stack_services""", path.read_text(encoding="utf-8"))))
    if known and (unknown := [name for name in wanted if name not in document["services"]]):
        raise ApiaryError(f"stack_services has {', '.join(unknown)}, and {path} knows only {', '.join(known)}")


def _template_message(path: Path, source: str, error: AnsibleTemplateError) -> str:
    line, remedy = getattr(error.__cause__, "lineno", 0), ""
    if undefined := re.search(r"'(\w+)' is undefined", str(error)):
        name = undefined[1]
        lines = source.splitlines()
        line = next((number for number, text in enumerate(lines, 1) if re.search(rf"\b{name}\b", text)), 0)
        remedy = f". Set {name}, in inventories/*/group_vars/all.yml for example, or give it a default in the template"
    return f"{path}{f' line {line}' if line else ''}: {error}{remedy}"


def _yaml_message(path: Path, text: str, error: compose.ComposeError) -> str:
    if not error.line:
        return f"{path} does not render to a compose file: {error}"
    lines = text.splitlines()
    numbers = range(max(1, error.line - 1), min(len(lines), error.line) + 1)
    shown = "\n".join(f"  {number}: {lines[number - 1]}" for number in numbers)
    return f"{path} does not render to YAML: line {error.line} of the rendered text: {error}\n{shown}"
