"""The remote control of a running simulator: one method per order, and what it reports.

Plain blocking HTTP, for tests of any program::

    remote = Remote(orders_port)
    remote.drop(market="stocks", mode="abort")
    assert remote.report().dials_within(60) < 5
"""

import http.client
from typing import Literal, TypedDict, TypeVar, Unpack
from urllib.parse import urlencode

import msgspec

from mcm.simulator import CapMode, orders
from mcm.simulator.connection import Packing
from mcm.simulator.faults import Fault
from mcm.simulator.report import Report, TapeSlice

__all__ = ["Remote", "Which"]

Answer = TypeVar("Answer")
SLICE = 50_000


class Which(TypedDict, total=False):
    """Which of the open connections are meant: all that is given must fit, nothing means all of them."""

    connection: int
    market: str
    key: str


class _Acknowledged(msgspec.Struct):
    ok: msgspec.Raw


class _Connections(msgspec.Struct):
    connections: list[int]


class _Corrected(msgspec.Struct):
    event: str


class _Error(msgspec.Struct):
    problem: str
    hint: str


class _Refusal(msgspec.Struct):
    error: _Error


class Remote:
    """Sends orders and returns once they are acknowledged; what each does stands in `orders`.

    Orders about connections return the numbers of those that they reached.  Raises orders.BadOrder for an order that is
    refused, and OSError when no simulator listens.
    """

    def __init__(self, orders_port: int, *, host: str = "127.0.0.1", timeout_s: float = 10.0) -> None:
        self._host, self._port, self._timeout_s = host, orders_port, timeout_s
        self.url = f"http://{host}:{orders_port}"

    # --- what it says

    def report(self) -> Report:
        """Connections, topics, dials and counters at this moment."""
        return msgspec.json.decode(self._request("GET", "/report"), type=Report)

    def tape(self, topic: str, first: int = 1, last: int | None = None) -> list[str]:
        """Events *first* to *last* of e.g. ``stocks.T.AAPL``, each as it stood on the wire; None: as far as it is."""
        if last is None:
            last = self.report().topics[topic].count
        events: list[str] = []
        for start in range(first, last + 1, SLICE):
            query = urlencode({"topic": topic, "first": start, "last": min(start + SLICE - 1, last)})
            events += msgspec.json.decode(self._request("GET", f"/tape?{query}"), type=TapeSlice).events
        return events

    # --- ending and stopping connections

    def drop(
        self, *, mode: Literal["close", "abort", "reset"] = "close", code: int = 1001, **which: Unpack[Which]
    ) -> list[int]:
        """End connections; *code* is that of the close frame."""
        return self._to(orders.Drop(mode=mode, code=code, **which))

    def kick(
        self,
        status: Literal["slow_consumer", "force_disconnect", "max_connections"] = "slow_consumer",
        **which: Unpack[Which],
    ) -> list[int]:
        """End connections with a status of the vendor's."""
        return self._to(orders.Kick(status=status, **which))

    def silence(self, **which: Unpack[Which]) -> list[int]:
        """Send no more events, but answer pings."""
        return self._to(orders.Silence(**which))

    def speak(self, **which: Unpack[Which]) -> list[int]:
        """End a silence."""
        return self._to(orders.Speak(**which))

    def freeze(self, **which: Unpack[Which]) -> list[int]:
        """Make connections half-open."""
        return self._to(orders.Freeze(**which))

    # --- what connections are sent

    def acknowledge(
        self,
        mode: Literal["normal", "swallow", "delay"] = "normal",
        *,
        delay_s: float = 0.0,
        packing: Packing = "many",
        **which: Unpack[Which],
    ) -> list[int]:
        """Say how subscriptions are acknowledged, on connections to come as well."""
        return self._to(orders.Acknowledge(mode=mode, delay_s=delay_s, packing=packing, **which))

    def fault(self, fault: Fault, *, times: int = 1, **which: Unpack[Which]) -> list[int]:
        """Break a frame or an event."""
        return self._to(orders.MakeFault(fault=fault, times=times, **which))

    def inject(
        self, *, frames: tuple[str, ...] = (), events: tuple[str, ...] = (), **which: Unpack[Which]
    ) -> list[int]:
        """Send literal text frames, and literal events among the next ones."""
        return self._to(orders.Inject(frames=frames, events=events, **which))

    def repeat(self, last: int = 1, **which: Unpack[Which]) -> list[int]:
        """Send the last events again."""
        return self._to(orders.Repeat(last=last, **which))

    def correct(self, topic: str, **which: Unpack[Which]) -> str:
        """Send the last bar of *topic* again with other values; returns the bar."""
        return self._order(orders.Correct(topic=topic, **which), _Corrected).event

    # --- the tape

    def pause(self) -> None:
        """Stop the tape."""
        self._do(orders.Pause())

    def resume(self) -> None:
        """Let the tape go on."""
        self._do(orders.Resume())

    def pace(self, ticks_per_s: float) -> None:
        """Set the rate of the tape over all topics together."""
        self._do(orders.Pace(ticks_per_s=ticks_per_s))

    # --- the account

    def refuse_key(self, key: str = "*") -> None:
        """Refuse *key* from now on; ``*`` means all."""
        self._do(orders.RefuseKey(key=key))

    def accept_key(self, key: str = "*") -> None:
        """Take a refusal back, or add a key to those that are accepted."""
        self._do(orders.AcceptKey(key=key))

    def plan(self, key: str = "*", *, markets: tuple[str, ...] | None = None, lacks: tuple[str, ...] = ()) -> None:
        """Say what *key* may do from its next auth on; *lacks* names channels, as ``stocks.Q``."""
        self._do(orders.Plan(key=key, markets=markets, lacks=lacks))

    def cap(self, cap: int, mode: CapMode | None = None) -> None:
        """Set how many connections one key may have per market; 0 lifts the cap."""
        self._do(orders.Cap(cap=cap, mode=mode))

    def refuse_upgrades(self, market: str | None = None) -> None:
        """Answer dials with HTTP 503."""
        self._do(orders.RefuseUpgrades(market=market))

    def accept_upgrades(self, market: str | None = None) -> None:
        """Take that back."""
        self._do(orders.AcceptUpgrades(market=market))

    def fail_rest(self, status: int = 429, *, times: int = 1) -> None:
        """Answer the next REST requests with *status*."""
        self._do(orders.FailRest(status=status, times=times))

    # --- HTTP

    def _to(self, order: orders.ConnectionOrder) -> list[int]:
        return self._order(order, _Connections).connections

    def _do(self, order: orders.Order) -> None:
        self._order(order, dict)

    def _order(self, order: orders.Order, kind: type[Answer]) -> Answer:
        content = self._request("POST", f"/orders/{orders.name_of(order)}", msgspec.json.encode(order))
        return msgspec.json.decode(msgspec.json.decode(content, type=_Acknowledged).ok, type=kind)

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != http.client.OK:
            refusal = msgspec.json.decode(content, type=_Refusal).error
            raise orders.BadOrder(refusal.problem, refusal.hint)
        return content
