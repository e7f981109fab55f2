"""What the vendor and the operating system do to a running mcm, and what must be left of it."""

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Callable

import pytest

from mcm.core.status import Status
from mcm.simulator.launch import Simulator
from tests.processes.stack import THREE_LINES, Mcm, Start, resident_bytes, wait_until

ONE_LINE = """
[upstream]
feed = "{feed}"
[[connections]]
name = "primary"
[[watchlists]]
name = "one"
channels = ["T", "Q"]
symbols = ["AAPL", "MSFT"]
"""


def feed_of(simulator: Simulator) -> str:
    return f"ws://127.0.0.1:{simulator.port}"


def is_dense(messages: list[tuple[int, int]]) -> bool:
    return all(first + length == later for (first, length), (later, _) in itertools.pairwise(messages))


# --- our own processes ------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_restarted_and_its_siblings_do_not_miss_a_tick(three_lines: tuple[Simulator, Mcm]) -> None:
    _, mcm = three_lines
    subscriber = mcm.subscribe(b"stocks.")
    wait_until(lambda: subscriber.count("stocks.T.JPM") > 20, because="ticks flow")
    victim = mcm.status().connections["primary"].pid
    assert victim is not None

    os.kill(victim, signal.SIGKILL)
    status = mcm.wait(
        lambda status: status.connections["primary"].restarts == 1 and status.state == "ready",
        because="the worker was started again and its subscriptions are confirmed",
    )

    assert status.connections["primary"].pid not in {None, victim}
    assert sum(line.confirmed for line in status.connections.values()) == 10, "by itself, or by those that took over"
    seen = subscriber.count("stocks.T.AAPL")
    wait_until(lambda: subscriber.count("stocks.T.AAPL") > seen + 5, because="the restarted line ticks")
    for topic in ("stocks.T.JPM", "stocks.Q.BAC", "stocks.T.SHOP"):
        numbers = subscriber.upstream_sequences(topic)
        tape = [json.loads(text)["q"] for text in three_lines[0].remote.tape(topic)]
        first = tape.index(numbers[0])
        assert numbers == tape[first : first + len(numbers)]


def test_a_killed_router_is_restarted_and_subscribers_go_on_by_themselves(three_lines: tuple[Simulator, Mcm]) -> None:
    _, mcm = three_lines
    subscriber = mcm.subscribe(b"stocks.T.")
    wait_until(lambda: subscriber.count("stocks.T.AAPL") > 20, because="ticks flow")
    victim = mcm.status().router.pid
    assert victim is not None

    os.kill(victim, signal.SIGKILL)
    mcm.wait(lambda status: status.router.restarts == 1 and status.state == "ready", because="the router is back")

    seen = {topic: subscriber.count(topic) for topic in ("stocks.T.AAPL", "stocks.T.JPM", "stocks.T.SHOP")}
    wait_until(
        lambda: all(subscriber.count(topic) > count + 20 for topic, count in seen.items()),
        because="every line's ticks reach the old socket",
    )
    assert all(line.restarts == 0 for line in mcm.status().connections.values())


def test_a_hung_worker_is_ended_with_its_stack_in_the_log_and_restarted(three_lines: tuple[Simulator, Mcm]) -> None:
    _, mcm = three_lines
    victim = mcm.status().connections["secondary"].pid
    assert victim is not None

    os.kill(victim, signal.SIGSTOP)
    mcm.wait(
        lambda status: status.connections["secondary"].restarts == 1 and status.state == "ready",
        because="a stopped worker is replaced",
        within_s=30,
    )

    assert "Fatal Python error: Aborted" in mcm.log("secondary")
    assert "its main loop has not turned" in mcm.log("supervisor")


