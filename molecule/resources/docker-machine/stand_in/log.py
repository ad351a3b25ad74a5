# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What docker-machine says: Info and Warn on standard output, unless told otherwise, errors on standard error."""

from __future__ import annotations

import os
import signal
import sys
from typing import TextIO

from stand_in.settings import fault


class Log:
    """The one log of a process."""

    info_stream: TextIO = sys.stdout

    def info(self, text: object, machine: str = "") -> None:
        line = f"({machine}) {text}" if machine else str(text)
        last = fault("dies")
        if last and last in line:
            os.kill(os.getpid(), signal.SIGKILL)
        print(line, file=self.info_stream, flush=True)

    def error(self, text: object) -> None:
        sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)


log = Log()
