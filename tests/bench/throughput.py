"""How many ticks per second, and what one costs, of everybody who receives the same bytes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench.costs import spent
from tests.bench.programs import Load, Program, TickLost, load, program
from tests.bench.rig import mcm_on, pids_of, subscriber_on
from tests.bench.tape import Shape

__all__ = ["CONTESTANTS", "Contestant", "Result", "Running", "family", "measure", "pipeline", "run"]


class Running(NamedTuple):
    """A receiver that has subscribed: its processes by role, and whoever says when all ticks have come."""

    pids: dict[str, int]
    receiver: Program


class Contestant(NamedTuple):
    """Somebody to compare with: *start* (load, shape, ticks) subscribes and expects so many ticks."""

    name: str
    start: Callable[[Load, Shape, int], AbstractContextManager[Running]]


class Result(NamedTuple):
    """One run.  Nothing was lost, or there would be none.

    Attributes:
        ticks: sent and received.
        seconds: from the first byte sent to the last tick received.
        cpu_s: role → processor time between both.
    """

    ticks: int
    seconds: float
    cpu_s: dict[str, float]

    @property
    def ticks_per_s(self) -> float:
        return self.ticks / self.seconds

    @property
    def cpu_us(self) -> float:
        """Processor time of all processes per tick, microseconds."""
        return sum(self.cpu_s.values()) / self.ticks * 1e6


def run(
    contestant: Contestant, shape: Shape, ticks: int, *, times: int = 1, ticks_per_s: float | None = None
) -> Result:
    """Send *ticks* so many *times* as fast as they are taken, or once at a pace; raises TickLost on a loss."""
    with load() as feed:
        feed.render(shape, ticks)
        with contestant.start(feed, shape, ticks * times) as running:
            return measure(feed, running, times, ticks_per_s)


def measure(feed: Load, running: Running, times: int = 1, ticks_per_s: float | None = None) -> Result:
    """Send the tape that is rendered to whom is connected, as :func:`run`."""
    before = spent(running.pids)
    if ticks_per_s is None:
        feed.flood(times)
    else:
        feed.pace(ticks_per_s)
    sent = feed.sent()
    received = running.receiver.hear()
    after = spent(running.pids)
    if received["received"] != sent["sent"]:
        raise TickLost(", ".join(running.pids), sent["sent"], received["received"])
    seconds = (received["at_ns"] - sent["begun_ns"]) / 1e9
    return Result(sent["sent"], seconds, {name: after[name] - before[name] for name in before})


# --- who takes part ---------------------------------------------------------------------------------------------------


@contextmanager
def pipeline(feed: Load, shape: Shape, ticks: int, way: str = "messages") -> Iterator[Running]:
    """mcm, and one Subscriber that reads by *way*."""
    with mcm_on(feed, shape) as mcm, subscriber_on(mcm, ticks, way=way) as (reader,):
        yield Running(pids_of(mcm) | {"subscriber": reader.pid}, reader)


def _peer(module: str, *arguments: str) -> Callable[[Load, Shape, int], AbstractContextManager[Running]]:
    @contextmanager
    def start(feed: Load, _: Shape, ticks: int) -> Iterator[Running]:
        with program(f"tests.bench.peers.{module}", feed.url, str(ticks), *arguments) as peer:
            feed.wait_for(2)  # T.* and Q.*
            yield Running(family(module, peer.pid), peer)

    return start


def family(module: str, pid: int) -> dict[str, int]:
    """A process and its children, all of which share the work."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return {module: pid} | {f"{module}/{number}": child for number, child in enumerate(children, 1)}


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("mcm", pipeline),
        Contestant("mcm, tick by tick", partial(pipeline, way="ticks")),
        Contestant("massive", _peer("massive_client")),
        Contestant("massive with orjson", _peer("massive_client", "orjson")),
        Contestant("massive, raw", _peer("massive_client", "raw")),
        Contestant("websocket-client and json in a thread", _peer("thread_json")),
        Contestant("home-made pipeline", _peer("home_made")),
        Contestant("limit: picows and msgspec", _peer("picows_limit")),
    )
}
