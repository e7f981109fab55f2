"""Whatever is killed, every tick that a worker has appended reaches every Subscriber once, in its order."""

import os
import random
import signal
from collections.abc import Callable
from functools import partial

import pytest

from mcm.core.status import Status
from mcm.simulator.launch import Simulator
from tests.processes.judge import Collector, received, sent_to_lines, settle
from tests.processes.stack import THREE_LINES, Mcm, Start, wait_until

TOPICS = ["stocks.T.AAPL", "stocks.Q.MSFT", "stocks.T.JPM", "stocks.Q.BAC", "stocks.T.SHOP"]
TESTING = "\n[routing]\nfailover = false\n[testing]\nkeep_links = true\n{more}\n"
SEEDS = [
    int(os.environ.get("MCM_TEST_SEED", "1")) + number for number in range(int(os.environ.get("MCM_TEST_SEEDS", "1")))
]

Stack = tuple[Simulator, Mcm]


@pytest.fixture
def stack(vendor: Callable[..., Simulator], start: Start) -> Callable[..., Stack]:
    """Three lines under 5,000 ticks/s, with faults on purpose if asked for."""

    def begin(more: str = "") -> Stack:
        simulator = vendor("--ticks-per-s", "5000")
        mcm = start(THREE_LINES.format(feed=f"ws://127.0.0.1:{simulator.port}") + TESTING.format(more=more))
        mcm.wait_ready()
        return simulator, mcm

    return begin


def kill_router(mcm: Mcm, number: signal.Signals = signal.SIGKILL) -> int:
    pid = mcm.status().router.pid
    assert pid is not None
    os.kill(pid, number)
    return pid


def kill_worker(mcm: Mcm, name: str) -> None:
    pid = mcm.status().connections[name].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def are_back(status: Status, *, name: str, routers: int) -> bool:
    return (status.connections[name].restarts, status.router.restarts, status.state) == (1, routers, "ready")


def assert_nothing_lost(simulator: Simulator, mcm: Mcm, collector: Collector) -> None:
    """What the link files received is delivered once and in order, and nothing else."""
    in_files = received(mcm.run_dir)
    for topic in TOPICS:
        delivered = collector.delivered[topic]
        files = in_files[topic]
        start = files.index(delivered[0])
        counts = f"{topic}: {len(files) - start} received, {len(delivered)} delivered"
        assert delivered == files[start:], f"{counts}; {collector.complaints}\n{mcm.logs()}"
        sent = [key for part in sent_to_lines(simulator, topic) for key in part]
        assert set(files) <= set(sent)
    assert collector.complaints == []
    assert collector.subscriber.counters.lost == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_killing_the_router_again_and_again_loses_nothing(
    stack: Callable[..., Stack], collect: Callable[..., Collector], seed: int
) -> None:
    chance = random.Random(seed)
    simulator, mcm = stack()
    collector = collect(mcm, "stocks.*")
    collector.wait_for_more(1_000)
    killed = set()

    for _ in range(3):
        killed.add(kill_router(mcm))
        mcm.wait(lambda status: status.router.pid not in {None, *killed}, because="the router is back")
        collector.wait_for_more(chance.randrange(500, 4_000))
    settle(simulator, collector, *TOPICS)

    assert_nothing_lost(simulator, mcm, collector)
    sent = [key for topic in TOPICS for part in sent_to_lines(simulator, topic) for key in part]
    assert collector.count() > 0.5 * len(sent)
    assert mcm.status().router.restarts == 3
    assert collector.subscriber.counters.repaired > 0


