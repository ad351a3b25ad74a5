# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Serve the application on port 80: one process and four threads, which fit in the 50 MB that a replica has."""

from __future__ import annotations

import gc
import signal
import sys
from types import FrameType


def stop(_signal: int, _frame: FrameType | None) -> None:
    """End on SIGTERM, which the kernel keeps from a container's first process unless that handles it."""
    sys.exit(0)


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
    print("serving on port 80")
    server.run()


if __name__ == "__main__":
    main()
