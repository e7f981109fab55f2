"""The orders by which a test makes the stand-in vendor misbehave: what each takes, means and changes.

An order is a record; carrying it out returns what its acknowledgement says.  `orders_http` brings them in by HTTP,
`remote` sends them.  What an order refuses is a BadOrder, and then nothing has been changed.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from mcm.core.markets import MARKETS
from mcm.simulator import CapMode, faults
from mcm.simulator.connection import REPEATABLE, Acknowledging, Connection, Packing
from mcm.simulator.frames import FORCE_DISCONNECT, text_frame
from mcm.simulator.keys import Entitlement
from mcm.simulator.origin import MINUTE_BARS, SECOND_BARS
from mcm.simulator.vendor import POLICY_VIOLATION, Vendor, wall_ms

__all__ = [
    "ORDERS", "AcceptKey", "AcceptUpgrades", "Acknowledge", "BadOrder", "Cap", "Correct", "Drop", "FailRest", "Freeze",
    "Inject", "Kick", "MakeFault", "Order", "Pace", "Pause", "Plan", "RefuseKey", "RefuseUpgrades", "Repeat", "Resume",
    "Silence", "Speak", "name_of",
]  # fmt: skip

Count = Annotated[int, Meta(ge=0)]
CloseCode = Annotated[int, Meta(ge=1000, le=4999)]


class BadOrder(ValueError):
    """An order that cannot be carried out: what is wrong, and what would work."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem, hint)
        self.problem, self.hint = problem, hint

    def __str__(self) -> str:
        return f"{self.problem}; {self.hint}"