def test_a_stop_of_three_seconds_costs_a_worker_nothing(three_lines: tuple[Simulator, Mcm]) -> None:
    _, mcm = three_lines
    subscriber = mcm.subscribe(b"stocks.T.AAPL\0")
    wait_until(lambda: subscriber.count("stocks.T.AAPL") > 5, because="ticks flow")
    worker = mcm.wait(
        lambda status: status.connections["primary"].last_tick_age_s is not None, because="it has reported ticks"
    ).connections["primary"]
    assert worker.pid is not None

    os.kill(worker.pid, signal.SIGSTOP)
    mcm.wait(
        lambda status: (status.connections["primary"].last_tick_age_s or 0) > 2.5, because="it is silent for a while"
    )
    os.kill(worker.pid, signal.SIGCONT)
    seen = subscriber.count("stocks.T.AAPL")
    wait_until(lambda: subscriber.count("stocks.T.AAPL") > seen + 200, because="it catches up")

    numbers = subscriber.upstream_sequences("stocks.T.AAPL")
    tape = [json.loads(text)["q"] for text in three_lines[0].remote.tape("stocks.T.AAPL")]
    assert numbers == tape[tape.index(numbers[0]) :][: len(numbers)]
    assert mcm.status().connections["primary"].restarts == 0


def test_a_worker_that_crashes_again_and_again_is_parked_and_its_topics_are_carried_by_the_others(
    three_lines: tuple[Simulator, Mcm],
) -> None:
    _, mcm = three_lines

    def kill_it(status: Status) -> bool:
        line = status.connections["primary"]
        if line.pid is not None and line.state in {"live", "connecting"}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(line.pid, signal.SIGKILL)
        return line.state == "parked"

    mcm.wait(kill_it, because="five crashes within a minute are enough", within_s=60)
    status = mcm.wait(
        lambda status: sum(line.confirmed for line in status.connections.values()) == 10,
        because="the survivors carry every topic",
    )

    assert "crashes in 60 s" in status.connections["primary"].reason
    assert status.state == "degraded"
    restarted = mcm.cli("restart", "primary")
    assert restarted.returncode == 0
    mcm.wait_ready()


# --- the vendor -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["close", "abort", "reset"])
def test_a_dropped_line_is_dialled_again_once_and_asks_again_for_everything(
    three_lines: tuple[Simulator, Mcm], mode: str
) -> None:
    simulator, mcm = three_lines
    dropped = next(one for one in simulator.remote.report().open_connections() if "T.JPM" in one.items)

    simulator.remote.drop(mode=mode, connection=dropped.number)  # type: ignore[arg-type]
    status = mcm.wait(
        lambda status: (
            status.connections["secondary"].reconnects == 1
            and status.state == "ready"
            and sum(line.confirmed for line in status.connections.values()) == 10
        ),
        because="the line is back, and every topic is carried once, by it or by whoever took over",
    )

    assert sum(status.connections["secondary"].errors.values()) == 1
    assert [line.reconnects for line in status.connections.values()] == [0, 1, 0]
    assert len(simulator.remote.report().dials) == 4


def test_a_half_open_line_is_noticed_and_dialled_again(three_lines: tuple[Simulator, Mcm]) -> None:
    simulator, mcm = three_lines
    frozen = next(one for one in simulator.remote.report().open_connections() if "T.JPM" in one.items)

    simulator.remote.freeze(connection=frozen.number)
    status = mcm.wait(
        lambda status: (
            status.connections["secondary"].reconnects >= 1 and status.connections["secondary"].state == "live"
        ),
        because="a line that is dead without a sign is given up",
        within_s=40,
    )

    assert set(status.connections["secondary"].errors) <= {"no_pong", "stale"}  # silence, or a ping without answer
    assert len(simulator.remote.report().dials) == 4


def test_a_refused_key_stops_the_account_and_says_what_to_do(vendor: Callable[..., Simulator], start: Start) -> None:
    simulator = vendor()
    simulator.remote.refuse_key()
    mcm = start(THREE_LINES.format(feed=feed_of(simulator)), pattern="down")

    status = mcm.wait(
        lambda status: all(line.state == "down" for line in status.connections.values()), because="nobody dials on"
    )

    assert "put the right one into MASSIVE_API_KEY" in status.connections["primary"].reason
    assert len(simulator.remote.report().dials) == 1
    simulator.remote.accept_key()
    mcm.cli("restart", "primary")
    mcm.wait_ready()


@pytest.mark.parametrize("cap_mode", ["evict-oldest", "refuse-newest"])
def test_an_account_with_one_connection_ends_with_one_line_that_carries_everything(
    vendor: Callable[..., Simulator], start: Start, cap_mode: str
) -> None:
    simulator = vendor("--cap", "1", "--cap-mode", cap_mode)
    mcm = start(THREE_LINES.format(feed=feed_of(simulator)), pattern="parked")

    status = mcm.wait(
        lambda status: (
            status.account["stocks"].allowed == status.account["stocks"].running == 1
            and max(line.confirmed for line in status.connections.values()) == 10
        ),
        because="one line carries every topic",
    )

    assert status.state == "degraded"
    assert "the account allows 1, running 1 of 3" in status.reason
    (standing,) = simulator.remote.report().open_connections()
    assert len(standing.items) == 10
    assert len(simulator.remote.report().dials) <= 4


