"""The fault matrix, its lines: what vendor, network and account do to connections that carry 5,000 ticks/s."""

import contextlib
import dataclasses
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import pytest

from mcm import Subscriber
from mcm.carrying import UNDER_WAY_NS
from mcm.core.gaps import GapClosed, GapOpened
from mcm.core.notices import LineNotice
from mcm.core.status import ConnectionStatus
from mcm.simulator.launch import Simulator
from mcm.simulator.report import ConnectionReport
from tests.processes.judge import ALL_TOPICS, LINES, Balance, Key, Trial, balance, missed, received, say, settle
from tests.processes.stack import Mcm, Start, somewhere, wait_until
from tests.processes.test_matrix import FIRST_SEED, LOAD, TICKS_PER_S, Begin, begin, settings_for
from workers.connection import PING_S

__all__ = ["begin"]  # a fixture

REDIALLED_WITHIN_S = 5.0
HABITS_S = 12.0  # a line that has spoken for so long is missed when it falls silent
ALARM_S = 30.0
SETTLED_WITHIN_S = 15.0
OBSERVED_S = 20.0
DIALS_PER_MINUTE = 2


# --- what is asked of every case --------------------------------------------------------------------------------------


def line_of(simulator: Simulator, item: str) -> ConnectionReport:
    """The newest open connection that holds *item*."""
    return [one for one in simulator.remote.report().open_connections() if item in one.items][-1]


class States:
    """What mcm says on ``mcm.status``, from now on."""

    def __init__(self, mcm: Mcm) -> None:
        # The ticks are subscribed to last: their first arrival proves the other subscription.
        self._subscriber = mcm.subscribe(b"mcm.status\0", b"stocks.T.AAPL\0")
        wait_until(lambda: self._subscriber.count("stocks.T.AAPL") > 0, because="it is subscribed")

    def all(self) -> list[LineNotice]:
        ticks = self._subscriber.ticks.get("mcm.status", ())
        return [msgspec.msgpack.decode(tick, type=LineNotice) for tick in tuple(ticks)]

    def of(self, name: str) -> list[LineNotice]:
        return [notice for notice in self.all() if notice.connection == name]

    def reasons(self, name: str) -> list[str]:
        """Why the line was not live, each time that a reason was told: a worker's own word comes without one."""
        return [notice.reason for notice in self.of(name) if notice.reason]

    def missed(self, name: str, *, within_s: float) -> LineNotice:
        """Wait until the line is no longer live; the notice that says why."""
        wait_until(lambda: bool(self.reasons(name)), because=f"{name} is said to be gone", within_s=within_s)
        return next(notice for notice in self.of(name) if notice.reason)


def up_to_date(trial: Trial) -> tuple[Callable[[], float], int, int]:
    """Wait until every topic ticks; then what is to be compared later: load, moment of the fault, number of dials."""
    trial.catch_up()
    return trial.load(), trial.last_moment_ms(), len(trial.simulator.remote.report().dials)


def is_back(trial: Trial, name: str, *, reconnects: int = 1) -> ConnectionStatus:
    """Wait until the line has been dialled again and everything is live."""
    status = trial.mcm.wait(
        lambda status: status.connections[name].reconnects >= reconnects and status.state == "ready",
        because=f"{name} is back with its subscriptions",
        within_s=REDIALLED_WITHIN_S + 5,
    )
    return status.connections[name]


def untouched(trial: Trial, *names: str) -> None:
    """Nothing has ever happened to these lines."""
    status = trial.mcm.status()
    for name in names:
        line = status.connections[name]
        assert (line.state, line.reconnects, line.restarts, line.errors) == ("live", 0, 0, {}), name


class Gap(NamedTuple):
    """The one gap there was: of one line, of all its topics, and closed."""

    line: str
    reason: str
    since_ns: int
    until_ns: int

    @property
    def length_s(self) -> float:
        return (self.until_ns - self.since_ns) / 1e9


