"""The simulator as a process: alone, and as a child of a supervisor."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from mcm.core import control
from mcm.core.exits import Exit
from mcm.runtime import PARENT_VARIABLE, Channel
from mcm.simulator.launch import Simulator, launch
from mcm.simulator.remote import Remote

DEADLINE_S = 10.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_0_when_asked_even_with_clients_connected(simulator: Simulator, number: int) -> None:
    with socket.create_connection(("127.0.0.1", simulator.port)):
        simulator.process.send_signal(number)

        assert simulator.process.wait(DEADLINE_S) == Exit.OK


@pytest.mark.parametrize("option", ["--port", "--orders-port"])
def test_a_port_in_use_is_one_clear_line_and_2(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "mcm.simulator", option, str(port)],
            capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip

    assert ended.returncode == Exit.USAGE
    assert ended.stderr == f"simulator: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert ended.stdout == ""


@pytest.mark.parametrize(
    "options", [("--max-events-per-frame", "5000"), ("--cap", "-1"), ("--port", "99999"), ("--ticks-per-s", "many")]
)
def test_a_setting_out_of_range_is_refused_before_anything_starts(
    options: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="ended with 2"), launch(*options):
        pass

    assert options[0].lstrip("-").split("-")[0] in capfd.readouterr().err


class Parent:
    """Stands in for the supervisor: the other end of the channel, and the child."""

    def __init__(self, settings: control.SimulatorSettings) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(ours, control.decode_up)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mcm.simulator"],
                stdin=theirs.fileno(),
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
            )
        self.channel.send(settings)

    def hear(self) -> list[control.Up]:
        """The next records, or nothing when the child has ended."""
        ready, _, _ = select.select([self.channel], [], [], DEADLINE_S)
        assert ready, f"the child says something within {DEADLINE_S} s"
        return self.channel.receive()


@pytest.fixture
def parents() -> Iterator[Callable[..., Parent]]:
    started: list[Parent] = []

    def start(port: int = 0) -> Parent:
        started.append(Parent(control.SimulatorSettings(seed=1, ticks_per_s=100, port=port, cap=2)))
        return started[-1]

    yield start
    for parent in started:
        parent.process.kill()
        parent.process.communicate()
        parent.channel.close()


def test_a_child_says_ready_with_its_ports_and_beats_once_a_second(parents: Callable[..., Parent]) -> None:
    parent = parents()

    heard = parent.hear()
    assert isinstance(heard[0], control.Ready)
    assert Remote(heard[0].orders_port).report().cap == 2
    started, beats = time.monotonic(), len(heard) - 1
    while beats < 3:
        beats += sum(isinstance(record, control.SimulatorReport) for record in parent.hear())

    assert 1.0 < time.monotonic() - started < 5.0


def test_a_child_stops_when_told_to(parents: Callable[..., Parent]) -> None:
    parent = parents()
    parent.hear()

    parent.channel.send(control.Stop())

    assert parent.process.wait(DEADLINE_S) == Exit.OK


def test_a_child_stops_when_its_channel_closes(parents: Callable[..., Parent]) -> None:
    parent = parents()
    parent.hear()

    parent.channel.close()

    assert parent.process.wait(DEADLINE_S) == Exit.OK


def test_a_child_whose_port_is_taken_says_so_and_ends_with_2(parents: Callable[..., Parent]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        parent = parents(port)

        assert parent.hear() == [control.Failed(f"cannot listen on 127.0.0.1:{port}: Address already in use")]
        _, log = parent.process.communicate(timeout=DEADLINE_S)

    assert parent.process.returncode == Exit.USAGE
    assert log.count("\n") == 1
    assert "ERROR" in log
    assert str(port) in log