def test_a_broken_event_costs_none_of_its_neighbours(vendor: Callable[..., Simulator], start: Start) -> None:
    simulator = vendor()
    mcm = start(ONE_LINE.format(feed=feed_of(simulator)))
    subscriber = mcm.subscribe(b"stocks.T.AAPL\0")
    wait_until(lambda: subscriber.count("stocks.T.AAPL") > 10, because="ticks flow")

    for fault in ("malformed-frame", "unknown-event", "missing-symbol", "wrong-type", "float-integer"):
        simulator.remote.fault(fault, times=3)
    status = mcm.wait(
        lambda status: sum(status.connections["primary"].errors.values()) >= 12, because="every broken one is counted"
    )
    seen = subscriber.count("stocks.T.AAPL")
    wait_until(lambda: subscriber.count("stocks.T.AAPL") > seen + 50, because="ticks flow on")

    numbers = subscriber.upstream_sequences("stocks.T.AAPL")
    tape = [json.loads(text)["q"] for text in simulator.remote.tape("stocks.T.AAPL")]
    assert numbers == tape[tape.index(numbers[0]) :][: len(numbers)]
    reasons = status.connections["primary"].errors
    assert reasons["not JSON"] == 3
    assert reasons["unknown kind NEWS"] == 3
    assert status.connections["primary"].reconnects == 0


def test_data_confirms_what_the_vendor_does_not_acknowledge(vendor: Callable[..., Simulator], start: Start) -> None:
    simulator = vendor()
    simulator.remote.acknowledge(mode="swallow")
    mcm = start(ONE_LINE.format(feed=feed_of(simulator)))

    status = mcm.wait_ready()

    assert status.connections["primary"].confirmed == 4


def test_what_is_neither_acknowledged_nor_ticks_is_asked_twice_and_then_named(
    vendor: Callable[..., Simulator], start: Start
) -> None:
    simulator = vendor()
    simulator.remote.plan(lacks=("stocks.Q",))
    mcm = start(ONE_LINE.format(feed=feed_of(simulator)))

    status = mcm.wait(
        lambda status: bool(status.connections["primary"].unconfirmed), because="it gives up", within_s=30
    )

    assert status.connections["primary"].unconfirmed == ["Q.AAPL", "Q.MSFT"]
    assert status.connections["primary"].state == "live"
    assert "unconfirmed Q.AAPL, Q.MSFT" in mcm.cli("status").stdout


# --- subscribers ------------------------------------------------------------------------------------------------------


def test_a_subscriber_that_stops_reading_disturbs_nobody_and_costs_bounded_memory(
    vendor: Callable[..., Simulator], start: Start
) -> None:
    simulator = vendor("--ticks-per-s", "8000")
    mcm = start(THREE_LINES.format(feed=feed_of(simulator)))
    router = mcm.wait_ready().router.pid
    healthy = mcm.subscribe(b"stocks.T.AAPL\0")
    script = (
        "import sys, time, zmq; s = zmq.Context().socket(zmq.SUB); s.subscribe(b''); s.connect(sys.argv[1]);"
        "s.recv(); print('stuck', flush=True); time.sleep(1000)"
    )
    with mcm.python("-c", script, f"ipc://{mcm.run_dir}/ticks") as stuck:
        assert stuck.stdout is not None
        stuck.stdout.readline()
        before = resident_bytes(router)
        seen = healthy.count("stocks.T.AAPL")
        wait_until(lambda: healthy.count("stocks.T.AAPL") > seen + 5_000, because="the healthy one reads on")
        grown = resident_bytes(router) - before
        stuck.kill()
    seen = healthy.count("stocks.T.AAPL")
    wait_until(lambda: healthy.count("stocks.T.AAPL") > seen + 500, because="its death disturbs nobody")

    assert grown < 20_000_000
    assert is_dense(healthy.messages["stocks.T.AAPL"])
    assert mcm.status().router.restarts == 0
