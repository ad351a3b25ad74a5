# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Apiary's action plugins share: arguments checked, ApiaryError shown as it stands."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError, is_own, own_error


class ApiaryAction(ActionBase):
    """Base of the action plugins that run inside Ansible's own worker, without a Python process of their own.

    A subclass sets ``argument_spec`` (taken from the documented module beside it) and writes ``outcome``, which
    returns the result dict with at least ``changed``.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True

    argument_spec: ClassVar[dict[str, Any]] = {}
    #: mutually_exclusive, required_if and so on, as AnsibleModule takes them
    argument_relations: ClassVar[dict[str, Any]] = {}
    #: options that are lists of what hosts' variables say, and the prefix of those variables, which an error names
    variable_prefixes: ClassVar[dict[str, str]] = {}

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Bring the outcome about (or, in check mode, say what would change) and return the result."""
        raise NotImplementedError

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        params: dict[str, Any]
        try:
            _validation, params = self.validate_argument_spec(self.argument_spec, **self.argument_relations)
        except AnsibleActionFail as error:
            raise AnsibleActionFail(_naming_variables(str(error), self.variable_prefixes)) from None
        try:
            result.update(self.outcome(params, task_vars or {}))
        except ApiaryError as error:
            result.update(failed=True, msg=str(error))
        except OSError as error:
            if not is_own(error.errno):
                raise
            result.update(failed=True, msg=own_error(error))
        return result


def _naming_variables(message: str, prefixes: dict[str, str]) -> str:
    """Put the names of variables in the place of those of options within lists."""
    for option, prefix in prefixes.items():
        message = re.sub(rf"^argument '(\w+)' (?=.* found in '{option}')", rf"{prefix}\1 ", message)
    return message
