"""The whole of mcm as real processes, with the simulator as the vendor; whatever a test starts ends with it."""

import contextlib
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest
from xprocess import ProcessStarter, XProcess

from mcm.simulator.launch import Simulator, launch
from tests.processes.judge import Collector
from tests.processes.stack import NO_FACES, THREE_LINES, Mcm, Start, somewhere


@pytest.fixture
def mcm() -> Iterator[Mcm]:
    """A folder with room for a configuration and a run directory; nothing runs yet."""
    with somewhere() as place:
        yield place


@pytest.fixture
def start(mcm: Mcm, xprocess: XProcess) -> Iterator[Start]:
    """Writes a configuration and runs ``mcm start`` on it; waits for *pattern* in what it prints."""
    names: list[str] = []

    def start_on(configuration: str, *options: str, pattern: str = "Try in another terminal") -> Mcm:
        is_silent = "[gateway]" in configuration
        mcm.config.write_text(configuration if is_silent else f"{configuration}\n{NO_FACES}")
        command = ["start", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir), *options]

        attributes = {
            "args": [sys.executable, "-P", "-m", "mcm", *command],
            "pattern": pattern,
            "env": mcm.environment,
            "timeout": 30,
            "terminate_on_interrupt": True,
        }
        names.append(f"mcm-{uuid.uuid4().hex[:12]}")
        xprocess.ensure(names[-1], type("Starter", (ProcessStarter,), attributes), restart=True)
        return mcm

    yield start_on
    mcm.end()
    for name in names:
        info = xprocess.getinfo(name)
        info.terminate()
        info.controldir.remove(ignore_errors=True)


@pytest.fixture
def vendor() -> Iterator[Callable[..., Simulator]]:
    """Starts simulators with options; they end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *options: stack.enter_context(launch("--ticks-per-s", "600", *options))


@pytest.fixture
def three_lines(vendor: Callable[..., Simulator], start: Start) -> tuple[Simulator, Mcm]:
    """A vendor, and mcm with three live lines to it."""
    simulator = vendor()
    mcm = start(THREE_LINES.format(feed=f"ws://127.0.0.1:{simulator.port}"))
    mcm.wait_ready()
    return simulator, mcm


@pytest.fixture
def collect() -> Iterator[Callable[..., Collector]]:
    """Subscribers in threads; ended with the test."""
    collectors: list[Collector] = []

    def begin(mcm: Mcm, *topics: str, cursor: bytes | None = None) -> Collector:
        collectors.append(Collector(mcm.run_dir, *topics, cursor=cursor))
        return collectors[-1]

    yield begin
    for collector in collectors:
        collector.end()
