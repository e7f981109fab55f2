"""What stands behind an object between connect() and disconnect(): an mcm, and three threads.

One looks at mcm several times a second and renews leases, one calls the status callback, one reads ticks and calls the
tick callback.  So neither callback can hold up the other, or what is known of the connections.
"""

import contextlib
import functools
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from mcm import locks
from mcm.bus import CONTROL
from mcm.client import Control
from mcm.compat.connections import Told
from mcm.compat.spawning import Home, Supervisor
from mcm.core.errors import McmError, NotRunning, UsageError
from mcm.core.events import Tick
from mcm.core.follow import Lost, Reset
from mcm.core.gaps import GapRecord
from mcm.core.status import Status
from mcm.subscriber import Current, Subscriber

__all__ = ["Attached", "Engine", "Mcm", "Own", "Owner"]

log = logging.getLogger("mcm.compat")

LOOK_S = 0.2
FIRST_LOOKS_S = 0.05
PLAN_S = 1.0
RENEW_S = 10.0
RETRY_S = 0.2
START_AGAIN_S = (1.0, 30.0)
CALLBACK_S = 10.0  # that disconnect() waits for a callback to come back; at the end of the interpreter:
LAST_CALLBACK_S = 2.0
_number = itertools.count(1)
Answer = TypeVar("Answer")


class Owner(Protocol):
    """Who is told what happens; called by the engine's threads."""

    @property
    def wanted(self) -> frozenset[str]:
        """The topics that are."""

    def observe(self, status: Status, plan: dict[str, list[str]]) -> list[Told]:
        """How mcm stands."""

    def absent(self, reason: str, *, is_error: bool) -> list[Told]:
        """No mcm answers."""

    def deliver(self, topic: str, ticks: list[Tick], current: Current) -> None:
        """Ticks of a topic."""

    def lost(self, error: Lost | Reset) -> Told:
        """Ticks are lost for good."""

    def tell(self, told: Told) -> None:
        """Call the status callback."""


# --- the two kinds of mcm --------------------------------------------------------------------------------------------


class Mcm:
    """A running mcm, and how to ask it for topics; every method raises McmError where it cannot or will not."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def ask(self, question: Callable[[Control], Answer]) -> Answer:
        """Ask once, from any thread."""
        with self.control() as control:
            return question(control)

    def control(self) -> Control:
        """For one thread, which closes it."""
        if not (self.run_dir / CONTROL).exists():  # a request would wait for 5 s
            raise NotRunning(self.run_dir, "nothing runs there")
        return Control(self.run_dir)

    @property
    def is_there(self) -> bool:
        """Whether somebody runs on the run directory."""
        return locks.holder(self.run_dir) is not None

    def subscribe(self, topics: Sequence[str], line: str | None, wanted: Collection[str]) -> None:
        """Have *topics* carried, which are new among the *wanted* ones."""
        raise NotImplementedError

    def unsubscribe(self, topics: Sequence[str], wanted: Collection[str]) -> None:
        """Have *topics* carried no more; *wanted* are those that are left."""
        raise NotImplementedError

    def renew(self, wanted: Collection[str]) -> None:
        """Say again what is *wanted*, if that is forgotten otherwise."""

    def why_ended(self) -> str | None:
        """Why there is nothing behind it any more; None while there is, or where somebody else cares for it."""
        return None

    def start_again(self) -> bool:
        """Start what has ended; whether that can help."""
        return False

    def reads(self, wanted: Collection[str]) -> list[str]:
        """What a Subscriber has to subscribe for the *wanted* topics."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of it."""


class Own(Mcm):
    """An mcm that was started for this object, and ends with it."""

    def __init__(self, configuration: str, api_key: str, market: str) -> None:
        self._home, self._api_key, self._market = Home(configuration), api_key, market
        try:
            self._supervisor = Supervisor(self._home, api_key)
        except BaseException:
            self._home.remove()
            raise
        super().__init__(self._home.run_dir)

    def subscribe(self, topics: Sequence[str], line: str | None, wanted: Collection[str]) -> None:
        self.ask(lambda control: control.subscribe(topics, line))

    def unsubscribe(self, topics: Sequence[str], wanted: Collection[str]) -> None:
        self.ask(lambda control: control.unsubscribe(topics))

    def why_ended(self) -> str | None:
        return self._supervisor.why_ended()

    def start_again(self) -> bool:
        if self._supervisor.is_refused:
            return False
        self._supervisor = Supervisor(self._home, self._api_key)
        return True

    def reads(self, wanted: Collection[str]) -> list[str]:
        return [f"{self._market}.*"]  # there is nothing in it that is not wanted

    def close(self) -> None:
        self._supervisor.stop()
        self._home.remove()


