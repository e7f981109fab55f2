"""Starting, stopping, being killed, and saying clearly why something is not possible."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from mcm import locks
from mcm.simulator.launch import Simulator
from tests.processes.stack import THREE_LINES, Mcm, Start, wait_until

BUILT_IN = THREE_LINES.format(feed="simulator")


def test_a_second_start_on_one_run_directory_is_refused_and_the_first_goes_on(start: Start) -> None:
    mcm = start(BUILT_IN)
    pid = mcm.status().pid

    began = time.monotonic()
    second = mcm.cli("start", "--config", str(mcm.config))

    assert second.returncode == 3
    assert f"another mcm is running on {mcm.run_dir} (pid {pid}, since " in second.stderr
    assert time.monotonic() - began < 5
    assert mcm.status().pid == pid
    mcm.wait_ready()


def test_a_second_mcm_with_the_same_key_does_not_evict_the_lines_of_the_first(
    three_lines: tuple[Simulator, Mcm],
) -> None:
    simulator, mcm = three_lines
    second = mcm.run_dir.with_name("second")

    try:
        mcm.command("start", "--detach", "--config", str(mcm.config), "--run-dir", str(second))
        shown = mcm.command("status", "--run-dir", str(second)).stdout
    finally:
        mcm.command("stop", "--run-dir", str(second))

    assert "another mcm uses this account (pid " in shown
    assert "0 of 3" in shown or "parked" in shown
    assert [one.ending for one in simulator.remote.report().connections] == ["", "", ""]


@pytest.mark.parametrize("command", [["status"], ["stop"], ["tail", "AAPL"], ["restart", "primary"]])
def test_where_nothing_runs_every_command_says_so(mcm: Mcm, command: list[str]) -> None:
    said = mcm.command(*command, "--run-dir", str(mcm.run_dir))

    assert said.returncode == 5
    assert said.stdout == ""
    assert said.stderr.startswith(
        f"mcm: no mcm answers on {mcm.run_dir} (nothing runs there); start it with `mcm start`"
    )
    assert len(said.stderr.splitlines()) == 1


def test_a_taken_simulator_port_is_a_message_and_not_a_crash_loop(mcm: Mcm) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        mcm.config.write_text(f"{BUILT_IN}[simulator]\nport = {port}\n")

        said = mcm.cli("start", "--config", str(mcm.config), "--quiet")

    assert said.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in said.stderr
    assert "Traceback" not in said.stderr
    assert mcm.processes() == {}


def test_a_taken_publish_endpoint_is_a_message_and_not_a_crash_loop(mcm: Mcm) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        mcm.config.write_text(f'{BUILT_IN}[publish]\nendpoints = ["tcp://127.0.0.1:{port}"]\n')

        said = mcm.cli("start", "--config", str(mcm.config), "--quiet")

    assert said.returncode == 2
    assert f"cannot publish on tcp://127.0.0.1:{port}: Address already in use" in said.stderr
    assert mcm.processes() == {}


def test_a_run_directory_that_cannot_be_made_is_a_message(mcm: Mcm) -> None:
    mcm.config.write_text(BUILT_IN)
    (mcm.folder / "file").write_text("in the way")

    said = mcm.command("start", "--config", str(mcm.config), "--run-dir", str(mcm.folder / "file" / "run"))

    assert said.returncode == 2
    assert "cannot be used: Not a directory; choose another one with --run-dir" in said.stderr
    assert len(said.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ('[routing]\nstratgy = "manual"', "did you mean"),
        ("[account\n", "line 1, column"),
        ('[[connections]]\nname = "Primary"', "connections[0].name"),
        ('[routing]\nstrategy = "hashed"', "did you mean"),
        ('[upstream]\nfeed = "real-time"\n[[connections]]\nname = "a"', "MASSIVE_API_KEY"),
    ],
)
def test_a_mistake_in_the_configuration_is_named_before_anything_starts(mcm: Mcm, mistake: str, told: str) -> None:
    mcm.config.write_text(mistake)

    checked = mcm.command("check", "--config", str(mcm.config))
    started = mcm.cli("start", "--config", str(mcm.config))

    assert (checked.returncode, started.returncode) == (2, 2)
    assert told in checked.stderr, checked.stderr
    assert checked.stderr == started.stderr
    assert "Traceback" not in checked.stderr
    assert not mcm.run_dir.exists()


def test_check_shows_which_connection_would_carry_what(mcm: Mcm) -> None:
    mcm.config.write_text(BUILT_IN)

    said = mcm.command("check", "--config", str(mcm.config))

    assert said.returncode == 0
    assert "primary      stocks: 4 topics (2 Q, 2 T) of AAPL, MSFT" in said.stdout
    assert mcm.processes() == {}


def test_killing_the_supervisor_leaves_no_process_and_it_can_be_started_again_at_once(start: Start) -> None:
    mcm = start(BUILT_IN)
    before = mcm.processes()
    assert len(before) >= 6

    os.kill(mcm.status().pid, signal.SIGKILL)
    wait_until(lambda: not mcm.processes(), because="the children die with their supervisor", within_s=1.0)

    mcm = start(BUILT_IN)
    mcm.wait_ready()


def test_a_stopped_worker_dies_with_its_supervisor_as_well(start: Start) -> None:
    mcm = start(BUILT_IN)
    status = mcm.status()
    worker = status.connections["primary"].pid
    assert worker is not None

    os.kill(worker, signal.SIGSTOP)
    os.kill(status.pid, signal.SIGKILL)

    wait_until(lambda: not mcm.processes(), because="a stopped child dies as well", within_s=1.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything_in_order_within_five_seconds(mcm: Mcm, number: signal.Signals) -> None:
    mcm.config.write_text(BUILT_IN)

    with mcm.popen("start", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir)) as running:
        mcm.wait_ready()
        running.send_signal(number)
        running.communicate(timeout=5)

    assert running.returncode == 0
    assert mcm.processes() == {}
    assert locks.holder(mcm.run_dir) is None
    assert "stopped (exit status 0)" in mcm.log("supervisor")
    assert "killing it" not in mcm.log("supervisor")


def test_a_signal_during_the_start_stops_as_well(mcm: Mcm) -> None:
    mcm.config.write_text(BUILT_IN)

    with mcm.popen("start", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir)) as running:
        wait_until(lambda: len(mcm.processes()) > 3, because="children are being started")
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=5)

    assert running.returncode == 0
    assert mcm.processes() == {}


def test_a_second_signal_kills_everything_at_once(mcm: Mcm) -> None:
    mcm.config.write_text(BUILT_IN)

    with mcm.popen("start", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir)) as running:
        worker = mcm.wait_ready().connections["primary"].pid
        assert worker is not None
        os.kill(worker, signal.SIGSTOP)  # would cost the first signal two seconds of patience
        running.send_signal(signal.SIGINT)
        wait_until(lambda: mcm.log("supervisor").count("stopping") >= 2, because="it has heard the first")
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=1.5)

    assert mcm.processes() == {}


def test_a_router_that_cannot_live_ends_the_tree_with_status_4(start: Start) -> None:
    mcm = start(BUILT_IN)
    supervisor = mcm.status().pid

    def kill_the_router() -> bool:
        for pid, line in mcm.processes().items():
            if "workers.router" in line:
                os.kill(pid, signal.SIGKILL)
        return supervisor not in mcm.processes()

    wait_until(kill_the_router, because="ten crashes in five minutes are enough", within_s=60)

    assert "router cannot live (10 crashes in 300 s); stopping" in mcm.log("supervisor")
    assert mcm.processes() == {}


def test_the_key_shows_up_nowhere(mcm: Mcm, start: Start) -> None:
    secret = "sk-0123456789-very-secret"  # it is none
    mcm.environment["MASSIVE_API_KEY"] = secret
    start(BUILT_IN.replace('feed = "simulator"', 'feed = "simulator"\n[simulator]\nseed = 2\n'))
    mcm.wait_ready()

    worker = mcm.status().connections["primary"].pid
    written = mcm.logs() + mcm.cli("status", "--json").stdout + "".join(mcm.processes().values())
    with open(f"/proc/{worker}/environ", "rb") as environment:
        assert secret.encode() not in environment.read()
    assert secret not in written


def test_a_terminal_that_stands_still_stops_nothing(vendor: Callable[..., Simulator], mcm: Mcm) -> None:
    """F40: Ctrl-S, or a pipe that nobody reads: the summary waits, the supervisor does not."""
    mcm.config.write_text(THREE_LINES.format(feed=f"ws://127.0.0.1:{vendor().port}"))
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b"x"):
            pass
    os.set_blocking(writing, True)
    command = [sys.executable, "-P", "-m", "mcm", "start", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir)]

    with subprocess.Popen(command, env=mcm.environment, stdout=writing, stderr=writing) as started:
        os.close(writing)
        victim = mcm.wait_ready().connections["primary"].pid
        mcm.kill(victim)
        mcm.wait(
            lambda status: status.connections["primary"].pid not in {None, victim} and status.state == "ready",
            because="it still supervises",
        )
        started.terminate()
        assert started.wait(timeout=5) == 0

    os.close(reading)
    assert mcm.processes() == {}