class Order(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all orders."""

    def carry_out(self, vendor: Vendor) -> Any:
        """Do it; the result is what stands under ``ok``."""
        raise NotImplementedError


class ConnectionOrder(Order, frozen=True):
    """Base of the orders about connections: which open ones is meant; all that is given must fit, nothing means all."""

    connection: int | None = None
    market: str | None = None
    key: str | None = None

    def carry_out(self, vendor: Vendor) -> Any:
        chosen = self.choose(vendor)
        for connection in chosen:
            self.treat(vendor, connection)
        return {"connections": [connection.number for connection in chosen]}

    def treat(self, vendor: Vendor, connection: Connection) -> None:
        """Do it to one connection."""
        raise NotImplementedError

    def choose(self, vendor: Vendor) -> list[Connection]:
        is_open = [connection for connection in vendor.connections.values() if connection.is_open]
        if self.market is not None:
            _check_market(self.market)
        chosen = [
            connection
            for connection in is_open
            if self.connection in {None, connection.number}
            and self.market in {None, connection.market}
            and self.key in {None, connection.key}
        ]
        if self.connection is not None and not chosen:
            raise BadOrder(
                f"connection {self.connection} is not open, or not of that market and key",
                f"open connections: {', '.join(str(connection.number) for connection in is_open) or 'none'}",
            )
        return chosen


# --- ending and stopping connections --------------------------------------------------------------------------------


class Drop(ConnectionOrder, frozen=True):
    """End connections: ``close`` with a close frame of *code*, ``abort`` without one, ``reset`` with a TCP reset."""

    mode: Literal["close", "abort", "reset"] = "close"
    code: CloseCode = 1001

    def treat(self, vendor: Vendor, connection: Connection) -> None:
        match self.mode:
            case "close":
                connection.close(self.code)
            case "abort":
                connection.abort()
            case "reset":
                connection.reset()


class Kick(ConnectionOrder, frozen=True):
    """End connections with a status; after ``slow_consumer`` comes an abort, after the others a close with 1008."""

    status: Literal["slow_consumer", "force_disconnect", "max_connections"] = "slow_consumer"

    def treat(self, vendor: Vendor, connection: Connection) -> None:
        match self.status:
            case "slow_consumer":
                vendor.cut_slow(connection)
            case "force_disconnect":
                connection.close(POLICY_VIOLATION, FORCE_DISCONNECT)
            case "max_connections":
                vendor.evict(connection)


class Silence(ConnectionOrder, frozen=True):
    """Send no more events; pings and subscriptions are answered.  What ticks meanwhile is missed."""

    def treat(self, vendor: Vendor, connection: Connection) -> None:
        connection.silence()


class Speak(ConnectionOrder, frozen=True):
    """End a silence."""

    def treat(self, vendor: Vendor, connection: Connection) -> None:
        connection.speak(vendor.tape.topics.values())


class Freeze(ConnectionOrder, frozen=True):
    """Half-open: neither read nor write, answer no ping, keep TCP and the place under the cap, until dropped."""

    def treat(self, vendor: Vendor, connection: Connection) -> None:
        connection.freeze()


# --- what connections are sent --------------------------------------------------------------------------------------


class Acknowledge(ConnectionOrder, frozen=True):
    """How subscriptions are acknowledged, now and, without *connection* and *key*, on connections to come.

    ``swallow`` never acknowledges, though data flows; ``delay`` does so after *delay_s*.  Packing: statuses per frame.
    """

    mode: Literal["normal", "swallow", "delay"] = "normal"
    delay_s: Annotated[float, Meta(ge=0)] = 0.0
    packing: Packing = "many"

    def carry_out(self, vendor: Vendor) -> Any:
        if self.connection is None and self.key is None:
            for market in _markets(self.market):
                vendor.acknowledging[market] = self._acknowledging()
        return super().carry_out(vendor)

    def treat(self, vendor: Vendor, connection: Connection) -> None:
        connection.acknowledging = self._acknowledging()

    def _acknowledging(self) -> Acknowledging:
        return Acknowledging(self.mode, self.delay_s, self.packing)


class MakeFault(ConnectionOrder, frozen=True, kw_only=True):
    """Break something: a malformed frame at once; a useless event in the middle of the next frame with events; or the
    next *times* events with an integer written as ``12.0``, which are still good.
    """

    fault: faults.Fault
    times: Annotated[int, Meta(ge=1, le=10_000)] = 1

    def treat(self, vendor: Vendor, connection: Connection) -> None:
        match self.fault:
            case "malformed-frame":
                connection.write(text_frame(faults.MALFORMED_FRAME) * self.times)
            case "float-integer":
                connection.floats += self.times
            case _:
                channel = next(iter(MARKETS[connection.market].channels))
                connection.riders += [faults.bad_event(self.fault, channel, int(wall_ms()))] * self.times


class Inject(ConnectionOrder, frozen=True):
    """Send literal text *frames* at once, and literal *events* in the middle of the next frame with events."""

    frames: tuple[str, ...] = ()
    events: tuple[str, ...] = ()

    def treat(self, vendor: Vendor, connection: Connection) -> None:
        connection.write(b"".join(map(text_frame, self.frames)))
        connection.riders += self.events


class Repeat(ConnectionOrder, frozen=True):
    """Send the *last* so many events again, unchanged."""

    last: Annotated[int, Meta(ge=1, le=REPEATABLE)] = 1

    def treat(self, vendor: Vendor, connection: Connection) -> None:
        connection.repeat(self.last)


class Correct(ConnectionOrder, frozen=True, kw_only=True):
    """Send the last bar of *topic* (``stocks.AM.AAPL``) again with other values to those who hold it; REST follows."""

    topic: str

    def carry_out(self, vendor: Vendor) -> Any:
        topic = vendor.tape.topics.get(self.topic)
        if topic is None or topic.channel not in SECOND_BARS | MINUTE_BARS or topic.count == 0:
            raise BadOrder(
                f"{self.topic} has no bar yet", "name a topic such as stocks.AM.AAPL that has been subscribed"
            )
        holders = [connection for connection in self.choose(vendor) if connection.holds(topic)]
        bar = topic.correct_last(faults.corrected)
        for connection in holders:
            connection.send(bar)
        return {"connections": [connection.number for connection in holders], "event": bar, "n": topic.count}


# --- the tape -------------------------------------------------------------------------------------------------------


class Pause(Order, frozen=True):
    """Stop the tape: nothing ticks, for anybody."""

    def carry_out(self, vendor: Vendor) -> Any:
        vendor.tape.pause()
        return {}


class Resume(Order, frozen=True):
    """Let the tape go on; what would have been due meanwhile is not made up for."""

    def carry_out(self, vendor: Vendor) -> Any:
        vendor.tape.resume(wall_ms())
        return {}


class Pace(Order, frozen=True):
    """Set the rate of the tape, over all topics together, bars not counted."""

    ticks_per_s: Annotated[float, Meta(ge=0)]

    def carry_out(self, vendor: Vendor) -> Any:
        vendor.tape.set_rate(self.ticks_per_s, wall_ms())
        return {}


# --- the account ----------------------------------------------------------------------------------------------------


class RefuseKey(Order, frozen=True):
    """Answer *key* (``*``: every key) with auth_failed, or REST 401, from now on."""

    key: str = "*"

    def carry_out(self, vendor: Vendor) -> Any:
        vendor.keys.refuse(self.key)
        return {}


class AcceptKey(Order, frozen=True):
    """Take that back; where only listed keys are accepted, add *key* to them."""

    key: str = "*"

    def carry_out(self, vendor: Vendor) -> Any:
        vendor.keys.accept(self.key)
        return {}


class Plan(Order, frozen=True):
    """What *key* (``*``: every key without a plan of its own) may do, from its next auth on.

    *markets*: those of the plan, null for all; *lacks*: channels left out of it, such as ``stocks.Q``.
    """

    key: str = "*"
    markets: tuple[str, ...] | None = None
    lacks: tuple[str, ...] = ()

    def carry_out(self, vendor: Vendor) -> Any:
        for market in self.markets or ():
            _check_market(market)
        for lacking in self.lacks:
            market, _, channel = lacking.partition(".")
            _check_market(market)
            if channel not in MARKETS[market].channels:
                raise BadOrder(f"{lacking} is no channel", f"{market} has {', '.join(MARKETS[market].channels)}")
        markets = None if self.markets is None else frozenset(self.markets)
        vendor.keys.entitle(self.key, Entitlement(markets, frozenset(self.lacks)))
        return {}


class Cap(Order, frozen=True):
    """Set how many connections one key may have per market (0: any number), from the next auth on."""

    cap: Count
    mode: CapMode | None = None

    def carry_out(self, vendor: Vendor) -> Any:
        vendor.cap = self.cap
        vendor.cap_mode = self.mode or vendor.cap_mode
        return {"cap": vendor.cap, "mode": vendor.cap_mode}


class RefuseUpgrades(Order, frozen=True):
    """Answer dials of *market* (null: of all) with HTTP 503."""

    market: str | None = None

    def carry_out(self, vendor: Vendor) -> Any:
        vendor.refuses_upgrades.update(_markets(self.market))
        return {"refused": sorted(vendor.refuses_upgrades)}


class AcceptUpgrades(Order, frozen=True):
    """Take that back."""

    market: str | None = None

    def carry_out(self, vendor: Vendor) -> Any:
        vendor.refuses_upgrades.difference_update(_markets(self.market))
        return {"refused": sorted(vendor.refuses_upgrades)}


class FailRest(Order, frozen=True):
    """Answer the next *times* REST requests with HTTP *status*; 0 times ends what was ordered before."""

    status: Annotated[int, Meta(ge=400, le=599)] = 429
    times: Annotated[int, Meta(ge=0, le=10_000)] = 1

    def carry_out(self, vendor: Vendor) -> Any:
        vendor.rest_failures.clear()
        vendor.rest_failures.extend([self.status] * self.times)
        return {}


def _check_market(market: str) -> None:
    if market not in MARKETS:
        raise BadOrder(f"{market} is no market", f"markets: {', '.join(MARKETS)}")


def _markets(market: str | None) -> Iterable[str]:
    if market is None:
        return MARKETS
    _check_market(market)
    return (market,)


ORDERS: dict[str, type[Order]] = {
    "drop": Drop,
    "kick": Kick,
    "silence": Silence,
    "speak": Speak,
    "freeze": Freeze,
    "acknowledge": Acknowledge,
    "fault": MakeFault,
    "inject": Inject,
    "repeat": Repeat,
    "correct": Correct,
    "pause": Pause,
    "resume": Resume,
    "pace": Pace,
    "refuse-key": RefuseKey,
    "accept-key": AcceptKey,
    "plan": Plan,
    "cap": Cap,
    "refuse-upgrades": RefuseUpgrades,
    "accept-upgrades": AcceptUpgrades,
    "fail-rest": FailRest,
}
_NAMES = {kind: name for name, kind in ORDERS.items()}


def name_of(order: Order) -> str:
    """The last part of the order's path."""
    return _NAMES[type(order)]
