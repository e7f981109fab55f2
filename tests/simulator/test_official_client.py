"""The vendor's own client talks to the simulator, so that client and simulator cannot share one misreading."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from massive import WebSocketClient
from massive.websocket.models import EquityTrade, Market

from mcm.simulator.launch import Simulator

WANTED = 200


def test_the_official_client_receives_typed_trades_that_equal_the_tape(simulator: Simulator) -> None:
    received = asyncio.run(receive(simulator, "T.AAPL", "T.BRK.B"))

    trades = [trade for trade in received if trade.symbol == "AAPL"]
    assert all(type(trade) is EquityTrade for trade in received)
    assert {trade.symbol for trade in received} == {"AAPL", "BRK.B"}
    for trade, text in zip(trades, simulator.remote.tape("stocks.T.AAPL", 1, len(trades)), strict=True):
        event = json.loads(text)
        assert (trade.event_type, trade.symbol, trade.exchange, trade.id, trade.tape) == (
            "T", event["sym"], event["x"], event["i"], event["z"],
        )  # fmt: skip
        assert (trade.price, trade.size, trade.conditions, trade.timestamp, trade.sequence_number) == (
            event["p"], event["s"], event.get("c"), event["t"], event["q"],
        )  # fmt: skip


def test_the_official_client_comes_back_after_an_abort_with_its_subscriptions(
    simulator: Simulator, wait_until: Callable[..., None]
) -> None:
    def drop_once(received: list[Any]) -> None:
        if len(received) > WANTED // 2 and len(simulator.remote.report().dials) == 1:
            simulator.remote.drop(mode="abort")

    received = asyncio.run(receive(simulator, "T.AAPL", meanwhile=drop_once))

    numbers = [trade.sequence_number for trade in received]
    assert numbers == sorted(set(numbers))
    (first, second) = simulator.remote.report().connections
    assert first.ending == "aborted"
    assert second.ranges["stocks.T.AAPL"][0][0] > first.ranges["stocks.T.AAPL"][0][1]


async def receive(
    simulator: Simulator, *items: str, meanwhile: Callable[[list[Any]], None] = lambda _: None
) -> list[Any]:
    """The first trades that the client hands over, until there are enough."""
    client = WebSocketClient(
        api_key="good-key",
        feed=f"127.0.0.1:{simulator.port}",  # the address as the client's manual has it
        market=Market.Stocks,
        secure=False,
        subscriptions=list(items),
    )
    received: list[Any] = []
    enough = asyncio.Event()

    async def take(messages: list[Any]) -> None:
        received.extend(messages)
        meanwhile(received)
        if len(received) >= WANTED:
            enough.set()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(client.connect(take, proxy=None))
        await enough.wait()
        await client.close()  # and not cancel(): Python 3.11's wait_for, in a busy client, can swallow that
    return received