def only_gap(trial: Trial, name: str) -> Gap:
    """Wait until it is closed.  To be asked while ticks flow: ten seconds after the end of the tape, all are missed."""
    gaps = trial.collector.gaps

    def closed() -> list[str]:
        return sorted(topic for gap in tuple(gaps) if isinstance(gap, GapClosed) for topic in gap.topics)

    wait_until(lambda: len(closed()) >= len(LINES[name]), because="the end of the gap is told")
    opened = [gap for gap in gaps if isinstance(gap, GapOpened)]
    assert [gap.connection for gap in opened] == [name], opened
    assert sorted(opened[0].topics) == closed() == sorted(LINES[name])
    assert json.loads(trial.mcm.cli("gaps", "--json").stdout)["open"] == []
    until_ns = max(gap.until_ns for gap in gaps if isinstance(gap, GapClosed))
    return Gap(name, opened[0].reason, opened[0].since_ns, until_ns)


def is_exact(trial: Trial, gap: Gap) -> None:
    """What is missing of this line lies inside its gap, and is not nothing; after the verdict."""
    files = numbered(trial.mcm.run_dir)
    times = [at for topic in LINES[gap.line] for at in missed(trial.simulator, files, topic)]
    assert times, "nothing was missing"
    # Events tell their time in whole ms; what ticked before the last frame may have been on its way behind it.
    assert min(times) >= gap.since_ns / 1e6 - Trial.TOLERANCE_MS
    assert max(times) <= gap.until_ns / 1e6 + 1


def numbered(run_dir: Path) -> dict[str, list[Key]]:
    """What was received, by the vendor's numbers: the files of several lines are in no order among each other."""
    return {topic: sorted(keys, key=lambda key: int(str(key[0]))) for topic, keys in received(run_dir).items()}


def verdict_of_moved(trial: Trial) -> Balance:
    """As Trial.verdict without its windows, where topics have moved between lines."""
    settle(trial.simulator, trial.collector, *ALL_TOPICS)
    files = numbered(trial.mcm.run_dir)
    found = balance(files, trial.collector.delivered)
    assert found.is_exact, f"{found}\n{trial.mcm.logs()}"
    assert trial.collector.complaints == []
    return found


# --- the vendor ends a line -------------------------------------------------------------------------------------------


class Ending(NamedTuple):
    """How the vendor ends a line, and what mcm has to say about it."""

    mode: Literal["close", "abort"]
    code: int
    reason: str
    words: str


ENDINGS = {
    "1000": Ending("close", 1000, "closed", "the upstream closed it with code 1000"),
    "1006": Ending("abort", 1006, "aborted", "the connection was cut without a close frame"),
    "1008": Ending("close", 1008, "closed", "the upstream closed it with code 1008"),
}


@pytest.mark.parametrize("code", ENDINGS)
def test_a_line_that_the_vendor_ends_is_dialled_once_and_costs_the_others_nothing(begin: Begin, code: str) -> None:
    """F15: with 1000, with an end of TCP without a close frame (1006), with 1008."""
    ending, trial = ENDINGS[code], begin()
    states = States(trial.mcm)
    load, fault_ms, dials = up_to_date(trial)
    dropped = line_of(trial.simulator, "T.JPM")

    trial.simulator.remote.drop(mode=ending.mode, code=ending.code, connection=dropped.number)
    line = is_back(trial, "secondary")
    caught_up_s = trial.catch_up()
    trial.flow(TICKS_PER_S)
    share = load()
    gap, report = only_gap(trial, "secondary"), trial.simulator.remote.report()
    untouched(trial, "primary", "tertiary")
    reasons, others = states.reasons("secondary"), states.of("primary") + states.of("tertiary")

    found = trial.verdict(lines=("secondary",), fault_ms=fault_ms)
    is_exact(trial, gap)
    say(f"F15 {code}: load {share:.0%}, gap {gap.length_s:.2f} s, caught up {caught_up_s:.2f} s later, {found}")
    assert trial.is_loaded(share)
    assert caught_up_s < REDIALLED_WITHIN_S
    assert reasons[0].startswith(ending.words)
    assert gap.reason == ending.words
    assert line.errors == {ending.reason: 1}
    assert line.reconnects == 1
    assert len(report.dials) == dials + 1
    assert line_of(trial.simulator, "T.JPM").number > dropped.number
    assert others == []


