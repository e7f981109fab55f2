"""The drop-in classes in programs of all kinds: scripts, event loops, threads, forks; and beside a running mcm."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcm import MassiveWebSocketClient, MultiConnectionManager, locks
from mcm.client import Control
from mcm.core.errors import McmError
from mcm.core.status import Status
from mcm.simulator.launch import Simulator, launch
from tests.faces.compat_stack import Heard, Place, config_for, sent
from tests.processes.stack import wait_until

PROGRAM = """
import json, os, signal, sys, threading, time
from mcm import MassiveWebSocketClient, MultiConnectionManager

config = json.loads({config!r})
enough = threading.Event()
ticks = []

def on_tick(tick):
    ticks.append(tick)
    if len(ticks) > 20:
        enough.set()

{body}
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place = Place(monkeypatch)
    yield place
    place.end()


@pytest.fixture
def vendor() -> Iterator[Simulator]:
    with launch("--ticks-per-s", "300") as simulator:  # before the place, so that it does not have its mark
        yield simulator


def program(vendor: Simulator, body: str) -> str:
    return PROGRAM.format(config=json.dumps(config_for(vendor, "AAPL", "NVDA")), body=body)


def wait_gone(place: Place, within_s: float) -> None:
    wait_until(lambda: not place.processes(), because="nothing of it is left", within_s=within_s)


def test_a_plain_script_ends_by_itself_and_leaves_nothing(vendor: Simulator, place: Place) -> None:
    body = """
manager = MultiConnectionManager(config, on_tick, None)
assert manager.connect()
assert enough.wait(20)
print(len(manager.connections), flush=True)
"""
    with place.script(program(vendor, body)) as script:
        assert script.stdout is not None
        assert script.stderr is not None
        assert script.stdout.readline() == "2\n"
        before = time.monotonic()

        assert script.wait(10) == 0

        assert time.monotonic() - before < 5
        assert script.stderr.read() == ""
    wait_gone(place, 1)
    assert place.run_dirs() == []


def is_free(lock: Path) -> bool:
    held = locks.acquire(lock)
    if isinstance(held, locks.Held):
        held.release()
    return isinstance(held, locks.Held)


def test_nothing_is_left_of_a_program_that_is_killed_and_the_next_one_tidies_up(
    vendor: Simulator, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
def connect():  # in a thread that ends: what it has started must not end with it
    assert manager.connect()

manager = MultiConnectionManager(config, on_tick, None)
thread = threading.Thread(target=connect)
thread.start()
thread.join()
ticks.clear()
enough.clear()
assert enough.wait(20)
print("ready", flush=True)
time.sleep(60)
"""
    with place.script(program(vendor, body)) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "ready\n"
        assert len(place.processes()) >= 5

        script.send_signal(signal.SIGKILL)

        wait_gone(place, 3)
    (left,) = place.run_dirs()
    # A process that is killed is seen to be gone a moment before the kernel lets go of its locks.
    wait_until(lambda: locks.holder(left / "run") is None and is_free(left / "owner"), because="its locks are free")
    monkeypatch.setattr("mcm.compat.spawning.FRESH_S", 0.0)
    with MassiveWebSocketClient("a-key", config={"MASSIVE_WEBSOCKET_URL": vendor.url("stocks")}) as client:
        assert client.is_connected()
        assert not left.exists()
        assert len(place.run_dirs()) == 1


def test_it_works_inside_a_running_event_loop_and_from_several_threads(vendor: Simulator, place: Place) -> None:
    body = """
import asyncio
from concurrent.futures import ThreadPoolExecutor

async def main():
    loop, heard = asyncio.get_running_loop(), asyncio.Queue()
    on_tick = lambda tick: loop.call_soon_threadsafe(heard.put_nowait, tick)
    with MultiConnectionManager(config, on_tick, None) as manager:
        tickers = {(await heard.get()).ticker for _ in range(50)}
        symbols = [f"S{n:02}" for n in range(24)]
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(manager.subscribe_ticker, symbols))
            assert len([name for name in pool.map(manager.get_ticker_assignment, symbols) if name]) == 24
            assert all(pool.map(manager.unsubscribe_ticker, symbols[:12]))
        assert manager.get_subscribed_tickers() == {"AAPL", "NVDA", *symbols[12:]}
        while not set(symbols[12:]) <= tickers:
            tickers.add((await heard.get()).ticker)
    print(sorted(tickers)[:2], flush=True)

