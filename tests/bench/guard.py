"""What must not get worse unnoticed: ratios within one run, with margins wide enough for any machine.

Never absolute times.  A ratio outside its margin is measured once more before it counts: the machine may have hiccuped.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.bench import throughput
from tests.bench.plan import Plan
from tests.bench.programs import load
from tests.bench.rig import mcm_on, pids_of, subscriber_on
from tests.bench.tape import Shape
from tests.bench.throughput import CONTESTANTS, Running

__all__ = ["MARGINS", "Margin", "measure", "outside"]

MASSIVE, HOME_MADE = "massive", "home-made pipeline"
TICKS = {1: 20_000, 20: 40_000}
TIMES = 5  # as often for mcm, because a turn of the operating system's clock is 10 ms


class Margin(NamedTuple):
    """The most that mcm's CPU per tick may be, by *peer*'s, at so many events per frame.

    About twice what was measured when it was set: below it lies the noise of a busy machine, above it a regression.
    """

    peer: str
    events_per_frame: int
    most: float

    def __str__(self) -> str:
        return f"CPU per tick, mcm ÷ {self.peer}, {self.events_per_frame} events per frame"


MARGINS = (
    Margin(MASSIVE, 1, 0.7),
    Margin(HOME_MADE, 1, 0.65),
    Margin(MASSIVE, 20, 1.8),
    Margin(HOME_MADE, 20, 0.6),
)


def measure(plan: Plan) -> dict[Margin, list[float]]:
    """The ratio of every margin, run by run; raises TickLost when a tick is."""
    found: defaultdict[Margin, list[float]] = defaultdict(list)
    with load() as feed, mcm_on(feed, Shape()) as mcm:
        pids = pids_of(mcm)  # one mcm for all runs: to start it costs more than to use it
        for number in range(1, plan.rounds + 1):
            for events, ticks in TICKS.items():
                plan.say(f"{events} events per frame, {number} of {plan.rounds}")
                shape = Shape(events_per_frame=events)
                feed.render(shape, ticks)
                with subscriber_on(mcm, ticks * TIMES) as (reader,):
                    ours = throughput.measure(feed, Running(pids | {"subscriber": reader.pid}, reader), TIMES)
                for margin in MARGINS:
                    if margin.events_per_frame == events:
                        theirs = throughput.run(CONTESTANTS[margin.peer], shape, ticks)
                        found[margin].append(ours.cpu_us / theirs.cpu_us)
    return dict(found)


def outside(measured: Mapping[Margin, list[float]], again: Callable[[], Mapping[Margin, list[float]]]) -> list[str]:
    """What is outside its margin twice, in words; *again* measures once more, if that is needed."""
    suspects = {margin for margin, ratios in measured.items() if _middle(ratios) > margin.most}
    if not suspects:
        return []
    second = again()
    return [
        f"{margin}: {_middle(measured[margin]):.2f}, then {_middle(second[margin]):.2f}; allowed is {margin.most}"
        for margin in sorted(suspects)
        if _middle(second[margin]) > margin.most
    ]


def _middle(ratios: list[float]) -> float:
    return sorted(ratios)[len(ratios) // 2]