def test_1008_with_max_connections_is_no_drop_but_an_eviction_and_parks_the_line(begin: Begin) -> None:
    """F15, and section 7 of the design: the line is not dialled again, the others carry its topics."""
    trial = begin()
    states = States(trial.mcm)
    load, fault_ms, dials = up_to_date(trial)
    evicted = line_of(trial.simulator, "T.JPM")

    trial.simulator.remote.kick("max_connections", connection=evicted.number)
    status = trial.mcm.wait(
        lambda status: (
            status.connections["secondary"].state == "parked"
            and sum(line.confirmed for line in status.connections.values()) == 10
            and status.gaps == 0
        ),
        because="the others carry everything",
    )
    trial.flow(4 * TICKS_PER_S)  # eight times as long as a line that was only dropped waits at most
    share = load()
    gap, report = only_gap(trial, "secondary"), trial.simulator.remote.report()
    untouched(trial, "primary", "tertiary")
    told = [notice.state for notice in states.of("secondary")]

    found = verdict_of_moved(trial)
    is_exact(trial, gap)
    say(f"F15 1008, max_connections: load {share:.0%}, gap {gap.length_s:.2f} s, {found}")
    assert trial.is_loaded(share)
    assert report.counters["evictions"] == 1
    assert len(report.dials) == dials
    assert "the account allows 2, running 2 of 3, next trial in" in status.connections["secondary"].reason
    assert (status.account["stocks"].allowed, status.account["stocks"].running) == (2, 2)
    assert status.connections["secondary"].errors == {"max_connections": 1}
    assert told[-1] == "parked"
    assert "live" not in told
    assert gap.since_ns >= fault_ms * 10**6 - UNDER_WAY_NS - Trial.TOLERANCE_MS * 10**6
    assert gap.length_s < 3
    files = numbered(trial.mcm.run_dir)
    for topic in LINES["primary"] + LINES["tertiary"]:
        assert missed(trial.simulator, files, topic) == [], topic


# --- the network ------------------------------------------------------------------------------------------------------


class Weather(NamedTuple):
    """How bytes travel from the vendor: at most *chunk* at a time, each after a random time, in random *pieces*."""

    chunk: int = 65_536
    late_s: tuple[float, float] = (0.0, 0.0)
    pieces: int = 65_536


