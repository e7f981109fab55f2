"""What `mcm start` shows while it runs: connections coming up, one line that refreshes, and what to try next."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mcm.configuration import Configuration
from mcm.core.status import Status, summary
from mcm.terminal import Terminal

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["Console", "hints"]

REFRESH_S = 0.5
LINE_EVERY_S = 5.0
HINT_S = 8.0  # also where nothing comes up


class Console:
    """The terminal, or whatever stdout is: a refreshed line on a terminal, else a line every five seconds."""

    def __init__(self, terminal: Terminal, *, quiet: bool) -> None:
        self._terminal = terminal
        self._quiet = quiet
        self._live: Live | None = None
        self._states: dict[str, str] = {}
        self._next = self._line_due = self._hint_due = 0.0
        self._hinted = False

    def open(self, configuration: Configuration) -> None:
        """Say what is starting."""
        self._configuration = configuration
        self._hint_due = time.monotonic() + HINT_S
        settings = configuration.settings
        if self._quiet:
            return
        if sys.stdout.isatty():
            from rich.live import Live  # noqa: PLC0415  # 30 ms and 6 MB that a service does not need

            self._live = Live(auto_refresh=False, redirect_stderr=True)
            self._terminal.do(self._live.start)
        upstream = "the built-in simulator" if settings.upstream.feed == "simulator" else settings.upstream.feed
        number = sum(connection.enabled for connection in settings.connections)
        self._say(f"mcm: {number} connections to {upstream}, as {_near(configuration.path)} says")

    def turn(self, now: float, status: Callable[[], Status]) -> None:
        """Show what is new; called many times a second, looks twice."""
        if self._quiet or now < self._next:
            return
        self._next = now + REFRESH_S
        state = status()
        for name, connection in state.connections.items():
            words = connection.state + (
                f": {connection.reason}" if connection.state in {"parked", "down", "backoff"} else ""
            )
            if self._states.get(name) != words.partition(",")[0]:
                self._states[name] = words.partition(",")[0]
                topics = f" with {connection.wanted:,} topics" if connection.state == "live" else ""
                self._say(f"{time.strftime('%H:%M:%S')}  {name:<12} {words}{topics}")
        self._refresh(now, state)
        if not self._hinted and (state.is_started or now > self._hint_due):
            self._hinted = True
            self._hint(state)

    def _refresh(self, now: float, state: Status) -> None:
        if self._live is not None:
            from rich.text import Text  # noqa: PLC0415

            text = Text(summary(state), no_wrap=True, overflow="ellipsis", style="bold")
            self._terminal.do(partial(self._live.update, text, refresh=True))
        elif now >= self._line_due:
            self._line_due = now + LINE_EVERY_S
            self._say(f"{time.strftime('%H:%M:%S')}  {summary(state)}")

    def _hint(self, state: Status) -> None:
        commands = hints(self._configuration)
        width = max(len(command) for command, _ in commands)
        self._say("Try in another terminal:")
        for command, effect in commands:
            self._say(f"  {command:<{width}}   {effect}")
        if state.simulator:
            key = self._configuration.settings.account.api_key_env
            path = _near(self._configuration.path)
            self._say(f'A real account: write feed = "real-time" into {path}, `export {key}=…`, and start again.')

    def _say(self, line: str) -> None:
        live = self._live
        if live is not None:
            self._terminal.do(lambda: live.console.print(line, markup=False, highlight=False, soft_wrap=True))
        else:
            self._terminal.say(line)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._terminal.do(self._live.stop)


def hints(configuration: Configuration) -> list[tuple[str, str]]:
    """Commands to try next, as they have to be typed in this directory, and what each does."""
    mcm, where = _command(), _option(configuration.run_dir)
    watchlist = next((one for one in configuration.settings.watchlists if one.symbols), None)
    symbol = watchlist.symbols[0] if watchlist is not None else "AAPL"
    dashboard = configuration.settings.dashboard
    has_page = dashboard.enabled and not dashboard.listen.endswith(":0")
    page = [(f"http://{dashboard.listen}/", "all of it in a browser")] if has_page else []
    return [
        (f"{mcm} tail {symbol} --count 5{where}", f"five ticks of {symbol}"),
        (f"{mcm} status{where}", "every connection, its topics and its rate"),
        *page,
        (f"{mcm} stop{where}", "ends it"),
    ]


def _command() -> str:
    """How this mcm is called from the current directory."""
    ours = Path(sys.executable).with_name("mcm")
    found = shutil.which("mcm")
    return "mcm" if found is not None and Path(found).resolve() == ours.resolve() else _near(ours)


def _option(run_dir: Path) -> str:
    """The option that another terminal in this directory needs to find *run_dir*."""
    default = Path(os.environ.get("MCM_RUN_DIR") or ".mcm").absolute()
    return "" if run_dir == default else f" --run-dir {_near(run_dir)}"


def _near(path: Path) -> str:
    """*path* as it is shortest from here."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
