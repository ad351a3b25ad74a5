# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one exception that Apiary's plugins raise for something a person can act on."""

from __future__ import annotations


class ApiaryError(Exception):
    """What was tried, on what, what came back, and what to do: shown to the user as it stands."""