class Attached(Mcm):
    """An mcm that runs for others as well: what is wanted is leased, and gone soon after nobody renews it."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self._holder = f"program {os.getpid()}-{next(_number)}"
        self.ask(lambda control: control.status())  # raises NotRunning

    def subscribe(self, topics: Sequence[str], line: str | None, wanted: Collection[str]) -> None:
        self.renew(wanted)
        if line is not None:
            for topic in topics:
                self.ask(functools.partial(Control.move, what=topic, connection=line))

    def unsubscribe(self, topics: Sequence[str], wanted: Collection[str]) -> None:
        self.renew(wanted)

    def renew(self, wanted: Collection[str]) -> None:
        if wanted:
            self.ask(lambda control: control.lease(self._holder, sorted(wanted)))
        else:
            self.ask(lambda control: control.release(self._holder))

    def reads(self, wanted: Collection[str]) -> list[str]:
        return sorted(wanted)

    def close(self) -> None:
        with contextlib.suppress(McmError):
            self.ask(lambda control: control.release(self._holder))


# --- the threads -----------------------------------------------------------------------------------------------------


class Engine:
    """An mcm with its three threads, for *owner*; start() once, stop() once.

    Args:
        told: topics that *mcm* carries already.
        since_ns: begin with ticks that were received then; None for those that come.
    """

    def __init__(
        self, mcm: Mcm, owner: Owner, *, told: Iterable[str], since_ns: int | None, skips_backfilled: bool
    ) -> None:
        self.mcm, self._owner = mcm, owner
        self._since_ns, self._skips_backfilled = since_ns, skips_backfilled
        self.ending = threading.Event()
        self._has_looked = False
        self._restarts = 0  # since it was last well
        self._statuses: queue.SimpleQueue[Told | None] = queue.SimpleQueue()
        self._subscriber: Subscriber | None = None
        self._reading = threading.Lock()
        self._reads: list[str] = []
        self._told = set(told)
        self._asking = threading.Lock()
        self._threads = [
            threading.Thread(target=run, name=f"mcm:{name}", daemon=True)
            for name, run in (("watch", self._watch), ("statuses", self._tell), ("ticks", self._read))
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, *, is_quiet: bool = False) -> None:
        """End everything, behind the tick in hand; from any thread, one of its own included."""
        self.ending.set()
        with self._reading:
            if self._subscriber is not None:
                self._subscriber.stop()
        watch, statuses, ticks = self._threads
        patience_s = LAST_CALLBACK_S if is_quiet else CALLBACK_S
        _join(watch, CALLBACK_S)
        _join(ticks, patience_s)
        try:
            self.mcm.close()
        finally:
            for told in () if is_quiet else self._owner.absent("disconnected", is_error=False):
                self._statuses.put(told)
            self._statuses.put(None)
            _join(statuses, patience_s)

    # --- what is wanted

    def change(self, decide: Callable[[], tuple[Sequence[str], Sequence[str]]], line: str | None = None) -> bool:
        """Carry out what *decide* adds (on *line*) and removes; whether mcm was told.

        What cannot be said now is said as soon as mcm answers again.
        """
        with self._asking:
            added, removed = decide()
            try:
                self._say(added, removed, line)
            except McmError as error:
                log.warning("mcm was not told about %d topics: %s", len(added) + len(removed), error)
                return False
            return True

    def _say(self, added: Sequence[str], removed: Sequence[str], line: str | None = None) -> None:
        wanted = self._owner.wanted
        gone = [topic for topic in removed if topic in self._told]
        self._told.difference_update(gone)
        if gone:
            self.mcm.unsubscribe(gone, wanted)
        if added:
            self.mcm.subscribe(added, line, wanted)
            self._told.update(added)
        self._read_anew()

    def _catch_up(self) -> None:
        """Say what could not be said before; what is refused is not said again."""
        with self._asking:
            wanted = self._owner.wanted
            added, removed = sorted(wanted - self._told), sorted(self._told - wanted)
            if not (added or removed):
                return
            try:
                self._say(added, removed)
            except UsageError as error:
                log.error("not subscribed: %s", error)
                self._told.update(added)

    def look(self) -> None:
        """Find out how mcm stands, now and in this thread."""
        status, plan = self.mcm.ask(lambda control: (control.status(), _plan(control)))
        self._enqueue(self._owner.observe(status, plan))

    def _enqueue(self, told: list[Told]) -> None:
        for one in told:
            self._statuses.put(one)

    # --- watching

    def _watch(self) -> None:
        while not self.ending.is_set():
            try:
                if (why := self.mcm.why_ended()) is not None:
                    if not self._start_again(why):
                        return
                    continue
                with self.mcm.control() as control:
                    self._watch_by(control)
            except McmError as error:
                if self._has_looked:  # before that, it may still be starting
                    self._enqueue(self._owner.absent(str(error), is_error=False))
                self.ending.wait(FIRST_LOOKS_S)
            except Exception:
                log.exception("a bug in mcm.compat; going on")
                self.ending.wait(1.0)

    def _watch_by(self, control: Control) -> None:
        """Until the end, or until mcm answers no more."""
        renew_at = plan_at = 0.0
        plan: dict[str, list[str]] = {}
        while not self.ending.is_set() and self.mcm.is_there:  # a request to nobody would wait for 5 s
            now = time.monotonic()
            if now >= plan_at:  # it may be long
                plan, plan_at = _plan(control), now + PLAN_S
            status = control.status()
            if status.is_started:
                self._restarts = 0
            else:
                plan_at = 0.0
            self._enqueue(self._owner.observe(status, plan))
            self._has_looked = True
            self._catch_up()
            if now >= renew_at:
                self.mcm.renew(self._owner.wanted)
                renew_at = now + RENEW_S
            self.ending.wait(LOOK_S if status.is_started else FIRST_LOOKS_S)

    def _start_again(self, why: str) -> bool:
        """Start what has ended, after a while; False if that cannot help, or is not wanted any more."""
        log.error("mcm has ended: %s", why)
        self._enqueue(self._owner.absent(why, is_error=True))
        first_s, most_s = START_AGAIN_S
        if self.ending.wait(min(most_s, first_s * 2**self._restarts)):
            return False
        self._restarts += 1
        try:
            if self.mcm.start_again():
                return True
        except (OSError, McmError) as error:
            log.error("mcm could not be started again: %s", error)
            return True
        self._enqueue(self._owner.absent(why, is_error=True))
        return False

    # --- the status callback

    def _tell(self) -> None:
        while (told := self._statuses.get()) is not None:
            self._owner.tell(told)

    # --- ticks

    def _read_anew(self) -> None:
        """Have the reader subscribe what is wanted now; it goes on where it was."""
        with self._reading:
            if self._subscriber is not None and self.mcm.reads(self._owner.wanted) != self._reads:
                self._subscriber.stop()

    def _read(self) -> None:
        cursor: bytes | None = None
        while not self.ending.is_set():
            with self._reading:
                self._reads = reads = self.mcm.reads(self._owner.wanted)
            if not reads:
                self.ending.wait(RETRY_S)
                continue
            try:
                cursor = self._read_from(reads, cursor) or cursor
            except NotRunning:
                self.ending.wait(RETRY_S)
            except Exception:
                log.exception("a bug in mcm.compat; reading on")
                self.ending.wait(1.0)

    def _read_from(self, reads: list[str], cursor: bytes | None) -> bytes | None:
        """Read until somebody says stop; where to go on."""
        with Subscriber(
            reads,
            run_dir=self.mcm.run_dir,
            since=self._since_ns if cursor is None else None,
            cursor=cursor,
            backfilled="skip" if self._skips_backfilled else "mark",
            on_gap=self._gap,
        ) as subscriber:
            with self._reading:
                self._subscriber = subscriber
                if self.ending.is_set() or self.mcm.reads(self._owner.wanted) != reads:
                    subscriber.stop()
            try:
                for topic, ticks in subscriber.messages():
                    current = subscriber.current
                    assert current is not None
                    self._owner.deliver(topic, ticks, current)
            except NotRunning:
                log.info("nothing runs on %s at present", self.mcm.run_dir)
                self.ending.wait(RETRY_S)
            finally:
                with self._reading:
                    self._subscriber = None
            return subscriber.cursor

    def _gap(self, record: Lost | Reset | GapRecord) -> None:
        if isinstance(record, Lost | Reset):
            log.warning("%s", record)
            self._statuses.put(self._owner.lost(record))


def _plan(control: Control) -> dict[str, list[str]]:
    return control.ask("plan", answer=dict[str, list[str]])


def _join(thread: threading.Thread, patience_s: float) -> None:
    """Wait for its end, unless it is the one that asks."""
    if thread is not threading.current_thread():
        thread.join(patience_s)
        if thread.is_alive():
            log.warning("%s still runs: a callback has not come back for %.0f s", thread.name, patience_s)
