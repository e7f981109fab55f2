"""`mcm top` on a terminal of its own."""

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from mcm.simulator.launch import Simulator
from tests.processes.stack import Mcm, wait_until

CONTROL_C = b"\x03"
SHOW_SCREEN, LEAVE_SCREEN, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


class Window:
    """`mcm top` in a pseudo-terminal."""

    def __init__(self, mcm: Mcm, width: int, height: int) -> None:
        self._ours, self._theirs = os.openpty()
        self.resize(width, height)
        self._before = termios.tcgetattr(self._theirs)
        environment = mcm.environment | {"TERM": "xterm"}
        del environment["COLUMNS"]
        command = [sys.executable, "-P", "-m", "mcm", "top", "--run-dir", str(mcm.run_dir)]
        owner = "import os, sys; os.login_tty(os.dup(0)); os.execv(sys.argv[1], sys.argv[1:])"  # for Ctrl-C
        self.process = subprocess.Popen([sys.executable, "-c", owner, *command], env=environment, stdin=self._theirs)
        self.written = ""

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def shows(self, pattern: str) -> bool:
        """Whether the newest picture has it."""
        while select.select([self._ours], [], [], 0)[0]:
            self.written += os.read(self._ours, 65_536).decode(errors="replace")
        newest = re.split(r"\x1b\[H", self.written)[-1]
        return re.search(pattern, re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", newest)) is not None

    def ended(self) -> int:
        """The exit status; the terminal must be as it was."""
        wait_until(lambda: self.process.poll() is not None or self.shows("^$"), because="it ends")
        status = self.process.wait(timeout=10)
        self.shows("")
        assert termios.tcgetattr(self._theirs) == self._before
        assert self.written.index(SHOW_SCREEN) < self.written.rindex(LEAVE_SCREEN)
        assert SHOW_CURSOR in self.written
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@contextlib.contextmanager
def window(mcm: Mcm, width: int = 80, height: int = 24) -> Iterator[Window]:
    one = Window(mcm, width, height)
    try:
        yield one
    finally:
        one.close()


def test_it_shows_what_goes_on_until_a_key_or_a_signal_ends_it_and_leaves_the_terminal_as_it_was(
    three_lines: tuple[Simulator, Mcm],
) -> None:
    simulator, mcm = three_lines
    with window(mcm) as one:
        wait_until(lambda: one.shows(r"ready  3 of 3 live[^\n]+ticks/s"), because="it runs")
        wait_until(lambda: one.shows(r"primary +live +stocks +4/4 +[1-9]"), because="the line ticks")
        assert one.shows(r"ledger  received [\d,]+ = published")

        simulator.remote.refuse_upgrades()
        simulator.remote.drop()
        wait_until(lambda: one.shows(r"degraded  [012] of 3 live"), because="the lines are down")
        wait_until(lambda: one.shows(r"nobody receives \d+ topics"), because="that is a gap")
        simulator.remote.accept_upgrades()
        wait_until(lambda: one.shows(r"ready  3 of 3 live"), because="they are back")

        one.resize(160, 50)
        one.press(b"x")
        wait_until(lambda: one.shows(r"pid \d+ {40,}\d\d:\d\d:\d\d"), because="it takes the whole width")
        one.press(b"q")
        assert one.ended() == 0

    with window(mcm) as other, window(mcm) as third:
        wait_until(lambda: other.shows("3 of 3 live"), because="it runs")
        wait_until(lambda: third.shows("3 of 3 live"), because="it runs")
        other.press(CONTROL_C)
        assert other.ended() == 0
        third.process.send_signal(signal.SIGTERM)
        assert third.ended() == 128 + signal.SIGTERM

    with window(mcm) as last:
        wait_until(lambda: last.shows("3 of 3 live"), because="it runs")
        assert mcm.cli("stop").returncode == 0
        wait_until(lambda: last.shows("mcm has stopped; waiting for it"), because="it says so")
        mcm.cli("start", "--detach", "--config", str(mcm.config))
        wait_until(lambda: last.shows("ready  3 of 3 live"), because="it has waited for it")
        last.press(b"q")
        assert last.ended() == 0


def test_where_nothing_runs_it_says_so_and_does_not_touch_the_terminal(mcm: Mcm) -> None:
    with window(mcm) as one:
        assert one.process.wait(timeout=20) == 5
        assert one.shows("no mcm answers on ")
        assert SHOW_SCREEN not in one.written


@pytest.mark.parametrize("terminal", ["pipe", "dumb"])
def test_without_a_terminal_it_names_the_command_to_take(mcm: Mcm, terminal: str) -> None:
    if terminal == "pipe":
        said = mcm.cli("top")
        status, text = said.returncode, said.stderr
    else:
        ours, theirs = os.openpty()
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "mcm", "top", "--run-dir", str(mcm.run_dir)],
            env=mcm.environment | {"TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            text = process.communicate(timeout=20)[1]
            status = process.returncode
        os.close(ours)
        os.close(theirs)

    assert status == 2
    assert text.startswith("mcm: `mcm top` needs a terminal; `mcm status` prints the same once")