asyncio.run(asyncio.wait_for(main(), 40))
"""
    with place.script(program(vendor, body)) as script:
        output, complaints = script.communicate(timeout=50)

    assert (script.returncode, complaints) == (0, "")
    assert output == "['AAPL', 'NVDA']\n"
    wait_gone(place, 1)


def test_an_mcm_that_is_killed_is_started_again_with_all_that_is_wanted(vendor: Simulator, place: Place) -> None:
    heard = Heard()
    with MultiConnectionManager(config_for(vendor, "AAPL"), heard.on_tick, heard.on_status) as manager:
        assert manager.subscribe(["NVDA"])
        (pid,) = [pid for pid, command in place.processes().items() if "mcm.compat.child" in command]

        os.kill(pid, signal.SIGKILL)

        wait_until(lambda: heard.of("connection_1")[-1] == "error", because="the program is told")
        wait_until(lambda: heard.of("connection_1")[-1] == "connected", because="it is started again")
        heard.ticks.clear()
        wait_until(lambda: heard.tickers() == {"AAPL", "NVDA"}, because="both tick")
    wait_gone(place, 1)


def test_a_fork_is_refused_and_may_make_its_own(vendor: Simulator, place: Place) -> None:
    body = """
from mcm.core.errors import McmError

manager = MultiConnectionManager(config, on_tick, None)
assert manager.connect()
read, write = os.pipe()
if os.fork() == 0:
    told = []
    for ask in (manager.connect, manager.disconnect, manager.get_health_status, lambda: manager.subscribe(["F"])):
        try:
            ask()
        except McmError as error:
            told.append(str(error))
    own = MassiveWebSocketClient(config=config)
    with own:
        told.append(own.is_connected())
    os.write(write, json.dumps(told).encode())
    sys.exit(0)
