"""A worker learns from the system how long it waited for a processor, and rests behind small batches then."""

import asyncio
import os
import subprocess
import sys
import time
from typing import cast

import pytest

from mcm.core.events import Tick
from mcm.core.massive import FrameDecoder
from mcm.core.respite import LONGEST_S, LOOK_S
from mcm.core.wire import Group
from mcm.outlet import Outlet
from mcm.waits import Waits
from workers.connection import FULL_BATCH, Gatherer


class Sink:
    """An outlet that counts."""

    def __init__(self) -> None:
        self.batches = 0

    def send(self, groups: list[Group], *, received_ns: int, monotonic_ns: int) -> None:
        self.batches += bool(groups and received_ns and monotonic_ns)


class Crowd(Waits):
    """A thread that waits for half of the time."""

    def __init__(self) -> None:
        super().__init__(-1)

    def read_ns(self) -> int:
        return time.monotonic_ns() // 2


def ticks(number: int) -> list[Tick]:
    events = b",".join(b'{"ev":"T","sym":"AAPL","q":%d}' % q for q in range(number))
    return FrameDecoder("stocks").decode(b"[" + events + b"]").ticks


def rests(monkeypatch: pytest.MonkeyPatch, *, batch: int, waits: Waits | None) -> list[float]:
    """What a gatherer slept, over batches for a fifth of a second."""
    slept: list[float] = []
    monkeypatch.setattr(Waits, "of_this_thread", lambda: waits)
    monkeypatch.setattr(time, "sleep", slept.append)
    sink = Sink()

    async def gather() -> None:
        gatherer = Gatherer("stocks", cast(Outlet, sink))
        until = time.monotonic() + 4 * LOOK_S
        while time.monotonic() < until:
            gatherer.add(ticks(batch))
            await asyncio.sleep(0)

    asyncio.run(gather())
    assert sink.batches > 1
    return slept


def test_where_it_waits_for_a_processor_it_rests_behind_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = rests(monkeypatch, batch=1, waits=Crowd())

    assert slept
    assert max(slept) <= LONGEST_S


def test_behind_full_batches_it_does_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rests(monkeypatch, batch=FULL_BATCH, waits=Crowd()) == []


def test_where_the_system_does_not_say_it_does_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rests(monkeypatch, batch=1, waits=None) == []


def test_waiting_for_a_processor_is_counted() -> None:
    """This thread and a busy process share one processor."""
    waits, allowed = Waits.of_this_thread(), os.sched_getaffinity(0)
    assert waits is not None
    before = waits.read_ns()
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as rival:
            try:
                until = time.monotonic() + 10
                while waits.read_ns() - before < 50_000_000 and time.monotonic() < until:
                    pass
            finally:
                rival.kill()
    finally:
        os.sched_setaffinity(0, allowed)

    assert waits.read_ns() - before >= 50_000_000
