"""The dashboard: a web page, a REST side and metrics of a running mcm, which it asks like any other client.

If its port is taken it says so and tries again; if it is slow or dies, the feed does not notice.
"""

import asyncio
import logging
from pathlib import Path

from aiohttp import web

from mcm import runtime
from mcm.core.control import DashboardReport, DashboardSettings, Down, Ready, Stop
from mcm.listening import Listener, run, until_stopped
from mcm.web.app import Dashboard

log = logging.getLogger("mcm.dashboard")

REPORT_S = 1.0
STOP_S = 0.2


class Process:
    """Listens, and reports to the supervisor."""

    def __init__(self, settings: DashboardSettings, channel: runtime.Channel[Down]) -> None:
        self._channel = channel
        self._dashboard = Dashboard(Path(settings.run_dir), settings.token, settings.hosts)
        self._listener = Listener(settings.listen, log)
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
        await self._listener.bind(runner)  # before Ready: status then says at once where it is, or why not
        self._channel.send(Ready())
        await until_stopped(
            self._stopping,
            {
                "report": self._report_for_ever(),
                "pages": self._dashboard.pages.run(),
                "bind": self._listener.bind_at_last(runner),
            },
        )
        for site in list(runner.sites):
            await site.stop()

    def _take_commands(self) -> None:
        if any(isinstance(record, Stop) for record in self._channel.receive()) or self._channel.closed:
            self._stopping.set()

    async def _report_for_ever(self) -> None:
        while True:
            report = DashboardReport(self._listener.address, len(self._dashboard.pages), self._listener.problem)
            self._channel.send(report, replace=True)
            await asyncio.sleep(REPORT_S)


def main() -> None:
    """Run as a child of the supervisor."""
    channel = runtime.start_child("dashboard")
    settings = runtime.await_settings(channel, DashboardSettings)
    run(log, lambda: Process(settings, channel).run())


if __name__ == "__main__":
    main()
