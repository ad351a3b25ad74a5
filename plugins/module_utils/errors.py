# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one exception that Apiary's plugins raise for something a person can act on."""

from __future__ import annotations

import errno


class ApiaryError(Exception):
    """What was tried, on what, what came back, and what to do: shown to the user as it stands."""

    #: whether it may pass by itself, as a busy machine's silence does, so that whoever waits asks again
    may_pass = False


class PassingError(ApiaryError):
    """An error that may pass."""

    may_pass = True


#: what the system says of an error that is this computer's own, whoever was talked to → what to do about it
_OWN: dict[int, str] = {
    errno.ENOSPC: "Make room on that disk",
    errno.EDQUOT: "Make room there: this user's quota is used up",
    errno.EROFS: "It is mounted for reading only: mount it for writing, or choose a directory elsewhere",
    errno.EACCES: "Let this user in there, or run as a user who may",
    errno.EPERM: "Run as a user who may",
    errno.EMFILE: "Allow more open files (ulimit -n 4096)",
    errno.ENFILE: "Allow more open files (sysctl fs.file-max)",
    errno.ENOMEM: "Free some of its memory",
    errno.EADDRNOTAVAIL: "It has no such address, or no free port",
    errno.ENOENT: "",
    errno.ENOTDIR: "",
    errno.EISDIR: "",
    errno.EEXIST: "",
    errno.ENAMETOOLONG: "",
}


def is_own(number: int | None) -> bool:
    """Say whether an error of this number is this computer's, and nobody's with whom it talked."""
    return number in _OWN


def own_error(error: OSError, number: int | None = None) -> str:
    """Return what to say of an error of this computer."""
    remedy = _OWN.get(number or error.errno or 0, "")
    return f"this computer failed: {error}" + (f". {remedy}" if remedy else "")
