"""``MultiConnectionManager``: several connections, one object, two callbacks.

It holds what is *wanted*; mcm.compat.engine has it carried, mcm.compat.connections knows how it stands.
"""

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mcm.client import Control
from mcm.compat import spawning
from mcm.compat.connections import Board, ConnectionInfo, Told
from mcm.compat.engine import Attached, Engine, Mcm, Own
from mcm.compat.spawning import Forked
from mcm.compat.view import ConnectionView
from mcm.core import compat_config, settings
from mcm.core.compat_config import LineWish
from mcm.core.compat_health import CONNECTED, DISCONNECTED, ERROR
from mcm.core.compat_ticks import TickData, tick_data
from mcm.core.errors import BadTopic, McmError, UsageError
from mcm.core.events import Tick
from mcm.core.follow import Lost, Reset
from mcm.core.status import Status
from mcm.core.topics import WILDCARD
from mcm.subscriber import Current

__all__ = ["MultiConnectionManager", "OnStatus", "OnTick"]

log = logging.getLogger("mcm.compat")

CONNECT_LIMIT_S = 15.0
OTHERS_S = 2.0  # for the other connections, once one is there
LOG_EVERY_S = 60.0

OnTick = Callable[[TickData], object]
OnStatus = Callable[[str, dict[str, Any]], object]


