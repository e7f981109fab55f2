"""What README shows in Python does what README says."""

import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.processes.stack import THREE_LINES, Mcm, Start, wait_until

README = Path(__file__).resolve().parents[2].joinpath("README.md").read_text()
EXAMPLES: list[str] = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def example(mark: str) -> str:
    (found,) = [text for text in EXAMPLES if mark in text]
    return found


@contextmanager
def running(mcm: Mcm, script: str) -> Iterator[IO[str]]:
    """What *script* prints while it runs; it is killed in the end."""
    with mcm.python("-u", "-c", script) as program:
        assert program.stdout is not None
        try:
            yield program.stdout
        finally:
            program.kill()


def test_the_plain_subscriber_counts_on_without_holes_and_survives_the_router(start: Start) -> None:
    mcm = start(THREE_LINES.format(feed="simulator"))
    script = example("zmq.SUB").replace("ipc://.mcm/ticks", f"ipc://{mcm.run_dir}/ticks")
    assert str(mcm.run_dir) in script

    with running(mcm, script) as output:
        lines = [output.readline().split() for _ in range(50)]
        victim = mcm.wait_ready().router.pid
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        lines += [output.readline().split() for _ in range(300)]  # three seconds; few of them of the old router

    assert mcm.status().router.restarts == 1
    assert {line[0] for line in lines} == {"stocks.T.AAPL"}
    assert all(float(price) > 0 and float(size) >= 0 for _, _, price, size in lines)
    numbers = [int(line[1]) for line in lines]
    jumps = [(number, later) for number, later in itertools.pairwise(numbers) if later != number + 1]
    assert len(jumps) <= 1


def test_the_test_of_a_users_program_passes(mcm: Mcm) -> None:
    (mcm.folder / "test_my_program.py").write_text(example("@pytest.fixture"))

    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_program.py"],
        cwd=mcm.folder, env=mcm.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert "1 passed" in told.stdout, told.stdout + told.stderr


def test_a_simulator_is_launched_and_told_what_to_do(mcm: Mcm) -> None:
    with mcm.python("-c", example("simulator.remote.cap(1)")) as program:
        said, complaint = program.communicate(timeout=30)

    assert program.returncode == 0, complaint
    assert re.match(r"ws://127\.0\.0\.1:\d+/stocks http://127\.0\.0\.1:\d+\n\{'dials': 0, ", said)
    wait_until(lambda: not mcm.processes(), because="it ends with its block")


def test_the_measurement_of_the_simulator_runs(mcm: Mcm) -> None:
    script = example("asyncio.run(measure").replace("seconds=10", "seconds=1").replace('"100000"', '"1000"')

    with mcm.python("-c", script) as program:
        said, complaint = program.communicate(timeout=30)

    assert program.returncode == 0, complaint
    assert 900 < float(said.split()[0]) < 1100


def test_the_configuration_that_is_measured_is_a_good_one(mcm: Mcm) -> None:
    (script,) = re.findall(r"- > /tmp/big\.toml <<'END'\n(.*?)^END$", README, re.MULTILINE | re.DOTALL)

    written = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    mcm.config.write_text(written.stdout)

    checked = mcm.command("check", "--config", str(mcm.config))
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count("1,000 topics (1,000 T)") == 3
