"""What the processes that people's programs reach have in common: an address that may be taken, and how they end."""

import asyncio
import logging
import os
import sys
import urllib.parse
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NoReturn

from aiohttp import web

from mcm.core.exits import Exit

__all__ = ["Listener", "leave", "run", "until_stopped"]

RETRY_S = 3.0

Task = Coroutine[Any, Any, object]


class Listener:
    """One address of a server; where somebody else has it, that is said, and tried again.

    Attributes:
        address: host and port, once it listens; before, empty.
        problem: why it does not, in words; else empty.
    """

    def __init__(self, listen: str, log: logging.Logger) -> None:
        self._listen, self._log = listen, log
        self.address = self.problem = ""

    async def bind(self, runner: web.AppRunner) -> None:
        """Try it once."""
        parts = urllib.parse.urlsplit(f"//{self._listen}")
        host, port = parts.hostname or "", parts.port or 0
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            self.problem = f"cannot listen on {self._listen}: {reason}"
            self._log.warning("%s; trying again", self.problem)
            return
        bound: int = runner.addresses[0][1]
        self.address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        self.problem = ""
        self._log.info("listening on %s", self.address)

    async def bind_at_last(self, runner: web.AppRunner) -> None:
        """Try again for as long as somebody else has the port."""
        while not self.address:
            await asyncio.sleep(RETRY_S)
            await self.bind(runner)


async def until_stopped(stopping: asyncio.Event, tasks: Mapping[str, Task]) -> None:
    """Run these beside each other until *stopping* is set; one may end before, one that fails ends them all."""
    loop = asyncio.get_running_loop()
    running = {loop.create_task(task, name=name) for name, task in {**tasks, "stop": stopping.wait()}.items()}
    while not stopping.is_set():
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


def run(log: logging.Logger, serve: Callable[[], Coroutine[Any, Any, None]]) -> NoReturn:
    """Run a child's *serve* to its end, and leave."""
    code = Exit.OK
    try:
        asyncio.run(serve())
    except Exception:
        log.exception("mcm has a bug; please report the lines below")
        code = Exit.INTERNAL
    leave(code)


def leave(code: Exit) -> NoReturn:
    """End at once: threads may be in the middle of a question that takes a second, and have nothing to finish."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)
