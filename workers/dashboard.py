"""The dashboard: a web page, a REST side and metrics of a running mcm, which it asks like any other client.

If its port is taken it says so and tries again; if it is slow or dies, the feed does not notice.
"""

import asyncio
import logging
import os
import sys
import urllib.parse
from pathlib import Path

from aiohttp import web

from mcm import runtime
from mcm.core.control import DashboardReport, DashboardSettings, Down, Ready, Stop
from mcm.core.exits import Exit
from mcm.web.app import Dashboard

log = logging.getLogger("mcm.dashboard")

REPORT_S = 1.0
BIND_RETRY_S = 3.0
STOP_S = 0.2


class Process:
    """Listens, and reports to the supervisor."""

    def __init__(self, settings: DashboardSettings, channel: runtime.Channel[Down]) -> None:
        self._settings, self._channel = settings, channel
        self._dashboard = Dashboard(Path(settings.run_dir), settings.token, settings.hosts)
        self._address = self._problem = ""
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._take_commands)
        # Access logs would hold the token of whoever opens the page with it.
        runner = web.AppRunner(
            self._dashboard.application(), access_log=None, handle_signals=False, shutdown_timeout=STOP_S
        )
        await runner.setup()
        await self._listen(runner)  # before Ready: status then says at once where it is, or why not
        self._channel.send(Ready())
        tasks = [
            loop.create_task(task, name=name)
            for name, task in (
                ("report", self._report_for_ever()),
                ("pages", self._dashboard.pages.run()),
                ("bind", self._bind(runner)),
                ("stop", self._stopping.wait()),
            )
        ]
        while not self._stopping.is_set():
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # what fails ends the process; binding just ends
                tasks.remove(task)
        for site in list(runner.sites):
            await site.stop()

    def _take_commands(self) -> None:
        if any(isinstance(record, Stop) for record in self._channel.receive()) or self._channel.closed:
            self._stopping.set()

    async def _listen(self, runner: web.AppRunner) -> None:
        parts = urllib.parse.urlsplit(f"//{self._settings.listen}")
        host, port = parts.hostname or "", parts.port or 0
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            self._problem = f"cannot listen on {self._settings.listen}: {reason}"
            log.warning("%s; trying again", self._problem)
            return
        bound: int = runner.addresses[0][1]
        self._address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        self._problem = ""
        log.info("listening on %s", self._address)

    async def _bind(self, runner: web.AppRunner) -> None:
        """Try again for as long as somebody else has the port."""
        while not self._address:
            await asyncio.sleep(BIND_RETRY_S)
            await self._listen(runner)

    async def _report_for_ever(self) -> None:
        while True:
            report = DashboardReport(self._address, len(self._dashboard.pages), self._problem)
            self._channel.send(report, replace=True)
            await asyncio.sleep(REPORT_S)


def _leave(code: Exit) -> None:
    """End at once: a thread may be in the middle of a question that takes a second, and has nothing to finish."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Run as a child of the supervisor."""
    channel = runtime.start_child("dashboard")
    settings = runtime.await_settings(channel, DashboardSettings)
    code = Exit.OK
    try:
        asyncio.run(Process(settings, channel).run())
    except Exception:
        log.exception("mcm has a bug; please report the lines below")
        code = Exit.INTERNAL
    _leave(code)


if __name__ == "__main__":
    main()
