# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Serve the application on port 80: one process and four threads, which fit in the 50 MB that a replica has."""

from __future__ import annotations

import gc
import signal
import sys
from types import FrameType
from typing import Any

#: for so long after SIGTERM new requests are still answered: whoever routes them may not have heard yet
LAME_DUCK_SECONDS = 2.0
_LOOK_SECONDS = 0.1


def stop(_signal: int, _frame: FrameType | None) -> None:
    """End on SIGTERM, which the kernel keeps from a container's first process unless that handles it."""
    sys.exit(0)


def stop_gracefully(server: Any) -> None:
    """On SIGTERM go on serving for a while, and end once nothing is in progress; Docker kills what takes too long."""

    def begin(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, LAME_DUCK_SECONDS, _LOOK_SECONDS)

    def look(_signal: int, _frame: FrameType | None) -> None:
        if not is_busy(server):
            signal.setitimer(signal.ITIMER_REAL, 0)
            sys.exit(0)

    signal.signal(signal.SIGALRM, look)
    signal.signal(signal.SIGTERM, begin)


def is_busy(server: Any) -> bool:
    """Say whether a request is being read, worked on or answered; a connection kept open for the next one is not."""
    return any(
        channel.request or channel.requests or channel.total_outbufs_len
        for channel in list(server.active_channels.values())
    )


def main() -> None:
    """Import, listen, serve."""
    signal.signal(signal.SIGTERM, stop)
    # Imports make no garbage worth collecting, and looking for it is a tenth of the time that they take.
    gc.disable()
    import waitress
    from app import app, visits

    gc.freeze()
    gc.enable()
    visits.start_connecting()
    # All addresses of a container are its own: who reaches it is for the stack to say.
    server = waitress.create_server(app, host="0.0.0.0", port=80, threads=4, ident="web")  # noqa: S104 - see above
    stop_gracefully(server)
    print("serving on port 80")
    server.run()


if __name__ == "__main__":
    main()
