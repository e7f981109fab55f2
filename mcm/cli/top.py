"""``mcm top``: keeps showing the essentials.  What it shows is laid out in core.top; this owns the terminal."""

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from mcm import locks
from mcm.cli.options import places, run_dir_of
from mcm.client import Control
from mcm.core.errors import McmError, NotRunning, UsageError
from mcm.core.top import View, picture

__all__ = ["top"]

REFRESH_S = 0.5


@click.command()
@places
def top(config: Path | None, run_dir: Path | None) -> None:
    """Watch it in the terminal.

    Every connection, the router, the ledger and open gaps, twice a second; q or Ctrl-C ends it.  When mcm stops, it
    waits until mcm runs again.
    """
    place = run_dir_of(config, run_dir)
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") in {"dumb", "unknown"}:
        raise UsageError("`mcm top` needs a terminal", "`mcm status` prints the same once, --json for programs")
    watch = _Watch(place)
    with contextlib.suppress(KeyboardInterrupt), _keys():
        _show(watch)


def _show(watch: "_Watch") -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    watch.start()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            width, height = console.size
            lines = [
                Text.assemble(*line, no_wrap=True, overflow="ellipsis")
                for line in picture(watch.view, width, height)
            ]  # fmt: skip
            live.update(Group(*lines), refresh=True)
            if _pressed(REFRESH_S) in {b"q", b"Q", b""}:
                return
            if watch.failure is not None:
                raise watch.failure


class _Watch(threading.Thread):
    """Asks twice a second.  A thread, so that a supervisor that does not answer leaves the keys alive.

    Raises NotRunning where nothing runs to begin with.

    Attributes:
        view: the newest there is.
        failure: a bug that has ended it.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__(daemon=True, name="watch")
        self._run_dir = run_dir
        self._control: Control | None = None
        self.failure: Exception | None = None
        self.view = self._look()

    def run(self) -> None:
        """Look until the process ends."""
        while True:
            time.sleep(REFRESH_S)  # what is shown is as old as this anyway
            try:
                self.view = self._look()
            except (McmError, msgspec.MsgspecError) as error:
                self._let_go()
                self.view = View(self.view.status, self.view.gaps, time.time_ns(), self._in_words(error))
            except Exception as error:  # noqa: BLE001  # the outermost loop of this thread: the other one raises it
                self.failure = error
                return

    def _look(self) -> View:
        if locks.holder(self._run_dir) is None:  # at once, where asking would wait for an answer
            raise NotRunning(self._run_dir, "nothing runs there")
        if self._control is None:
            self._control = Control(self._run_dir)
        status = self._control.status()
        gaps = self._control.ask("gaps", answer=dict[str, list[dict[str, Any]]])["open"] if status.gaps else []
        return View(status, gaps, time.time_ns())

    def _let_go(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def _in_words(self, error: Exception) -> str:
        if not isinstance(error, McmError):
            return "the mcm that runs now is of another version; end this and start it again"
        holder = locks.holder(self._run_dir)
        return "mcm has stopped" if holder is None else f"mcm ({holder}) does not answer"


# --- the terminal


@contextlib.contextmanager
def _keys() -> Iterator[None]:
    """Read keys as they are pressed; whatever ends the block, the terminal is as it was before."""
    before = termios.tcgetattr(sys.stdin)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell's background jobs ignore it
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # a shell that comes back to half a picture
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed(within_s: float) -> bytes | None:
    """A key, or None when none came in time; nothing at all (``b""``) when the terminal is gone."""
    if not select.select([sys.stdin], [], [], within_s)[0]:
        return None
    return os.read(sys.stdin.fileno(), 1)
