"""mcm as a service: what it tells systemd, and its logs for whatever collects them."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcm.systemd import Notifier
from tests.processes.stack import THREE_LINES, Mcm, somewhere, wait_until

BUILT_IN = THREE_LINES.format(feed="simulator")
UNIT = Path(__file__).parents[2] / "scripts" / "examples" / "mcm.service"
WATCHDOG_S = 0.4


class Systemd:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0.02)
        self.told: list[str] = []

    def hears(self, assignment: str) -> bool:
        """Whether this was told, so far; reads what has come."""
        with contextlib.suppress(TimeoutError):
            while True:
                self.told.append(self._socket.recv(65_536).decode())
        return any(re.fullmatch(assignment, one) for one in self.told)

    def silent_for(self, seconds: float) -> bool:
        """Whether nothing comes for so long, after what waits already was taken."""
        self.hears("")
        self._socket.settimeout(seconds)
        try:
            self.told.append(self._socket.recv(65_536).decode())
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(0.02)
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    """Listens at a path, and at a name without one."""
    is_file = request.param == "file"
    receiver = Systemd(str(tmp_path / "notify") if is_file else f"@mcm-test-{uuid.uuid4().hex}")
    yield receiver
    receiver.close()


@pytest.fixture
def folder() -> Iterator[Mcm]:
    with somewhere() as place:
        place.config.write_text(BUILT_IN)
        yield place


@contextlib.contextmanager
def service(mcm: Mcm, *options: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """``mcm start --quiet`` as systemd would run it, without a terminal."""
    command = ["start", "--quiet", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir), *options]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "mcm", *command],
        env=mcm.environment | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("systemd", ["abstract"], indirect=True)  # the other kind is tried below, without processes
def test_systemd_is_told_everything_from_ready_to_stopping_and_the_watchdog_only_while_the_loop_turns(
    systemd: Systemd, folder: Mcm
) -> None:
    watchdog = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
    with service(folder, **watchdog) as process:
        wait_until(lambda: systemd.hears("READY=1"), because="every line is live")
        wait_until(lambda: systemd.hears("STATUS=.*3 of 3 connections live.*"), because="it says how it is")
        assert systemd.hears("WATCHDOG=1")
        assert all("NOTIFY_SOCKET" not in environment for environment in _environments(folder, process.pid))

        folder.config.unlink()
        os.mkfifo(folder.config)  # reading it, the loop waits for a writer; the process and its threads go on
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: systemd.hears(r"RELOADING=1\nMONOTONIC_USEC=\d+"), because="SIGHUP reloads")
        wait_until(lambda: systemd.silent_for(3 * WATCHDOG_S), because="a loop that hangs says nothing")
        systemd.told.clear()
        folder.config.write_text(BUILT_IN)
        wait_until(lambda: systemd.hears("READY=1"), because="it has reloaded")
        wait_until(lambda: systemd.hears("WATCHDOG=1"), because="it turns again")

        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert systemd.hears("STOPPING=1")


def _environments(mcm: Mcm, supervisor: int) -> list[str]:
    pids = [pid for pid in mcm.processes() if pid != supervisor]
    assert len(pids) >= 5
    return [Path(f"/proc/{pid}/environ").read_text(errors="replace") for pid in pids]


def test_before_it_is_ready_a_reload_does_not_claim_that_it_is(systemd: Systemd) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.address})

    with notifier.reloading():
        pass

    assert systemd.silent_for(0.05)


def test_words_of_an_upstream_cannot_give_orders_to_systemd(systemd: Systemd) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.address})

    notifier.turn(0.0, lambda: "down: bad key\nSTOPPING=1")

    assert systemd.hears("STATUS=down: bad key STOPPING=1")


def test_a_watchdog_for_another_process_is_not_fed(systemd: Systemd) -> None:
    variables = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1000"}

    Notifier(variables | {"WATCHDOG_PID": "1"}).turn(0.0, lambda: "")
    assert not systemd.hears("WATCHDOG=1")
    Notifier(variables | {"WATCHDOG_PID": str(os.getpid())}).turn(0.0, lambda: "")
    assert systemd.hears("WATCHDOG=1")


def test_every_line_of_every_log_is_one_object(folder: Mcm) -> None:
    folder.config.write_text(BUILT_IN.replace("[gateway]\nenabled = false", '[gateway]\nlisten = "127.0.0.1:0"'))
    with service(folder, "--log-format", "json") as process:
        folder.wait_ready()
        folder.kill(folder.status().connections["primary"].pid)
        folder.wait(lambda status: status.connections["primary"].restarts == 1, because="it was killed")
        folder.wait_ready()
        os.kill(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=20)[1]

    texts = [said, *(path.read_text() for path in folder.run_dir.glob("logs/*.log"))]
    records = [json.loads(line) for text in texts for line in text.splitlines()]
    assert all({"time", "level", "logger", "process", "pid", "message"} <= record.keys() for record in records)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", record["time"]) for record in records)
    assert {record["process"] for record in records} >= {"supervisor", "primary", "secondary", "simulator"}
    assert any("primary: ended by signal SIGKILL" in json.loads(line)["message"] for line in said.splitlines())


def test_a_mistake_in_an_option_is_named(folder: Mcm) -> None:
    said = folder.cli("start", "--log-format", "jsn")
    unknown = folder.cli("start", "--log-fromat", "json")

    assert said.returncode == unknown.returncode == 2
    assert "'text', 'json'" in said.stderr
    assert "--log-format" in unknown.stderr
    assert folder.processes() == {}


def test_the_unit_starts_mcm_with_options_that_exist_and_waits_for_what_it_says() -> None:
    unit = UNIT.read_text()
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))

    assert settings["Type"] == "notify"
    assert int(settings["WatchdogSec"]) >= 10
    assert settings["RestartPreventExitStatus"] == "2 3"
    options = re.findall(r"--[a-z-]+", settings["ExecStart"])
    shown = subprocess.run(
        [sys.executable, "-m", "mcm", "start", "--help"], check=True, capture_output=True, text=True
    ).stdout
    assert all(option in shown for option in options)
