"""The stand-in vendor: speaks Massive's WebSocket and REST protocols on this machine and takes orders to misbehave.

It imports no event struct of mcm, so that client and simulator cannot share a misreading of the protocol.
Importing this package is cheap; aiohttp is loaded when `serve` is called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["CannotListen", "CapMode", "SimulatorSettings", "serve"]

CapMode = Literal["evict-oldest", "refuse-newest"]


@dataclass(frozen=True, kw_only=True)
class SimulatorSettings:
    """How one simulator behaves; everything here but the addresses and the seed can be changed by an order later.

    Attributes:
        host: address of both ports; the simulator is a toy for one machine, so leave it on the loopback.
        port: of the WebSocket server; 0 takes a free one.
        orders_port: of orders, reports and REST; 0 takes a free one.
        seed: the tape is a pure function of (seed, topic, n).
        ticks_per_s: events per second over all topics together, bars not counted; every topic gets the same share.
        cap: connections per key and market, as the vendor's business plans have 3; 0 lifts the cap.
        cap_mode: whom one connection too many costs its place.
        keys: the accepted API keys; None accepts every key but those that begin with ``bad``.
        max_events_per_frame: 1 to 1,000; the vendor's frames stay below 1,000,000 bytes.
        turn_ms: what is due within so many milliseconds shares frames; less buys latency with CPU time.
        minute_bars_every_s: below 60 the minute bars run ahead of the clock, so that a test need not wait a minute.
        auth_timeout_s: a connection that has not authenticated by then is closed.
        send_buffer_bytes: a connection with more than this unsent is a slow consumer and is cut.
    """

    host: str = "127.0.0.1"
    port: int = 0
    orders_port: int = 0
    seed: int = 1
    ticks_per_s: float = 1_000
    cap: int = 3
    cap_mode: CapMode = "evict-oldest"
    keys: tuple[str, ...] | None = None
    max_events_per_frame: int = 50
    turn_ms: float = 2
    minute_bars_every_s: float = 60
    auth_timeout_s: float = 10
    send_buffer_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        if not 1 <= self.max_events_per_frame <= 1_000:
            raise ValueError(f"max_events_per_frame is {self.max_events_per_frame}, not 1 to 1000")
        for name in ("ticks_per_s", "cap", "send_buffer_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is negative")
        for name in ("port", "orders_port"):
            if not 0 <= getattr(self, name) <= 65_535:
                raise ValueError(f"{name} is {getattr(self, name)}, not 0 to 65535")
        for name in ("turn_ms", "minute_bars_every_s", "auth_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is not above 0")


class CannotListen(Exception):
    """A port cannot be had; another program has it, or nobody may."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(host, port, reason)
        self.host, self.port, self.reason = host, port, reason

    def __str__(self) -> str:
        return f"cannot listen on {self.host}:{self.port}: {self.reason}"


async def serve(settings: SimulatorSettings, ready: Callable[[int, int], None]) -> None:
    """Run a simulator until cancelled; *ready* is told (port, orders port) once both are listening.

    Raises CannotListen when a port cannot be had.
    """
    from mcm.simulator.server import run  # noqa: PLC0415 - aiohttp costs 200 ms and 12 MB

    await run(settings, ready)