class Wire:
    """One TCP connection through the network.

    Attributes:
        weather: of the bytes from the vendor; may be changed at any time.
        sent: pieces that came out of it at the client's end.
        late_s: for how long it has kept bytes, in all.
    """

    def __init__(self, client: socket.socket, vendor: socket.socket, rng: random.Random) -> None:
        self.weather, self._rng = Weather(), rng
        self.sent, self.late_s = 0, 0.0
        self._sockets = (client, vendor)
        self._passes, self._ended = threading.Event(), threading.Event()
        self._passes.set()
        for end in self._sockets:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._threads = [
            threading.Thread(target=self._forward, args=ends, daemon=True)
            for ends in ((client, vendor, self._at_once), (vendor, client, self._in_this_weather))
        ]
        for thread in self._threads:
            thread.start()

    def vanish(self) -> None:
        """Let nothing through any more, in neither direction, not even an end."""
        self._passes.clear()

    def _forward(
        self, source: socket.socket, sink: socket.socket, deliver: Callable[[socket.socket, bytes], None]
    ) -> None:
        with contextlib.suppress(OSError):
            while not self._ended.is_set():
                data = source.recv(self.weather.chunk)
                self._passes.wait()
                if not data:
                    break
                deliver(sink, data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _at_once(self, sink: socket.socket, data: bytes) -> None:
        sink.sendall(data)

    def _in_this_weather(self, sink: socket.socket, data: bytes) -> None:
        weather = self.weather
        late_s = self._rng.uniform(*weather.late_s)
        self._ended.wait(late_s)
        self.late_s += late_s
        while data and self._passes.is_set():
            size = self._rng.randint(1, weather.pieces)
            sink.sendall(data[:size])
            data, self.sent = data[size:], self.sent + 1

    def end(self) -> None:
        self._ended.set()
        self._passes.set()
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for end in self._sockets:
            end.close()


class Network:
    """A port that leads to another one; *wires* in the order of the dials, so that the nth is the vendor's nth line."""

    def __init__(self, port: int, seed: int) -> None:
        self._target, self._rng = ("127.0.0.1", port), random.Random(seed)
        self.wires: list[Wire] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.wires.append(Wire(client, socket.create_connection(self._target), self._rng))

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listening.close()
        for wire in self.wires:
            wire.end()


class Behind(NamedTuple):
    """A trial whose lines go through a network."""

    trial: Trial
    network: Network

    def wire(self, item: str) -> tuple[ConnectionReport, Wire]:
        """The line that carries *item*, as the vendor sees it, and its wire."""
        line = line_of(self.trial.simulator, item)
        return line, self.network.wires[line.number - 1]


@pytest.fixture
def behind(vendor: Callable[..., Simulator], start: Start) -> Iterator[Callable[[], Behind]]:
    """Starts a trial as `begin` does, with a network between mcm and the vendor."""
    with contextlib.ExitStack() as stack:

        def start_behind() -> Behind:
            simulator = vendor(*LOAD)
            network = Network(simulator.port, FIRST_SEED)
            stack.callback(network.end)
            mcm = start(settings_for(dataclasses.replace(simulator, port=network.port)))
            mcm.wait_ready()
            trial = Trial(simulator, mcm)
            stack.callback(trial.end)
            return Behind(trial, network)

        yield start_behind


def has_habits(line: ConnectionReport) -> None:
    """Wait until mcm knows how often the line speaks."""
    until_ms = line.opened_ms + HABITS_S * 1e3
    wait_until(lambda: time.time() * 1e3 > until_ms, because="the line has spoken for a while")


@pytest.mark.parametrize("age", ["young", "busy for a while"])
def test_a_vendor_that_vanishes_is_noticed_by_its_missing_pong(behind: Callable[[], Behind], age: str) -> None:
    """F17: no FIN, no RST.  The vendor notices a second after mcm does, and until then the dead line has its place."""
    trial, _ = here = behind()
    states = States(trial.mcm)
    line, wire = here.wire("T.JPM")
    if age != "young":
        has_habits(line)
    load, fault_ms, dials = up_to_date(trial)

    wire.vanish()
    vanished_ns = time.time_ns()
    notice = states.missed("secondary", within_s=2 * PING_S)
    noticed_s = (notice.t_ns - vanished_ns) / 1e9
    noticed_at_s = trial.simulator.remote.report().now_s
    trial.simulator.remote.drop(mode="abort", connection=line.number)
    status = is_back(trial, "secondary")
    caught_up_s = trial.catch_up()
    share = load()
    gap, report = only_gap(trial, "secondary"), trial.simulator.remote.report()
    untouched(trial, "primary", "tertiary")

    found = trial.verdict(lines=("secondary",), fault_ms=fault_ms)
    is_exact(trial, gap)
    redial_s = report.dials[-1].at_s - noticed_at_s
    say(
        f"F17 {age}: load {share:.0%}, noticed after {noticed_s:.2f} s ({notice.reason}), dialled {redial_s:.2f} s "
        f"later, gap {gap.length_s:.2f} s, caught up {caught_up_s:.2f} s later, {found}"
    )
    assert trial.is_loaded(share)
    assert len(report.dials) == dials + 1
    assert report.counters["evictions"] == 0, "a sibling had to make room"
    assert 5.0 < noticed_s < 1.5 * PING_S + 1.5  # the longer timers of aiohttp end with a whole second
    assert status.errors == {"no_pong": 1}
    assert gap.reason == "no answer to a ping"
    assert abs(gap.since_ns + UNDER_WAY_NS - vanished_ns) / 1e9 < 1.0


def test_a_path_that_vanishes_leaves_a_place_taken_and_evicts_no_living_line(behind: Callable[[], Behind]) -> None:
    """F17: the vendor lives, still counts the dead line, which is its oldest, and makes room by ending that."""
    trial, network = behind()
    states = States(trial.mcm)
    load, fault_ms, dials = up_to_date(trial)
    oldest = trial.simulator.remote.report().open_connections()[0]
    name = next(name for name, topics in LINES.items() if topics[0].removeprefix("stocks.") in oldest.items)

    network.wires[oldest.number - 1].vanish()
    states.missed(name, within_s=2 * PING_S)
    status = is_back(trial, name)
    trial.catch_up()
    share = load()
    gap, report = only_gap(trial, name), trial.simulator.remote.report()
    untouched(trial, *LINES.keys() - {name})

    found = trial.verdict(lines=(name,), fault_ms=fault_ms)
    is_exact(trial, gap)
    say(f"F17 {name}, still counted: load {share:.0%}, gap {gap.length_s:.2f} s, {found}")
    assert trial.is_loaded(share)
    assert len(report.dials) == dials + 1
    assert report.counters["evictions"] == 1
    assert [one.number for one in report.connections if "1008" in one.ending] == [oldest.number]
    assert status.errors == {"no_pong": 1}


NIGHT = """
[[connections]]
name = "night"
market = "crypto"
[[watchlists]]
name = "night"
market = "crypto"
channels = ["XT"]
symbols = ["ZZ-USD"]
connection = "night"
"""


def test_a_line_that_only_answers_pings_is_missed_by_day_and_not_by_night(begin: Begin) -> None:
    """F18: a busy line falls silent; beside it one that never spoke.  More nights are in tests/core/test_session."""
    trial = begin(NIGHT)
    states = States(trial.mcm)
    line = line_of(trial.simulator, "T.JPM")
    has_habits(line)
    load, fault_ms, dials = up_to_date(trial)

    trial.simulator.remote.silence(connection=line.number)
    silenced_ns = time.time_ns()
    notice = states.missed("secondary", within_s=ALARM_S)
    alarm_s = (notice.t_ns - silenced_ns) / 1e9
    status = is_back(trial, "secondary")
    caught_up_s = trial.catch_up()
    share = load()
    wait_until(lambda: night_of(trial).pongs > 0, because="the night was asked for a sign of life")
    gap, report = only_gap(trial, "secondary"), trial.simulator.remote.report()
    untouched(trial, "primary", "tertiary", "night")
    night, others = trial.mcm.status().connections["night"], {notice.connection for notice in states.all()}

    found = trial.verdict(lines=("secondary",), fault_ms=fault_ms)
    is_exact(trial, gap)
    say(
        f"F18: load {share:.0%}, alarm after {alarm_s:.2f} s ({notice.reason}), gap {gap.length_s:.2f} s, "
        f"caught up {caught_up_s:.2f} s later, the night answered {night_of(trial).pongs} pings, {found}"
    )
    assert trial.is_loaded(share)
    assert 5.0 < alarm_s < ALARM_S
    assert notice.reason.startswith("silent for ")
    assert "although it answers pings" in notice.reason
    assert status.errors == {"stale": 1}
    assert len(report.dials) == dials + 1
    assert night.ticks == 0
    assert others == {"secondary"}


def night_of(trial: Trial) -> ConnectionReport:
    return line_of(trial.simulator, "XT.ZZ-USD")


class Slow(NamedTuple):
    """A weather, for how long, and the least that must come of it: lateness of ticks, number of pieces."""

    weather: Weather
    for_s: float
    late_s: float
    pieces: int


SLOW = {
    "cut into small pieces": Slow(Weather(pieces=400), 4.0, 0.0, 2_000),
    "late, with jitter": Slow(Weather(chunk=262_144, late_s=(0.1, 0.5)), 4.0, 0.2, 8),
    "too narrow": Slow(Weather(chunk=8_192, late_s=(0.06, 0.1)), 5.0, 1.0, 30),
    "at a standstill": Slow(Weather(chunk=2_097_152, late_s=(6.0, 6.0)), 5.0, 4.0, 0),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_line_is_not_a_dead_one(behind: Callable[[], Behind], name: str) -> None:
    """F19: what comes late comes all the same, once and in order."""
    slow = SLOW[name]
    trial, _ = here = behind()
    states = States(trial.mcm)
    load, _, dials = up_to_date(trial)
    line, wire = here.wire("T.JPM")
    sent, lags_s, until = wire.sent, [], time.monotonic() + slow.for_s

    def is_over() -> bool:
        lags_s.append((trial.collector.lag_s(*LINES["secondary"]), trial.collector.lag_s(*LINES["primary"])))
        return time.monotonic() > until

    wire.weather = slow.weather
    wait_until(is_over, because="the weather changes")
    wire.weather = Weather()
    pieces = wire.sent - sent
    caught_up_s = trial.catch_up()
    trial.flow(TICKS_PER_S)
    share = load()
    untouched(trial, *LINES)
    told, gaps, report = states.all(), list(trial.collector.gaps), trial.simulator.remote.report()

    found = trial.verdict()
    late_s, others_late_s = (max(column) for column in zip(*lags_s, strict=True))
    say(
        f"F19 {name}: load {share:.0%}, {pieces} pieces, kept for {wire.late_s:.1f} s in all, ticks up to {late_s:.2f} "
        f"s late (another line's {others_late_s:.2f}), caught up {caught_up_s:.2f} s after its end, {found}"
    )
    assert trial.is_loaded(share)
    assert pieces >= slow.pieces
    assert late_s > max(slow.late_s, others_late_s if slow.late_s else 0.0)
    assert caught_up_s < 5.0 + slow.late_s
    assert len(report.dials) == dials
    assert line.number in {one.number for one in report.open_connections()}
    assert (told, gaps) == ([], [])


# --- the account ------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[Mcm]:
    """Another machine, as far as account locks go: its own run directory and XDG_RUNTIME_DIR."""
    with somewhere() as place:
        yield place


def test_two_programs_on_an_account_that_is_too_small_come_to_rest(
    vendor: Callable[..., Simulator], start: Start, elsewhere: Mcm
) -> None:
    """F21: three lines each, two places, and the vendor evicts the oldest."""
    simulator = vendor(*LOAD, "--cap", "2")
    first = start(settings_for(simulator), pattern="parked")
    at_rest(simulator, first)
    alone = len(simulator.remote.report().dials)
    elsewhere.config.write_text(settings_for(simulator))
    command = ["start", "--config", str(elsewhere.config), "--run-dir", str(elsewhere.run_dir), "--quiet"]

    with elsewhere.popen(*command) as running, contextlib.ExitStack() as stack:
        stack.callback(running.terminate)
        at_rest(simulator, first, elsewhere)
        trial = Trial(simulator, elsewhere)
        stack.callback(trial.end)
        settled_ms = time.time() * 1e3
        load, before = trial.load(), simulator.remote.report()
        states = [states_of(mcm) for mcm in (first, elsewhere)]
        until = time.monotonic() + OBSERVED_S

        def is_over() -> bool:
            assert [states_of(mcm) for mcm in (first, elsewhere)] == states
            return time.monotonic() > until

        wait_until(is_over, because="it has been watched for long enough", within_s=OBSERVED_S + 5)
        share, after = load(), simulator.remote.report()
        found = verdict_of_moved(trial)
        files = numbered(elsewhere.run_dir)

    dials = after.dials[len(before.dials) :]
    say(
        f"F21: load {share:.0%}, {alone} dials to rest alone, {len(before.dials) - alone} more with another program, "
        f"{len(dials)} in {OBSERVED_S:.0f} s at rest, {after.counters['evictions']} evictions in all; {states}; {found}"
    )
    assert trial.is_loaded(share)
    assert before.counters["evictions"] >= 3  # of the first's third dial, and of both of its lines
    assert len(before.dials) <= 8
    assert len(dials) <= DIALS_PER_MINUTE * OBSERVED_S / 60
    assert after.counters["evictions"] == before.counters["evictions"]
    assert sorted(line.number for line in after.open_connections()) == sorted(
        line.number for line in before.open_connections()
    )
    for mcm_states in states:
        assert set(mcm_states.values()) <= {"live", "parked"}
    assert sum(state == "live" for mcm_states in states for state in mcm_states.values()) == 2
    for topic in ALL_TOPICS:
        assert [at for at in missed(simulator, files, topic) if at > settled_ms] == [], topic


def at_rest(simulator: Simulator, *programs: Mcm) -> None:
    """Wait until the last of them carries everything, on lines that the vendor knows, and every line is live or parked.

    That nothing happens from then on is what the test is about.
    """

    def check() -> bool:
        status = [mcm.status() for mcm in programs]
        lines = [line for one in status for line in one.connections.values()]
        live = [line for line in lines if line.state == "live"]
        return (
            all(line.state in {"live", "parked"} for line in lines)
            and sum(line.confirmed for line in status[-1].connections.values()) == len(ALL_TOPICS)
            and len(live) == len(simulator.remote.report().open_connections())
        )

    for mcm in programs:
        mcm.wait(lambda _: True, because="it answers")
    wait_until(check, because="everything is live or parked", within_s=SETTLED_WITHIN_S)


def states_of(mcm: Mcm) -> dict[str, str]:
    return {name: line.state for name, line in mcm.status().connections.items()}


# --- the clock --------------------------------------------------------------------------------------------------------

HOUR_S = 3_600
# Read by every Python process of that mcm as it starts: the wall clock is off by the modification time of a file.
OFF = """
import os, time
def off(clock, unit, path={path!r}):
    return lambda: clock() + os.stat(path).st_mtime_ns // unit
time.time_ns = off(time.time_ns, 1)
time.time = off(time.time, 10**9)
"""


def test_a_wall_clock_that_jumps_by_an_hour_ends_nothing_and_costs_nothing(
    vendor: Callable[..., Simulator], mcm: Mcm, start: Start
) -> None:
    """F33, forth and back, and a router that starts again in between; the core is in tests/core/test_wall_clock."""
    clock = mcm.folder / "clock"
    clock.touch()
    os.utime(clock, (0, 0))
    (mcm.folder / "sitecustomize.py").write_text(OFF.format(path=str(clock)))
    mcm.environment["PYTHONPATH"] = f"{mcm.folder}:{mcm.environment.get('PYTHONPATH', '')}"
    simulator = vendor(*LOAD)
    start(settings_for(simulator)).wait_ready()
    trial, off_s = Trial(simulator, mcm), [0.0]

    with contextlib.ExitStack() as stack:
        stack.callback(trial.end)
        states = States(mcm)
        _, _, dials = up_to_date(trial)
        shares = []
        for jump_s in (HOUR_S, -HOUR_S):
            simulator.remote.pause()  # the last tick was before the jump, and whoever looks for silence looks behind it
            silent_for(mcm, 1.0)
            os.utime(clock, (jump_s, jump_s))
            silent_for(mcm, 2.5)
            simulator.remote.resume()
            load = trial.load()
            trial.flow(2 * TICKS_PER_S)
            trial.catch_up()
            off_s.append(stamp_s(trial) - time.time())
            router = trial.pid("router")
            os.kill(router, signal.SIGKILL)
            trial.replaced("router", router)
            trial.catch_up()
            shares.append(load())
        untouched(trial, *LINES)
        told, gaps, report = states.all(), list(trial.collector.gaps), simulator.remote.report()
        found = trial.verdict()

    say(f"F33: load {min(shares):.0%}, stamps were off by {', '.join(f'{one:.2f}' for one in off_s)} s, {found}")
    assert trial.is_loaded(min(shares))
    assert [round(one / HOUR_S, 2) for one in off_s] == [0.0, 1.0, -1.0]
    assert (told, gaps) == ([], [])
    assert len(report.dials) == dials


def silent_for(mcm: Mcm, silent_s: float) -> None:
    """Wait until the last tick of every line is so old."""
    mcm.wait(
        lambda status: all((line.last_tick_age_s or 0) > silent_s for line in status.connections.values()),
        because=f"no line has ticked for {silent_s} s",
    )


def stamp_s(trial: Trial) -> float:
    """When, on mcm's wall clock, a message was read that comes just now."""
    with Subscriber(["stocks.T.AAPL"], run_dir=trial.mcm.run_dir) as subscriber:
        next(subscriber)
        assert subscriber.current is not None
        return subscriber.current.received_ns / 1e9
