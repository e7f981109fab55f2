"""How long a tick takes, by hop, from when it was due (open loop, schedule.py)."""

import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.percentiles import percentiles
from tests.bench.programs import PATIENCE_S, Program, TickLost, load, program
from tests.bench.rig import mcm_on
from tests.bench.schedule import Schedule
from tests.bench.tape import Shape
from tests.processes.stack import Mcm

__all__ = ["HOPS", "ROUTING", "hops", "routing"]

WARM_UP_SHARE = 0.1
HOPS = {
    "read": "due → read by the worker",
    "published": "read → at a plain SUB socket",
    "delivered": "read → handed out by a Subscriber",
    "whole": "due → handed out by a Subscriber",
}
ROUTING = "append begins → at a plain SUB socket"


class _Seen(NamedTuple):
    """A tick: its ``q``, when its worker had read it, when it was here; nanoseconds, CLOCK_MONOTONIC."""

    number: int
    read_ns: int
    here_ns: int


def hops(ticks_per_s: float, seconds: float, shape: Shape) -> dict[str, dict[float, float]]:
    """Hop (of HOPS) → percentile → microseconds, over as many connections as the tape has shares."""
    published = _run(ticks_per_s, seconds, shape, "plain")
    delivered = _run(ticks_per_s, seconds, shape, "subscriber")
    found = {
        "read": [one.read_ns - due for due, one in delivered],
        "published": [one.here_ns - one.read_ns for _, one in published],
        "delivered": [one.here_ns - one.read_ns for _, one in delivered],
        "whole": [one.here_ns - due for due, one in delivered],
    }
    return {hop: percentiles(value / 1e3 for value in values) for hop, values in found.items()}


def _run(ticks_per_s: float, seconds: float, shape: Shape, way: str) -> list[tuple[int, _Seen]]:
    """(when it was due, tick) behind the warm-up; RuntimeError when one is missing."""
    ticks = round(ticks_per_s * seconds)
    with load() as feed:
        feed.render(shape, ticks)
        with mcm_on(feed, shape) as mcm, _probe(mcm.run_dir, ticks, way) as (probe, path):
            feed.pace(ticks_per_s)
            begun_ns = feed.sent()["begun_ns"]
            _finish(mcm, probe, ticks)
            schedule = Schedule(begun_ns, ticks_per_s, shape.events_per_frame)
            return [(schedule.due_of(one.number), one) for one in _seen(path)]


def routing(ticks_per_s: float, seconds: float) -> dict[float, float]:
    """Percentile → microseconds from the beginning of an append to a plain SUB socket; three links, no upstream."""
    ticks, shape = round(ticks_per_s * seconds), Shape()
    with load() as feed, mcm_on(feed, shape) as mcm:
        arguments = (str(mcm.run_dir), str(ticks), str(ticks_per_s))
        with (
            program("tests.bench.peers.outlets", *arguments) as sender,
            _probe(mcm.run_dir, ticks, "plain") as (probe, path),
        ):
            sender.say()
            sender.hear()
            _finish(mcm, probe, ticks)
            return percentiles((one.here_ns - one.read_ns) / 1e3 for one in _seen(path))


def _finish(mcm: Mcm, probe: Program, ticks: int) -> None:
    """Have the probe write what it saw, once the router has published everything."""
    mcm.wait(lambda status: status.router.published >= ticks, because="everything is published", within_s=PATIENCE_S)
    probe.say()
    received = probe.hear()["received"]
    if received != ticks:
        raise TickLost(f"a latency run at {mcm.run_dir}", ticks, received)


@contextmanager
def _probe(run_dir: Path, ticks: int, way: str) -> Iterator[tuple[Program, Path]]:
    with tempfile.TemporaryDirectory(prefix="mcm-") as folder:
        path = Path(folder) / "seen"
        with program("tests.bench.peers.probe", str(run_dir), str(ticks), str(path), way) as probe:
            probe.hear()
            yield probe, path


def _seen(path: Path) -> list[_Seen]:
    """What a probe has written, in order of arrival, behind the warm-up."""
    numbers = array("q")
    numbers.frombytes(path.read_bytes())
    found = [_Seen(*numbers[at : at + 3]) for at in range(0, len(numbers), 3)]
    return found[round(len(found) * WARM_UP_SHARE) :]
