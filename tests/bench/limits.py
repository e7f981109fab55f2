"""What others, or single steps, cannot be faster than: libzmq without mcm, and each step of mcm without the others."""

import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.bench.costs import spent
from tests.bench.micro_steps import STEPS
from tests.bench.programs import TickLost, program
from tests.bench.throughput import Result, family

__all__ = ["MESSAGES", "MESSAGE_BYTES", "libzmq", "micro"]

MESSAGES = 500_000
MESSAGE_BYTES = (180, 420)  # with one tick, and with three, as a busy line has them


def libzmq(size: int, messages: int) -> Result:
    """Messages of *size* bytes from one process to another, and nothing done with them."""
    module = "libzmq_limit"
    with program(f"tests.bench.peers.{module}", str(size), str(messages)) as publisher:
        begun_ns = publisher.hear()["begun_ns"]
        pids = family(module, publisher.pid)
        ended = publisher.hear()
        after = spent(pids)
    if ended["received"] != messages:
        raise TickLost("libzmq alone", messages, ended["received"])
    return Result(messages, (ended["at_ns"] - begun_ns) / 1e9, after)


class _Metadata(msgspec.Struct):
    name: str


class _Run(msgspec.Struct):
    values: list[float] = []  # none in the run that calibrates


class _Benchmark(msgspec.Struct):
    metadata: _Metadata
    runs: list[_Run]


class _Suite(msgspec.Struct):
    """What pyperf writes, as far as it is read here."""

    benchmarks: list[_Benchmark]


def micro(*, is_fast: bool) -> list[tuple[str, str, list[float]]]:
    """(step, what it does, nanoseconds per event by run), in the order of the pipeline."""
    with tempfile.TemporaryDirectory(prefix="mcm-") as folder:
        path = Path(folder) / "micro.json"
        options = ["--fast"] if is_fast else []
        command = [sys.executable, "-m", "tests.bench.micro", "--quiet", *options, "-o", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        suite = msgspec.json.decode(path.read_bytes(), type=_Suite)
    values = {one.metadata.name: [value * 1e9 for run in one.runs for value in run.values] for one in suite.benchmarks}
    return [(name, words, values[name]) for name, words in STEPS.items()]
