"""The control socket: takes requests of the CLI and other clients, one record each, and answers them."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

from mcm import bus
from mcm.core.control import Problem, Reply, Request
from mcm.core.errors import SettingsError, UsageError

__all__ = ["ControlServer"]

log = logging.getLogger("mcm.supervisor")

Answer = Callable[[str, dict[str, object]], object]


class ControlServer:
    """Answers requests for as long as its context lasts; *answer* raises UsageError for what cannot be done."""

    def __init__(self, run_dir: Path, answer: Answer) -> None:
        self._run_dir, self._answer = run_dir, answer

    async def __aenter__(self) -> Self:
        """Listen."""
        self._socket = bus.control_server(self._run_dir)
        self._task = asyncio.create_task(self._serve(), name="control")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening; the last answer has 200 ms to leave."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._socket.close()
        (self._run_dir / bus.CONTROL).unlink(missing_ok=True)

    async def _serve(self) -> None:
        while True:
            client, *frames = await self._socket.recv_multipart()
            await self._socket.send_multipart([client, *frames[:-1], msgspec.msgpack.encode(self._reply(frames))])

    def _reply(self, frames: list[bytes]) -> Reply:
        try:
            request = msgspec.msgpack.decode(frames[-1] if frames else b"", type=Request)
            return Reply(ok=self._answer(request.op, request.args))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return Reply(error=Problem(f"no request: {error}", "send msgpack {op, args}"))
        except UsageError as error:
            return Reply(error=Problem(error.problem, error.hint))
        except SettingsError as error:
            place = " ".join(filter(None, (error.where, error.key)))
            return Reply(error=Problem(f"{place}: {error.problem}", error.hint))
        except Exception:
            log.exception("a request could not be answered")
            return Reply(error=Problem("mcm has a bug in this operation", "its traceback is in logs/supervisor.log"))