class MultiConnectionManager:
    """The connections of *config* (see README), as one supervised mcm that belongs to this object.

    Callbacks come from threads of their own, one for ticks and one for statuses; what they raise is logged, counted in
    ``total_errors``, and stops nothing.  Every method may be called from any thread, callbacks included, but not from a
    fork: there it raises an McmError that says so.

    Args:
        config: see README; a value that cannot be raises SettingsError, naming its key.
        on_tick_callback: called with every TickData, in the vendor's order per ticker and channel.
        on_status_callback: called with ``connected``, ``disconnected``, ``error`` or ``status_update``, and a dict with
            ``connection_id``, ``name``, ``status``, ``message`` and ``timestamp``.
        max_connections: how many of the configured connections count.

    Attributes:
        api_key: of the account.
        connections: id → ConnectionInfo.
        ticker_to_connection: ticker → id.
        total_ticks_received, total_errors: since this object was made.
    """

    def __init__(
        self,
        config: dict[str, Any],
        on_tick_callback: OnTick | None = None,
        on_status_callback: OnStatus | None = None,
        max_connections: int = 3,
    ) -> None:
        self.config, self.max_connections = config, max_connections
        self.on_tick_callback, self.on_status_callback = on_tick_callback, on_status_callback
        self.api_key = str(config.get("MASSIVE_API_KEY") or os.environ.get("MASSIVE_API_KEY") or "").strip()
        self._pid = os.getpid()
        self._wish = compat_config.read(config, max_connections)
        self._board = Board(self._wish.market)
        self._lock = threading.RLock()  # of what is wanted, and of the engine
        self._connecting = threading.Lock()
        self._engine: Engine | None = None
        self._wanted: frozenset[str] = frozenset()
        self._lines: dict[str, LineWish] = {}
        self._is_configured = False
        self._logged_at: dict[str, float] = {}
        for line in self._wish.lines if self._wish.run_dir is None else ():
            self._add_line(line)
        if self._wish.left_out:
            log.warning("%s are not used: max_connections is %d", ", ".join(self._wish.left_out), max_connections)

    def _add_line(self, line: LineWish, line_name: str | None = None) -> None:
        self._lines[line.connection_id] = line
        self._board.add(line.connection_id, line.name, ConnectionView(self, line.connection_id), line_name)

    # --- connect and disconnect

    def connect(self) -> bool:
        """Connect all of them at once; whether at least one is connected within 15 s, else nothing is left running."""
        self._check_process()
        with self._connecting:
            if self._engine is not None:
                return self.is_connected()
            try:
                engine = self._start()
            except (McmError, OSError) as error:
                self._refuse(str(error))
                return False
            if self._board.wait_settled(CONNECT_LIMIT_S, OTHERS_S, engine.ending):
                return True
            for connection_id, reason in self._board.reasons.items() if not engine.ending.is_set() else ():
                log.error("%s is not connected: %s", connection_id, reason or "it was not ready in time")
        self.disconnect()
        return False

    def _start(self) -> Engine:
        if self._wish.run_dir is None and not self._lines:
            raise UsageError("no connection is configured", "set WEBSOCKET_CONNECTION_1_ENABLED to true")
        with self._lock:
            lines = self._configured()
            since_ns = time.time_ns()
            mcm = self._attach() if self._wish.run_dir is not None else self._own(lines)
            engine = Engine(
                mcm,
                self,
                told=self._wanted if isinstance(mcm, Own) else (),
                since_ns=since_ns if isinstance(mcm, Own) else None,
                skips_backfilled=not self._wish.wants_backfilled,
            )
            self._board.begin()
            self._engine = engine
        spawning.at_exit(engine, self._end_quietly)
        engine.start()
        return engine

    def _configured(self) -> dict[str, list[str]]:
        """Id → items that the dict pins there; all of them are wanted from now on."""
        named = {line.connection_id: self._items_of_line(line) for line in self._wish_lines()}
        lines = compat_config.distribute(named)
        if not self._is_configured:  # what was unsubscribed since then stays so
            self._wanted |= {f"{self._wish.market}.{item}" for items in lines.values() for item in items}
            self._is_configured = True
        return {name: [item for item in items if self._topic(item) in self._wanted] for name, items in lines.items()}

    def _wish_lines(self) -> Sequence[LineWish]:
        return list(self._lines.values()) if self._wish.run_dir is None else self._wish.lines

    def _items_of_line(self, line: LineWish) -> list[str]:
        entries = list(line.entries)
        for key in line.universes:
            try:
                entries += compat_config.symbols_of(key, self.config.get("WEBSOCKET_UNIVERSES"))
            except Exception as error:  # noqa: BLE001  # a function of the user's may be in it
                self._board.failed()
                log.error("%s: its universe cannot be had: %s", line.connection_id, error)
        items, _ = self._read_entries(entries)
        return items

    def _own(self, lines: dict[str, list[str]]) -> Mcm:
        pinned = {item for items in lines.values() for item in items}
        free = sorted({topic.partition(".")[2] for topic in self._wanted} - pinned)
        parts = compat_config.distribute(lines | {"": free})  # a wildcard among them carries what others pin
        document = compat_config.document(self._wish, {name: parts[name] for name in lines}, parts[""])
        settings.read(document, "config")
        return Own(compat_config.toml(document), self.api_key, self._wish.market)

    def _attach(self) -> Mcm:
        return Attached(Path(self._wish.run_dir or "").expanduser().absolute())

    def _refuse(self, reason: str) -> None:
        log.error("cannot connect: %s", reason)
        self._board.failed()
        told = self._board.absent(reason, ERROR) or [
            Told(ERROR, {"connection_id": None, "message": reason, "timestamp": time.time()})
        ]
        for one in told:
            self.tell(one)

    def disconnect(self) -> None:
        """Close all connections and end what was started for them; no tick comes after it has returned."""
        self._check_process()
        self._disconnect(is_quiet=False)

    def _end_quietly(self) -> None:
        self._disconnect(is_quiet=True)

    def _disconnect(self, *, is_quiet: bool) -> None:
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is None:
            return
        engine.ending.set()
        self._board.wake()
        try:
            engine.stop(is_quiet=is_quiet)
        finally:
            spawning.not_at_exit(engine)
            if self._engine is None:  # nobody has connected again meanwhile
                self._board.absent("disconnected")
                self._board.forget_assignments()

    def is_connected(self) -> bool:
        """Whether at least one connection is."""
        self._check_process()
        return self._engine is not None and self._board.is_connected

    # --- subscriptions

    def subscribe(self, tickers: Iterable[str]) -> bool:
        """Have these carried, on the configured channels; ``T.AAPL`` names its own.

        What is subscribed already stays where it is.  False if one cannot be, or if there is no connection: it is
        wanted all the same, and subscribed as soon as that is possible.
        """
        self._check_process()
        return self._want(tickers, None)

    def subscribe_ticker(self, ticker: str, connection_id: str | None = None) -> bool:
        """The same for one, if need be on this connection, moved there without a hole if another one has it."""
        return self.subscribe_tickers([ticker], connection_id)

    def subscribe_tickers(self, tickers: Iterable[str], connection_id: str | None = None) -> bool:
        """The same for several."""
        self._check_process()
        if connection_id is not None and connection_id not in self.connections:
            log.error("there is no connection %s", connection_id)
            return False
        return self._want(tickers, connection_id)

    def _want(self, entries: Iterable[str], connection_id: str | None) -> bool:
        items, is_good = self._read_entries(compat_config.texts(entries))
        topics = [self._topic(item) for item in items]
        new: list[str] = []

        def decide() -> tuple[list[str], list[str]]:
            with self._lock:
                new.extend(topic for topic in topics if topic not in self._wanted)
                self._wanted |= set(new)
            return new, []

        engine = self._engine
        if engine is None:
            decide()
            log.warning("not connected; connect() will subscribe %d topics", len(topics))
            return False
        line = self._board.line_of(connection_id) if connection_id is not None else None
        is_said = engine.change(decide, line)
        elsewhere: list[str] = []
        if line is not None:
            elsewhere = [topic for topic in topics if topic not in new and self._owner_of(topic) != connection_id]
            for topic in elsewhere:
                is_said = self._try(functools.partial(Control.move, what=topic, connection=line)) and is_said
        if new or elsewhere:
            self._look(engine)
        return is_said and is_good and not any(topic in self._board.unplaced for topic in topics)

    def _owner_of(self, topic: str) -> str | None:
        return self.ticker_to_connection.get(_symbol(topic))

    def unsubscribe(self, tickers: Iterable[str]) -> bool:
        """Have these carried no more, on any channel; of ``T.AAPL`` only that one."""
        self._check_process()

        def decide() -> tuple[list[str], list[str]]:
            with self._lock:
                gone = [topic for entry in compat_config.texts(tickers) for topic in self._meant_by(entry)]
                self._wanted -= set(gone)
            return [], gone

        engine = self._engine
        if engine is None:
            decide()
            return False
        is_said = engine.change(decide)
        self._look(engine)
        return is_said

    def unsubscribe_ticker(self, ticker: str) -> bool:
        """The same for one."""
        return self.unsubscribe([ticker])

    def _meant_by(self, entry: str) -> list[str]:
        topics = [topic for topic in self._wanted if _symbol(topic) == entry]
        return topics or [topic for topic in (self._topic(entry),) if topic in self._wanted]

    def _topic(self, item: str) -> str:
        return f"{self._wish.market}.{item}"

    def _read_entries(self, entries: Iterable[str]) -> tuple[list[str], bool]:
        """Items, and whether every entry could be read."""
        items: dict[str, None] = {}
        is_good = True
        for entry in entries:
            try:
                items |= dict.fromkeys(compat_config.items_of(entry, self._wish.market, self._wish.channels))
            except BadTopic as error:
                self._board.failed()
                log.error("left out: %s", error)
                is_good = False
        return list(items), is_good

    def get_subscribed_tickers(self) -> set[str]:
        """All that are wanted."""
        self._check_process()
        return {_symbol(topic) for topic in self._wanted}

    def check_subscriptions(self) -> bool:
        """Whether all that is wanted is carried by connected lines and confirmed; what is not is logged.

        Nothing has to be done about it: it is asked for again by itself.
        """
        self._check_process()
        if self._engine is None:
            return False
        self._look(self._engine)
        trouble = dict(self._board.trouble)
        owners = self.ticker_to_connection
        for topic in self._wanted - trouble.keys():
            owner = self.connections.get(owners.get(_symbol(topic), ""))
            if owner is None or owner.status != CONNECTED:
                trouble[topic] = "no connection carries it" if owner is None else f"{owner.name} is {owner.status}"
        for topic, why in trouble.items():
            log.warning("%s: %s", topic, why)
        return not trouble

    # --- connections

    def add_connection(self, connection_id: str, ticker_filter: Iterable[str] | None = None) -> bool:
        """One connection more, which carries the tickers of *ticker_filter* from now on."""
        self._check_process()
        tickers = compat_config.texts(ticker_filter)
        if connection_id in self.connections or len(self.connections) >= self.max_connections:
            log.error("%s cannot be added: it is there, or max_connections is reached", connection_id)
            return False
        try:
            settings.check_connection({"name": connection_id, "market": self._wish.market})
        except McmError as error:
            log.error("%s", error)
            return False
        line = LineWish(connection_id, self._name_of(connection_id), tickers)
        self._add_line(line)
        if self._engine is None:
            self._want(tickers, None)
            return True
        if not self._try(lambda control: control.add_connection(connection_id, self._wish.market)):
            self._forget_line(connection_id)
            return False
        return self.subscribe_tickers(tickers, connection_id)

    def _forget_line(self, connection_id: str) -> None:
        self._lines.pop(connection_id, None)
        self._board.remove(connection_id)

    def _name_of(self, connection_id: str) -> str:
        return str(self.config.get(f"WEBSOCKET_{connection_id.upper()}_NAME") or connection_id)

    def remove_connection(self, connection_id: str) -> bool:
        """One connection fewer; others carry what it had, before it ends.  False for the only one."""
        self._check_process()
        if connection_id not in self.connections:
            return False
        line, engine = self._board.line_of(connection_id), self._engine
        if engine is not None and not self._try(lambda control: control.remove_connection(line)):
            return False
        self._forget_line(connection_id)
        if engine is not None:
            self._look(engine)
        return True

    def pause_connection(self, connection_id: str) -> bool:
        """Close a connection until resume_connection(); others carry what it has."""
        self._check_process()
        line = self._board.line_of(connection_id)
        return self._try(lambda control: control.pause(line))

    def resume_connection(self, connection_id: str) -> bool:
        """Let it dial again; whether it is connected, or may be."""
        self._check_process()
        line = self._board.line_of(connection_id)
        return self.is_connection_connected(connection_id) or self._try(lambda control: control.resume(line))

    def is_connection_connected(self, connection_id: str) -> bool:
        """Whether this one is."""
        self._check_process()
        info = self.connections.get(connection_id)
        return self._engine is not None and info is not None and info.status == CONNECTED

    def rebalance_connections(self) -> dict[str, Any]:
        """Even out the load by as few moves as possible: ``{"moved": {ticker: [from, to]}, "reason": why nothing}``."""
        self._check_process()
        engine = self._engine
        if engine is None:
            return {"moved": {}, "reason": "not connected"}
        try:
            moves = engine.mcm.ask(lambda control: control.rebalance())
        except McmError as error:
            return {"moved": {}, "reason": str(error)}
        self._look(engine)
        id_of = {self._board.line_of(name): name for name in self.connections}
        moved = {
            _symbol(move.topic): [id_of.get(move.source, move.source), id_of.get(move.target, move.target)]
            for move in moves
        }
        return {"moved": moved, "reason": "" if moved else "the load is even"}

    # --- what is asked

    def get_health_status(self) -> dict[str, Any]:
        """Counters, and every connection by its id."""
        self._check_process()
        return self._board.health()

    def get_ticker_assignment(self, ticker: str) -> str | None:
        """Id of the connection that carries it."""
        self._check_process()
        return self.ticker_to_connection.get(ticker)

    def get_connection_for_ticker(self, ticker: str) -> str | None:
        """The same."""
        return self.get_ticker_assignment(ticker)

    def get_connection_tickers(self, connection_id: str) -> set[str]:
        """What it carries; nothing for one that is not there."""
        self._check_process()
        info = self.connections.get(connection_id)
        return set(info.assigned_tickers) if info is not None else set()

    @property
    def connections(self) -> dict[str, ConnectionInfo]:
        """Id → what is known of it."""
        return self._board.connections

    @property
    def ticker_to_connection(self) -> dict[str, str]:
        """Ticker → id of the connection that carries it."""
        return self._board.ticker_to_connection

    @property
    def total_ticks_received(self) -> int:
        """Ticks of what is subscribed, those without a price included."""
        return self._board.ticks

    @property
    def total_errors(self) -> int:
        """What callbacks raised, what was refused or lost, and the errors of all connections."""
        return self._board.errors

    # --- for the engine: see engine.Owner

    @property
    def wanted(self) -> frozenset[str]:
        """The topics that are."""
        return self._wanted

    def observe(self, status: Status, plan: dict[str, list[str]]) -> list[Told]:
        """Take how mcm stands; the connections of one that runs for others as well are numbered as they come."""
        if self._wish.run_dir is not None:
            for name in self._board.unknown(status):
                self._add_line(LineWish(self._board.free_id(), name), name)
        return self._board.observe(status, plan, self._wanted)

    def absent(self, reason: str, *, is_error: bool) -> list[Told]:
        """No mcm answers."""
        return self._board.absent(reason, ERROR if is_error else DISCONNECTED)

    def deliver(self, topic: str, ticks: list[Tick], current: Current) -> None:
        """Count what is wanted, and hand it out."""
        market, channel, ticker = topic.split(".", 2)
        if topic not in self._wanted and f"{market}.{channel}.{WILDCARD}" not in self._wanted:
            return
        received_s = current.received_ns / 1e9
        self._board.count(current.connection, ticker, len(ticks), received_s)
        for tick in ticks:
            if self._engine is None:
                return  # the callback itself has disconnected
            data = tick_data(tick, market, received_s)
            if data is not None and self.on_tick_callback is not None:
                self._call(self.on_tick_callback, data)

    def lost(self, error: Lost | Reset) -> Told:
        """Ticks are lost for good."""
        topic = error.topic if isinstance(error, Lost) else None
        return self._board.lost(_symbol(topic) if topic is not None else "", str(error))

    def tell(self, told: Told) -> None:
        """Call the status callback."""
        if self.on_status_callback is not None:
            self._call(self.on_status_callback, told.status, told.data)

    def _call(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call what the user gave; nothing that it raises goes further."""
        try:
            callback(*arguments)
        except (Exception, SystemExit) as error:
            self._board.failed()
            name, now = f"{callback!r} {type(error).__name__}", time.monotonic()
            if now - self._logged_at.get(name, -LOG_EVERY_S) >= LOG_EVERY_S:
                self._logged_at[name] = now
                log.exception("a callback has raised; such errors are counted, and logged once a minute")

    # ---

    def _try(self, question: Callable[[Control], object]) -> bool:
        """Ask mcm for something; whether it was done."""
        engine = self._engine
        if engine is None:
            return False
        try:
            engine.mcm.ask(question)
        except McmError as error:
            log.error("%s", error)
            return False
        return True

    @staticmethod
    def _look(engine: Engine) -> None:
        with contextlib.suppress(McmError):
            engine.look()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise Forked(self._pid)

    def __enter__(self) -> Self:
        """Connect."""
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect; nothing in a fork."""
        if os.getpid() == self._pid:
            self.disconnect()


def _symbol(topic: str) -> str:
    return topic.split(".", 2)[2]
