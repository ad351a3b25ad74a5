# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The project's compose template, rendered without Ansible."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

PATH = Path(__file__).resolve().parents[1] / "templates" / "docker-compose.yml.j2"
#: what the inventories and the role say
VARIABLES: dict[str, Any] = {
    "stack_name": "getstartedlab",
    "stack_services": ["web", "visualizer", "redis"],
    "stack_secrets": [{"name": "redis_password", "generate": 32}],
    "stack_data_dir": "/var/lib/apiary",
    "stack_docker_group_id": 2375,
    "web_image": "apiary/web:1",
    "visualizer_image": "apiary/visualizer:1",
    "redis_image": "apiary/redis:1",
}


def rendered(**variables: Any) -> str:
    """Return what the template renders to with VARIABLES and *variables*; those that are None are not defined."""
    environment = Environment(trim_blocks=True, undefined=StrictUndefined)  # noqa: S701 - no HTML
    # as Ansible has them
    environment.tests["search"] = lambda text, pattern: re.search(pattern, text) is not None
    environment.filters["to_json"] = json.dumps
    given = {name: value for name, value in {**VARIABLES, **variables}.items() if value is not None}
    return environment.from_string(PATH.read_text()).render(given)
