"""The parts of the benchmark: which runs, how often, and which figures come of them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median

from tests.bench import latency, limits, scaling, starts, throughput
from tests.bench.figures import Figure, Target, ratio
from tests.bench.plan import Plan
from tests.bench.tape import Shape
from tests.bench.throughput import CONTESTANTS, Result

__all__ = ["SECTIONS"]

MCM, MASSIVE, THREAD = "mcm", "massive", "websocket-client and json in a thread"
PACE = 20_000.0
USUAL = 4  # events per frame: what 420 options sent at an opening (18,842 quotes in 8 s, 550 frames/s)
FLOOD_TICKS = 60_000
TIMES = {MCM: 12, "mcm, tick by tick": 12, "limit: picows and msgspec": 12, "massive, raw": 4}
# CPU per tick at saturation by events per frame, as a share of a peer's; ticks per second that are sustained.
SHARES = {
    (MASSIVE, 1): Target(most=1 / 4),
    (MASSIVE, 20): Target(most=1 / 2),
    (THREAD, 1): Target(most=1 / 6),
    (THREAD, 20): Target(most=1 / 6),
}
SUSTAINED = {1: Target(least=200_000), 20: Target(least=300_000)}
MANY_TOPICS = Target(most=1.5)
US_DELIVERED = {50.0: Target(most=500), 99.0: Target(most=2_000)}


def _versus(
    plan: Plan, names: Iterable[str], shape: Shape, *, ticks: int = FLOOD_TICKS, ticks_per_s: float | None = None
) -> dict[str, list[Result]]:
    """Each contestant's runs, in turn."""
    found: defaultdict[str, list[Result]] = defaultdict(list)
    for number in range(1, plan.rounds + 1):
        for name in names:
            plan.say(f"{_load(shape, ticks_per_s)}: {name}, {number} of {plan.rounds}")
            times = TIMES.get(name, 1) if ticks_per_s is None else 1
            found[name].append(throughput.run(CONTESTANTS[name], shape, ticks, times=times, ticks_per_s=ticks_per_s))
    return dict(found)


def _load(shape: Shape, ticks_per_s: float | None) -> str:
    pace = "saturation" if ticks_per_s is None else f"{ticks_per_s:,.0f} ticks/s"
    return f"{shape.events_per_frame} events per frame, {pace}"


def _throughput(plan: Plan) -> list[Figure]:
    found = []
    for events in (1, 4, 20, 100):
        found += _contest(plan, Shape(events_per_frame=events), None)
    for events in (1, 20):
        found += _contest(plan, Shape(events_per_frame=events), PACE)
    return found


def _contest(plan: Plan, shape: Shape, ticks_per_s: float | None) -> list[Figure]:
    names = [name for name in CONTESTANTS if ticks_per_s is None or name in {MCM, MASSIVE}]
    ticks = FLOOD_TICKS if ticks_per_s is None else round(ticks_per_s * plan.seconds)
    results = _versus(plan, names, shape, ticks=ticks, ticks_per_s=ticks_per_s)
    section = f"Throughput and CPU: {_load(shape, ticks_per_s)}"
    events, found = shape.events_per_frame, []
    for name, runs in results.items():
        if ticks_per_s is None:
            target = SUSTAINED.get(events) if name == MCM else None
            found.append(
                Figure(section, f"{name}: end to end", "ticks/s", tuple(run.ticks_per_s for run in runs), target)
            )
        found.append(_cpu(section, f"{name}: CPU per tick", runs))
    for name, runs in results.items():
        if name != MCM:
            target = SHARES.get((name, events)) if ticks_per_s is None else None
            ours, theirs = ([run.cpu_us for run in one] for one in (results[MCM], runs))
            found.append(ratio(section, f"CPU per tick, mcm ÷ {name}", ours, theirs, target))
    return found


def _cpu(section: str, name: str, runs: Sequence[Result], target: Target | None = None) -> Figure:
    """Of all processes, by role beside it."""
    detail = {role: median(run.cpu_s[role] / run.ticks * 1e6 for run in runs) for role in runs[0].cpu_s}
    return Figure(section, name, "µs", tuple(run.cpu_us for run in runs), target, detail)


def _limits(plan: Plan) -> list[Figure]:
    section, found = "Limits: libzmq alone", []
    for size in limits.MESSAGE_BYTES:
        runs = plan.repeat(f"libzmq, {size} bytes", partial(limits.libzmq, size, limits.MESSAGES))
        found.append(Figure(section, f"messages of {size} bytes", "/s", tuple(run.ticks_per_s for run in runs)))
        found.append(_cpu(section, f"messages of {size} bytes: CPU per message", runs))
    return found


