"""What the dashboard knows of mcm: one question at a time at the control socket, one status shared by everybody."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from mcm.client import Control
from mcm.core.errors import McmError, NotRunning
from mcm.core.status import Status

__all__ = ["Busy", "Source"]

WAITING = 64
FRESH_S = 0.25

Answer = TypeVar("Answer")


class Busy(McmError):
    """More is asked than mcm answers at present; asking again in a moment helps."""

    def __str__(self) -> str:
        return f"{WAITING} questions wait already; ask again in a moment"


class Source:
    """Asks the mcm of *run_dir*, from one thread of its own."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._executor = ThreadPoolExecutor(1, "dashboard:control")
        self._control: Control | None = None
        self._waiting = 0
        self._status: tuple[float, Status] | None = None
        self._asking: asyncio.Task[Status] | None = None

    async def ask(self, question: Callable[[Control], Answer]) -> Answer:
        """What mcm answers; raises NotRunning, UsageError for what it refuses, or Busy."""
        if self._waiting >= WAITING:
            raise Busy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._put, question)
        finally:
            self._waiting -= 1

    def _put(self, question: Callable[[Control], Answer]) -> Answer:
        if self._control is None:
            self._control = Control(self.run_dir)
        try:
            return question(self._control)
        except NotRunning:  # its answer may still come, and would be taken for that of another question
            self._control.close()
            self._control = None
            raise

    async def status(self, max_age_s: float = FRESH_S) -> Status:
        """How everything stands, or stood *max_age_s* ago; many who ask at once get one answer."""
        if self._status is not None and time.monotonic() - self._status[0] <= max_age_s:
            return self._status[1]
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._fetch(), name="status")
        return await asyncio.shield(self._asking)

    async def _fetch(self) -> Status:
        status = await self.ask(Control.status)
        self._status = time.monotonic(), status
        return status
