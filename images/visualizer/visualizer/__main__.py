# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Serve until SIGTERM."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType

from visualizer.config import Config, ConfigError, from_environment


def stop(_signal: int, _frame: FrameType | None) -> None:
    """End on SIGTERM while starting; the kernel keeps it from a container's first process unless that handles it."""
    sys.exit(0)


async def serve(config: Config) -> None:
    """Serve the page and follow the swarm; streams end with SIGTERM, and so does this."""
    import asyncio
    import contextlib

    from aiohttp import web

    from visualizer.engine import Engine
    from visualizer.watch import Feed, Watcher
    from visualizer.web import application

    stopping, feed = asyncio.Event(), Feed()
    runner = web.AppRunner(application(feed, config.login, stopping), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, config.address, config.port)
    try:
        await site.start()
    except OSError as error:
        raise ConfigError(
            f"VISUALIZER_ADDRESS and VISUALIZER_PORT are {config.address!r} and {config.port}, where one cannot "
            f"listen ({error.strerror}): give an address of this machine and a port above 1023 that is free"
        ) from None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    gc.freeze()  # what was imported stays
    gc.enable()
    print("serving on http://{}:{}".format(*runner.addresses[0][:2]))

    engine = Engine(config.socket)
    watcher = asyncio.create_task(Watcher(engine, feed).run())
    ended = asyncio.create_task(stopping.wait())
    await asyncio.wait({watcher, ended}, return_when=asyncio.FIRST_COMPLETED)
    if watcher.done():
        watcher.result()  # a defect: end, so that the swarm starts another
    watcher.cancel()
    await asyncio.gather(watcher, return_exceptions=True)
    await engine.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(runner.cleanup(), 1)


def main() -> int:
    """Read the settings, then import the rest: who made a mistake hears of it at once."""
    signal.signal(signal.SIGTERM, stop)
    try:
        config = from_environment(os.environ)
        # Imports make no garbage worth collecting, and looking for it is a tenth of the time that they take.
        gc.disable()
        import asyncio

        asyncio.run(serve(config))
    except ConfigError as error:
        print(f"visualizer: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