def _latency(plan: Plan) -> list[Figure]:
    found = []
    for pace, events in ((1_000.0, 1), (PACE, 1), (PACE, USUAL), (50_000.0, USUAL)):
        section = f"Latency: {pace:,.0f} ticks/s over 3 lines, {events} events per frame"
        shape = Shape(events_per_frame=events)
        runs = plan.repeat(section, partial(latency.hops, pace, plan.seconds, shape))
        for hop, words in latency.HOPS.items():
            bounds = US_DELIVERED if (hop, pace) == ("delivered", PACE) else {}
            found += _percentiles(section, words, [run[hop] for run in runs], bounds)
    routes = plan.repeat("routing alone", lambda: latency.routing(PACE, plan.seconds))
    section = f"Latency: routing alone, {PACE:,.0f} ticks/s over 3 links"
    return found + _percentiles(section, latency.ROUTING, routes, {99.0: Target(most=1_000)})


def _percentiles(
    section: str, name: str, runs: Sequence[dict[float, float]], bounds: dict[float, Target]
) -> list[Figure]:
    return [
        Figure(section, f"{name}, p{percent:g}", "µs", tuple(run[percent] for run in runs), bounds.get(percent))
        for percent in runs[0]
    ]


def _scaling(plan: Plan) -> list[Figure]:
    section, found, ticks = "Scaling", [], 10 * FLOOD_TICKS
    for connections in (1, 2, 3, 6):
        runs = plan.repeat(f"{connections} connections", partial(scaling.by_connections, connections, ticks))
        found.append(_cpu(section, f"{connections} connections, saturation: CPU per tick", runs))
        found.append(
            Figure(section, f"{connections} connections, saturation", "ticks/s", tuple(r.ticks_per_s for r in runs))
        )
    topics = {n: plan.repeat(f"{n} topics", partial(scaling.by_topics, n, ticks)) for n in (300, 3_000, 30_000)}
    for number, runs in topics.items():
        found.append(_cpu(section, f"{number:,} topics, saturation: CPU per tick", runs))
    few, many = ([run.cpu_us for run in topics[number]] for number in (300, 30_000))
    found.append(ratio(section, "CPU per tick at saturation, 30,000 topics ÷ 300", many, few, MANY_TOPICS))
    paced = round(PACE * plan.seconds)
    few, many = (
        [run.cpu_us for run in plan.repeat(f"{n} topics at a pace", partial(scaling.by_topics, n, paced, PACE))]
        for n in (300, 30_000)
    )
    found.append(ratio(section, f"CPU per tick at {PACE:,.0f} ticks/s, 30,000 topics ÷ 300", many, few, MANY_TOPICS))
    for number in (1, 10, 50):
        runs = plan.repeat(f"{number} subscribers", partial(scaling.by_subscribers, number, paced, PACE))
        found.append(_cpu(section, f"{number} Subscribers of everything, {PACE:,.0f} ticks/s: CPU per tick", runs))
    routers = {}
    for number in (1, 50):
        run = partial(scaling.by_subscribers, number, paced, PACE, topic="stocks.T.AAAA")
        routers[number] = [result.cpu_s["router"] for result in plan.repeat(f"{number} of one topic", run)]
    name = "router's CPU, 50 Subscribers of one topic ÷ 1"
    found.append(ratio(section, name, routers[50], routers[1], Target(most=2)))
    alone = plan.repeat("one topic of 30,000", lambda: scaling.of_one_topic(30_000, paced, PACE))
    found.append(_cpu(section, f"one Subscriber of one topic of 30,000, {PACE:,.0f} ticks/s: CPU per tick", alone))
    return found


def _starts(plan: Plan) -> list[Figure]:
    section = "Starts and memory"

    def timed(name: str, run: Callable[[], float], most_s: float) -> Figure:
        return Figure(section, name, "s", tuple(plan.repeat(name, run)), Target(most=most_s))

    found = [
        timed("start-up, 3 × 1,000 symbols to ready", lambda: starts.start_up_s(1_000), 2),
        timed("failover, kill → first tick by another line", starts.failover_s, 0.2),
        timed("router restart, kill → first new tick", starts.router_restart_s, 1),
    ]
    plan.say(f"{starts.LONG_TICKS:,} ticks")
    long = starts.long_run(starts.LONG_TICKS)
    megabytes = {name: value / 1e6 for name, value in long.items()}
    for moment, target in (("idle", Target(most=200)), ("after", None)):
        parts = {name.partition(" ")[2]: value for name, value in megabytes.items() if name.startswith(moment + " ")}
        words = "idle" if moment == "idle" else f"after {starts.LONG_TICKS:,} ticks"
        total = (sum(parts.values()),)
        found.append(
            Figure(section, f"memory of 3 workers, router, replay, supervisor, {words}", "MB", total, target, parts)
        )
    journal = f"{megabytes['journal']:,.0f} MB of journal"
    return [*found, Figure(section, f"router restart on {journal}", "s", (long["recovery"],))]


def _micro(plan: Plan) -> list[Figure]:
    plan.say("single steps, by pyperf")
    return [
        Figure("Single steps, per event", f"{name}: {words}", "ns", tuple(values))
        for name, words, values in limits.micro(is_fast=plan.rounds < 5)
    ]


SECTIONS: dict[str, Callable[[Plan], list[Figure]]] = {
    "throughput": _throughput,
    "limits": _limits,
    "latency": _latency,
    "scaling": _scaling,
    "starts": _starts,
    "micro": _micro,
}