def test_a_router_that_hangs_ten_seconds_and_is_killed_costs_nothing(
    stack: Callable[..., Stack], collect: Callable[..., Collector]
) -> None:
    simulator, mcm = stack()
    collector = collect(mcm, "stocks.*")
    collector.wait_for_more(1_000)

    kill_router(mcm, signal.SIGSTOP)
    mcm.wait(lambda status: status.router.restarts == 1, because="a hung router is replaced")
    collector.wait_for_more(5_000)
    settle(simulator, collector, *TOPICS)

    assert_nothing_lost(simulator, mcm, collector)
    assert all(line.reconnects == 0 for line in mcm.status().connections.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_killing_router_and_worker_together_loses_nothing_that_was_appended(
    stack: Callable[..., Stack], collect: Callable[..., Collector], seed: int
) -> None:
    chance = random.Random(seed)
    simulator, mcm = stack()
    collector = collect(mcm, "stocks.*")
    collector.wait_for_more(1_000)

    for restarts, name in enumerate(("primary", "secondary"), start=1):
        for victim in chance.sample(["router", name], 2):
            if victim == "router":
                kill_router(mcm)
            else:
                kill_worker(mcm, name)
        mcm.wait(
            partial(are_back, name=name, routers=restarts),
            because="both are back",
        )
        collector.wait_for_more(2_000)
    settle(simulator, collector, *TOPICS)

    assert_nothing_lost(simulator, mcm, collector)
    assert mcm.status().router.restarts == 2


@pytest.mark.parametrize(
    ("more", "is_effective"),
    [
        ("drop_push = 0.2", lambda status, _: status.router.skipped > 100),
        ("drop_publish = 0.2", lambda _, collector: collector.subscriber.counters.repaired > 100),
        ("high_water_mark = 1", lambda *_: True),
        ("drop_push = 0.2\ndrop_publish = 0.2\nhigh_water_mark = 1", lambda status, _: status.router.skipped > 100),
    ],
)
def test_what_the_sockets_drop_comes_by_the_files(
    stack: Callable[..., Stack], collect: Callable[..., Collector], more: str, is_effective: Callable[..., bool]
) -> None:
    simulator, mcm = stack(more)
    collector = collect(mcm, "stocks.*")

    collector.wait_for_more(10_000)
    settle(simulator, collector, *TOPICS)

    assert_nothing_lost(simulator, mcm, collector)
    mcm.wait(lambda status: is_effective(status, collector), because="sockets really dropped")


def test_a_subscriber_goes_on_from_its_cursor_without_repeating_or_missing_a_tick(
    stack: Callable[..., Stack], collect: Callable[..., Collector]
) -> None:
    simulator, mcm = stack()
    first = collect(mcm, "stocks.*")
    first.wait_for_more(2_000)
    first.end()
    behind = collect(mcm, "stocks.*")
    behind.wait_for_more(3_000)

    second = collect(mcm, "stocks.*", cursor=first.cursor)
    second.wait_for_more(3_000)
    settle(simulator, second, *TOPICS)

    in_files = received(mcm.run_dir)
    for topic in TOPICS:
        both = first.delivered[topic] + second.delivered[topic]
        files = in_files[topic]
        # The message in hand when the first one ended was not taken, so the second one gets it again.
        assert second.delivered[topic] == files[files.index(second.delivered[topic][0]) :]
        assert list(dict.fromkeys(both)) == files[files.index(both[0]) :]
    assert second.complaints == []


def test_a_subscriber_that_stops_for_a_while_catches_up_and_nobody_else_notices(
    stack: Callable[..., Stack], collect: Callable[..., Collector]
) -> None:
    simulator, mcm = stack()
    healthy = collect(mcm, "stocks.*")
    script = (
        "import sys, mcm\n"
        "subscriber = mcm.Subscriber('stocks.*', run_dir=sys.argv[1])\n"
        "for number, (topic, ticks) in enumerate(subscriber.messages()):\n"
        "    for tick in ticks: print(topic, tick.sequence_number, flush=number < 50)\n"
    )
    with mcm.python("-c", script, str(mcm.run_dir)) as slow:
        assert slow.stdout is not None
        for _ in range(20):
            slow.stdout.readline()
        os.kill(slow.pid, signal.SIGSTOP)
        healthy.wait_for_more(30_000)
        os.kill(slow.pid, signal.SIGCONT)
        lines = [slow.stdout.readline().split() for _ in range(30_000)]
        slow.kill()

    numbers = [int(number) for topic, number in lines if topic == "stocks.T.AAPL"]
    tape = [key[0] for key in received(mcm.run_dir)["stocks.T.AAPL"]]
    assert numbers == tape[tape.index(numbers[0]) :][: len(numbers)]
    settle(simulator, healthy, *TOPICS)
    assert_nothing_lost(simulator, mcm, healthy)


def test_killing_the_replay_process_does_not_disturb_the_live_path(
    stack: Callable[..., Stack], collect: Callable[..., Collector]
) -> None:
    simulator, mcm = stack("drop_publish = 0.1")
    collector = collect(mcm, "stocks.*")
    collector.wait_for_more(1_000)
    victim = mcm.status().replay
    assert victim is not None
    assert victim.pid is not None

    os.kill(victim.pid, signal.SIGKILL)
    collector.wait_for_more(10_000)
    settle(simulator, collector, *TOPICS)

    assert_nothing_lost(simulator, mcm, collector)


def test_the_judge_is_not_blind(stack: Callable[..., Stack]) -> None:
    """Without repair, a plain SUB socket misses what a killed router costs: the same comparison fails."""
    simulator, mcm = stack()
    plain = mcm.subscribe(b"stocks.")
    wait_until(lambda: plain.count("stocks.T.AAPL") > 200, because="ticks flow")

    kill_router(mcm)
    mcm.wait(lambda status: status.router.restarts == 1, because="the router is back")
    seen = plain.count("stocks.T.AAPL")
    wait_until(lambda: plain.count("stocks.T.AAPL") > seen + 200, because="ticks flow again")
    simulator.remote.pause()

    numbers = plain.upstream_sequences("stocks.T.AAPL")
    tape = [key[0] for key in received(mcm.run_dir)["stocks.T.AAPL"]]
    assert numbers != tape[tape.index(numbers[0]) :][: len(numbers)]
