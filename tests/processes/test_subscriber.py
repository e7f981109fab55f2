"""The ways to read a Subscriber, and where it begins."""

import asyncio
import time
from collections.abc import Callable

import pytest

import mcm as package
from mcm.core.errors import NotRunning, UsageError
from mcm.core.events import EquityQuote, EquityTrade
from mcm.simulator.launch import Simulator
from tests.processes.stack import THREE_LINES, Mcm, Start


@pytest.fixture
def running(vendor: Callable[..., Simulator], start: Start) -> Mcm:
    simulator = vendor("--ticks-per-s", "1000")
    stack = start(THREE_LINES.format(feed=f"ws://127.0.0.1:{simulator.port}"))
    stack.wait_ready()
    return stack


def test_it_is_an_iterator_of_typed_ticks_with_the_names_of_the_vendors_client(running: Mcm) -> None:
    with package.Subscriber(["T.AAPL", "stocks.Q.MSFT"], run_dir=running.run_dir) as subscriber:
        ticks = [next(subscriber) for _ in range(50)]
        current = subscriber.current

    trades = [tick for tick in ticks if isinstance(tick, EquityTrade)]
    quotes = [tick for tick in ticks if isinstance(tick, EquityQuote)]
    assert len(trades) + len(quotes) == 50
    assert {trade.symbol for trade in trades} == {"AAPL"}
    assert {quote.symbol for quote in quotes} == {"MSFT"}
    assert all(trade.price and trade.sequence_number for trade in trades)
    assert current is not None
    assert current.connection == "primary"
    assert current.topic in {"stocks.T.AAPL", "stocks.Q.MSFT"}


def test_messages_and_raw_and_a_callback_give_the_same_ticks(running: Mcm) -> None:
    begin = time.time_ns()

    def enough(subscriber: package.Subscriber, numbers: list[int | None]) -> list[int | None]:
        if len(numbers) >= 100:
            subscriber.stop()
        return numbers

    by_callback: list[int | None] = []
    with package.Subscriber("T.AAPL", run_dir=running.run_dir, since=begin) as subscriber:
        subscriber.run(lambda tick: enough(subscriber, by_callback).append(getattr(tick, "sequence_number", None)))
    by_message: list[int | None] = []
    with package.Subscriber("T.AAPL", run_dir=running.run_dir, since=begin) as subscriber:
        for topic, ticks in subscriber.messages():
            assert topic == "stocks.T.AAPL"
            by_message += [getattr(tick, "sequence_number", None) for tick in ticks]
            enough(subscriber, by_message)
    with package.Subscriber("T.AAPL", run_dir=running.run_dir, since=begin) as subscriber:
        name, encoded = next(subscriber.raw())

    assert by_callback[:100] == by_message[:100]
    assert name == b"stocks.T.AAPL"
    assert b"AAPL" in encoded


def test_it_can_be_awaited_while_the_event_loop_goes_on(running: Mcm) -> None:
    async def read() -> tuple[int, int]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        other = asyncio.create_task(turn())
        count = 0
        with package.Subscriber("AAPL", run_dir=running.run_dir) as subscriber:
            async for _ in subscriber:
                count += 1
                if count == 100:
                    break
        other.cancel()
        return count, turns

    count, turns = asyncio.run(asyncio.wait_for(read(), 20))

    assert count == 100
    assert turns > 5


def test_it_begins_with_what_was_received_since_a_time(running: Mcm) -> None:
    with package.Subscriber("stocks.*", run_dir=running.run_dir) as subscriber:
        for _ in range(300):
            next(subscriber)
    since = time.time_ns()
    with package.Subscriber("stocks.*", run_dir=running.run_dir) as subscriber:
        for _ in range(300):
            next(subscriber)

    with package.Subscriber("stocks.*", run_dir=running.run_dir, since=since) as subscriber:
        next(subscriber)
        first = subscriber.current

    assert first is not None
    assert since <= first.received_ns < since + 200_000_000


def test_it_can_begin_with_the_last_value_of_every_topic(running: Mcm) -> None:
    with package.Subscriber("stocks.*", run_dir=running.run_dir) as subscriber:
        for _ in range(300):
            next(subscriber)

    with package.Subscriber("stocks.*", run_dir=running.run_dir, last=True) as subscriber:
        topics = []
        for _ in range(10):
            next(subscriber)
            assert subscriber.current is not None
            topics.append(subscriber.current.topic)

    assert len(set(topics)) == 10


def test_conflated_it_gives_the_newest_tick_of_a_topic_once_in_a_while_and_counts_the_others(running: Mcm) -> None:
    with package.Subscriber("T.AAPL", run_dir=running.run_dir, conflate_ms=300) as subscriber:
        began = time.monotonic()
        numbers = []
        for _ in range(5):
            next(subscriber)
            assert subscriber.current is not None
            numbers.append(subscriber.current.sequence)
        took_s = time.monotonic() - began
        counters = subscriber.counters

    assert took_s > 1.2
    assert numbers == sorted(set(numbers))
    assert counters.delivered == 5
    first = numbers[-1] + 1 - counters.delivered - counters.conflated
    assert first <= numbers[0], "Δsequence = delivered + conflated"
    assert counters.lost == 0


def test_where_nothing_runs_it_says_so(mcm: Mcm) -> None:
    with pytest.raises(NotRunning, match="nothing runs there"):
        package.Subscriber("T.AAPL", run_dir=mcm.run_dir)


def test_it_outlives_a_restart_of_mcm_and_names_no_loss(running: Mcm) -> None:
    with package.Subscriber("T.AAPL", run_dir=running.run_dir) as subscriber:
        first = [next(subscriber) for _ in range(20)]
        running.cli("stop")
        running.cli("start", "--config", str(running.config), "--detach")
        second = [next(subscriber) for _ in range(20)]

    numbers = [getattr(tick, "sequence_number", 0) for tick in first + second]
    assert numbers == sorted(set(numbers))


def test_what_is_not_possible_is_refused_with_a_hint(running: Mcm) -> None:
    with pytest.raises(UsageError, match="no topics were given"):
        package.Subscriber([], run_dir=running.run_dir)
    with pytest.raises(UsageError, match="a cursor says where to begin"):
        package.Subscriber("T.AAPL", run_dir=running.run_dir, cursor=b"x", last=True)
    with pytest.raises(UsageError, match="is no topic"):
        package.Subscriber("AAPL", run_dir=running.run_dir, demand=True)


def test_a_wait_that_is_given_up_costs_no_tick(running: Mcm) -> None:
    begin = time.time_ns()

    async def read() -> tuple[list[object], int]:
        numbers: list[object] = []
        given_up = 0
        with package.Subscriber("T.AAPL", run_dir=running.run_dir, since=begin) as subscriber:
            while len(numbers) < 100:
                try:
                    tick = await asyncio.wait_for(anext(subscriber), 0.002)
                    numbers.append(getattr(tick, "sequence_number", None))
                except TimeoutError:
                    given_up += 1
        return numbers, given_up

    numbers, given_up = asyncio.run(asyncio.wait_for(read(), 20))

    with package.Subscriber("T.AAPL", run_dir=running.run_dir, since=begin) as subscriber:
        again = [getattr(next(subscriber), "sequence_number", None) for _ in range(100)]
    assert given_up > 10
    assert numbers == again
