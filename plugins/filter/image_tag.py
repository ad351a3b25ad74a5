# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: image_tag
short_description: The tag of the image that is built from a directory
description:
  - Twelve hex digits that follow from the files of a build context and from what the image is built on.
  - They are known before anything is built.
version_added: 0.1.0
author:
  - The Apiary developers
positional: _input
options:
  _input:
    description: Path of the build context, a directory with a Dockerfile.
    type: path
    required: true
  base:
    description: As O(apiary.swarm.image_present#module:base).
    type: str
    default: ""
  debian_suite:
    description: As O(apiary.swarm.image_present#module:debian_suite).
    type: str
    default: bookworm
  args:
    description: Build arguments, as in O(apiary.swarm.image_present#module:images).
    type: dict
    default: {}
"""

EXAMPLES = r"""
web_image: "apiary/web:{{ (playbook_dir ~ '/../images/web') | apiary.swarm.image_tag }}"
"""

RETURN = r"""
_value:
  description: The tag.
  type: str
  sample: 4f9d0c1b2a3e
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import (
    DEBIAN_SUITE,
    content_tag,
)


def image_tag(
    context: str, base: str = "", debian_suite: str = DEBIAN_SUITE, args: Mapping[str, Any] | None = None
) -> str:
    """Return the tag of the image that is built from *context*."""
    try:
        return content_tag(Path(context).expanduser(), base, debian_suite, args)
    except (ApiaryError, OSError) as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter, as Ansible finds it."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"image_tag": image_tag}
