# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The sources of the application as somebody has them who works on it: a copy, to be edited and deployed."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from pathlib import Path

from ansible_collections.apiary.swarm.plugins.module_utils.image_source import content_tag

_IMAGES = Path(__file__).resolve().parents[1] / "images"

#: how a version can be broken: the file, what it says, and what it says then
BROKEN = {
    "ends": ("server.py", "    visits.start_connecting()\n", '    sys.exit("the shelves are empty")\n'),
    # nor is it given the two minutes that a slow computer needs
    "is never healthy": (
        "Dockerfile",
        'start-period=120s --retries=3 CMD ["/app/healthcheck"]',
        "retries=1 CMD exit 1",
    ),
}
#: what is said of it when it is deployed
REASON = {
    "ends": "failed: task: non-zero exit (1) its last log lines: the shelves are empty",
    "is never healthy": "complete: finished (exit code 0) remedy: it ended by itself, or was stopped as its health",
}


class Sources:
    """The directories of web, of what it is built on, and of the *others* among the stack's images."""

    def __init__(self, directory: Path, *others: str) -> None:
        self.names = ["web", *others]
        for name in ["base", *self.names]:
            shutil.copytree(_IMAGES / name, directory / name)
        self.directory = directory
        self.web = directory / "web"
        #: words that no run has built an image of before
        self.greeting = f"Good day number {secrets.token_hex(4)},"

    @property
    def reference(self) -> str:
        """The image that web is now."""
        return f"apiary/web:{content_tag(self.web)}"

    @property
    def variables(self) -> str:
        """What to give to ansible-playbook -e, so that the copies are what is built."""
        images = [{"name": f"apiary/{name}", "context": str(self.directory / name)} for name in self.names]
        return json.dumps({"image_list": images, "web_image": self.reference})

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.web / name).read_text()
        assert old in text
        (self.web / name).write_text(text.replace(old, new))

    def greet(self) -> None:
        """Have web say the greeting."""
        self.edit("app.py", 'GREETING = "Hello {name}!"', f'GREETING = "{self.greeting} {{name}}!"')


def rebuilt(output: str) -> list[str]:
    """The images of which a run said that it builds them."""
    return re.findall(r"building (\S+) ", output)