os.close(write)
told = os.read(read, 10_000).decode()
assert os.wait()[1] == 0
ticks.clear()
enough.clear()
assert enough.wait(20), "the parent goes on"
print(told, os.getpid(), flush=True)
"""
    with place.script(program(vendor, body)) as script:
        output, complaints = script.communicate(timeout=50)

    assert (script.returncode, complaints) == (0, "")
    told = json.loads(output[: output.rindex("]") + 1])
    assert told[4] is True
    assert len(set(told[:4])) == 1
    assert f"belongs to process {script.pid}, and this is a fork of it" in told[0]
    wait_gone(place, 1)


# --- beside a running mcm --------------------------------------------------------------------------------------------

FILE = """
[upstream]
feed = "ws://127.0.0.1:{simulator.port}"
rest_url = "{simulator.rest_url}"
[dashboard]
enabled = false
[gateway]
enabled = false
[[connections]]
name = "alpha"
[[connections]]
name = "beta"
[[watchlists]]
name = "all"
channels = ["T"]
symbols = ["AAPL", "MSFT"]
connection = "alpha"
"""


@pytest.fixture
def run_dir(vendor: Simulator, place: Place) -> Iterator[Path]:
    """Of an mcm that runs for everybody."""
    config, run_dir = place.folder / "config.toml", place.folder / "run"
    config.write_text(FILE.format(simulator=vendor))
    command = [sys.executable, "-P", "-m", "mcm.supervisor", "--quiet", "--config", str(config)]
    with subprocess.Popen([*command, "--run-dir", str(run_dir)], env=os.environ | {"MASSIVE_API_KEY": "k"}) as process:
        wait_until(lambda: is_started(run_dir), because="mcm runs")
        yield run_dir
        process.terminate()
        assert process.wait(10) == 0


def is_started(run_dir: Path) -> bool:
    with contextlib.suppress(McmError):
        return (run_dir / "control").exists() and status(run_dir).is_started
    return False


def status(run_dir: Path) -> Status:
    with Control(run_dir) as control:
        return control.status()


def attached(run_dir: Path, **more: Any) -> tuple[MultiConnectionManager, Heard]:
    heard = Heard()
    config = {"MCM_RUN_DIR": str(run_dir), "WEBSOCKET_CHANNELS": "T", "WEBSOCKET_CONNECTION_1_SYMBOLS": "AAPL"}
    return MultiConnectionManager(config | more, heard.on_tick, heard.on_status), heard


def test_attached_it_asks_only_for_what_is_missing_and_lets_go_of_it(vendor: Simulator, run_dir: Path) -> None:
    manager, heard = attached(run_dir)
    pid = status(run_dir).pid
    with manager:
        assert manager.is_connected()
        assert {name: info.name for name, info in manager.connections.items()} == {
            "connection_1": "alpha",
            "connection_2": "beta",
        }
        wait_until(lambda: heard.tickers() == {"AAPL"}, because="what is carried already ticks")
        assert manager.get_ticker_assignment("AAPL") == "connection_1"
        assert manager.get_ticker_assignment("MSFT") is None, "it is somebody else's"

        assert manager.subscribe(["NVDA", "AAPL"])
        owner = manager.get_ticker_assignment("NVDA")
        assert owner is not None
        wait_until(lambda: heard.tickers() == {"AAPL", "NVDA"}, because="what was missing ticks")
        other = {"connection_1": "connection_2", "connection_2": "connection_1"}[owner]
        assert manager.subscribe_ticker("NVDA", other)
        assert manager.get_ticker_assignment("NVDA") == other
        vendor.remote.pause()
        expected = sent(vendor, "NVDA")
        wait_until(lambda: heard.trades("NVDA")[-1:] == expected[-1:], because="everything is heard")
        assert heard.trades("NVDA") == expected[-len(heard.trades("NVDA")) :]
        vendor.remote.resume()
        assert manager.unsubscribe(["AAPL", "NVDA"])
        assert manager.get_subscribed_tickers() == set()

    now = status(run_dir)
    assert (now.pid, now.leases) == (pid, {})
    assert sum(line.wanted for line in now.connections.values()) == 2
    assert heard.of("connection_1") == heard.of("connection_2") == ["connected", "disconnected"]
    absent, _ = attached(run_dir.parent / "nothing")
    assert not absent.connect()


def test_what_was_fetched_later_reaches_only_who_asks_for_it(vendor: Simulator, run_dir: Path) -> None:
    (plain, live), (asking, everything) = attached(run_dir), attached(run_dir, MCM_BACKFILLED=True)
    with plain, asking:
        wait_until(lambda: bool(live.ticks and everything.ticks), because="both read")
        vendor.remote.refuse_upgrades()
        vendor.remote.drop(mode="abort")
        before = vendor.remote.report().topics["stocks.T.AAPL"].count
        wait_until(lambda: vendor.remote.report().topics["stocks.T.AAPL"].count > before + 20, because="it ticks")
        vendor.remote.accept_upgrades()

        wait_until(lambda: len(everything.ticks) > len(live.ticks) + 15, because="the gap is repaired", within_s=60)

        times = [at for _, _, at in live.trades("AAPL")]
        assert times == sorted(times)
        begun = everything.ticks[0].timestamp  # they have not begun at the same moment
        both = {trade for trade in live.trades("AAPL") if trade[2] > begun}
        wait_until(lambda: both < set(everything.trades("AAPL")), because="who asks for it has the rest as well")
