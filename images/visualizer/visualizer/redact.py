# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What looks like a secret in a text that is meant to be shown: an error of a task, the value of a label."""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "•••"

_WORDS = "passw|passphrase|pwd|secret|token|credential|(?:api|access|private)[_-]?key"
_NAME = rf"[\w.-]*(?:{_WORDS})[\w.-]*"
_SECRETIVE = re.compile(f"{_WORDS}|auth", re.IGNORECASE)
_ASSIGNED = re.compile(rf"({_NAME}[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|(?:Bearer |Basic )?[^\s\"',;]+)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(://)[^\s/@]+@")
_KNOWN = re.compile(
    r"SWM(?:TKN|KEY)-\S+|-----BEGIN[\s\S]*|\beyJ[\w-]{10,}\.[\w.-]+|\b(?:gh[pousr]|glpat|dckr_pat|xox[abp])[_-][\w-]{10,}"
)
#: letters of both cases and digits in one long word: a key, not a name. Digests and IDs are hexadecimal or of one case.
_RANDOM = re.compile(r"(?=[\w+=-]*[a-z])(?=[\w+=-]*[A-Z])(?=[\w+=-]*\d)[\w+=-]{20,}", re.ASCII)
_SHORTEST = 4


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return *text* with *secrets*, and what looks like one, hidden."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, HIDDEN)
    text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
    text = _AUTHORITY.sub(rf"\1{HIDDEN}@", text)
    return _RANDOM.sub(HIDDEN, _KNOWN.sub(HIDDEN, text))


def redacted_labels(labels: dict[str, str]) -> dict[str, str]:
    """Return *labels* with the values hidden that are, or by their name may be, secrets."""
    return {name: HIDDEN if _SECRETIVE.search(name) else redacted(value) for name, value in labels.items()}
