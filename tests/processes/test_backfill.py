"""Gaps are repaired by REST: what a dropped line missed is published later, and nothing is published twice."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcm import Subscriber
from mcm.core.control import BackfillReport, BackfillSettings, Ready, Repair, Stop, Up, decode_up
from mcm.core.errors import NotRunning
from mcm.core.gaps import GapRepaired
from mcm.runtime import Channel
from mcm.simulator.launch import Simulator
from tests.processes.stack import DEADLINE_S, Mcm, Start, wait_until

KEY = "good-key-that-nobody-may-see"
TRADES = ["stocks.T.AAPL", "stocks.T.MSFT"]
S = 10**9
ONE_LINE = """
[upstream]
feed = "ws://127.0.0.1:{port}"
[[connections]]
name = "primary"
[[watchlists]]
name = "one"
channels = {channels}
symbols = ["AAPL", "MSFT"]
connection = "primary"
"""


class Backfill:
    """One life of workers.backfill, with this test as its supervisor."""

    def __init__(self, mcm: Mcm, rest_url: str, **settings: Any) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = (mcm.run_dir / "logs" / "backfill.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.backfill"],
            stdin=theirs.fileno(), stdout=self._log, stderr=self._log, env=mcm.environment,
        )  # fmt: skip
        theirs.close()
        self._channel: Channel[Up] = Channel(ours, decode_up)
        self._records: list[Up] = []
        self._asked = 0
        known = {"run_dir": str(mcm.run_dir), "rest_url": rest_url, "requests_per_s": 50.0, "api_key": KEY}
        self._channel.send(msgspec.convert(known | settings, BackfillSettings))
        wait_until(lambda: any(isinstance(record, Ready) for record in self._heard()), because="it is ready")

    def _heard(self) -> list[Up]:
        self._records += self._channel.receive()
        return self._records

    @property
    def report(self) -> BackfillReport:
        """The newest."""
        return next(
            (record for record in reversed(self._heard()) if isinstance(record, BackfillReport)), BackfillReport(0)
        )

    def repair(self, topics: list[str], since_ns: int, until_ns: int, **more: Any) -> BackfillReport:
        """Send the demand and wait until it is worked off."""
        self.ask(topics, since_ns, until_ns, **more)
        wait_until(
            lambda: self.report.taken == self._asked and not self.report.unfinished,
            because="all demands are worked off",
            within_s=60,
        )
        return self.report

    def ask(self, topics: list[str], since_ns: int, until_ns: int, **more: Any) -> None:
        self._asked += 1
        self._channel.send(Repair("gap-1", tuple(topics), since_ns, until_ns, **more))

    def end(self) -> int:
        """Stop it; its exit status."""
        self._channel.send(Stop())
        status = self.process.wait(DEADLINE_S)
        self._heard()
        self._channel.close()
        self._log.close()
        return status

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        self._channel.close()
        self._log.close()


class Delivered(threading.Thread):
    """All that a Subscriber hands out, by topic: (connection, tick)."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(daemon=True)
        self._subscriber = Subscriber(["stocks.*", "mcm.gap"], run_dir=run_dir)
        self.ticks: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        self.repairs: list[GapRepaired] = []
        self.start()

    def run(self) -> None:
        try:
            for topic, encoded in self._subscriber.raw():
                events = msgspec.msgpack.decode(encoded)
                if topic == b"mcm.gap":
                    mine = [event for event in events if event["ev"] == "gap_repaired"]
                    self.repairs += [msgspec.convert(event, GapRepaired) for event in mine]
                    continue
                current = self._subscriber.current
                assert current is not None
                self.ticks[topic.decode()] += [(current.connection, event) for event in events]
        except NotRunning:
            pass

    def from_backfill(self, topic: str) -> int:
        return sum(connection == "backfill" for connection, _ in list(self.ticks[topic]))

    def repaired(self, topic: str, times: int = 1) -> GapRepaired:
        """The newest word about this topic, when there have been so many."""
        wait_until(lambda: self._words(topic)[times - 1 :] != [], because=f"{topic} is said to be repaired or not")
        return self._words(topic)[-1]

    def _words(self, topic: str) -> list[GapRepaired]:
        return [word for word in list(self.repairs) if word.topic == topic]

    def end(self) -> None:
        self._subscriber.stop()
        self.join(DEADLINE_S)
        self._subscriber.close()


class Gap:
    """A simulator and mcm with one line, which can be cut for a while."""

    def __init__(self, simulator: Simulator, mcm: Mcm) -> None:
        self.simulator, self.mcm = simulator, mcm
        self.delivered = Delivered(mcm.run_dir)
        self.backfills: list[Backfill] = []

    def backfill(self, rest_url: str | None = None, **settings: Any) -> Backfill:
        self.backfills.append(Backfill(self.mcm, rest_url or self.simulator.rest_url, **settings))
        return self.backfills[-1]

    def cut(self, topic: str, events: int) -> tuple[int, int]:
        """Drop the line until *topic* has ticked so often; since when and until when it was away."""
        simulator = self.simulator
        wait_until(lambda: len(self.delivered.ticks[topic]) > 0, because=f"{topic} flows")
        since_ns = time.time_ns()
        simulator.remote.refuse_upgrades()
        simulator.remote.drop(mode="abort")
        before = simulator.remote.report().topics[topic].count
        wait_until(
            lambda: simulator.remote.report().topics[topic].count >= before + events,
            because=f"{topic} ticks on",
        )
        simulator.remote.accept_upgrades()
        self.mcm.wait(lambda status: status.connections["primary"].reconnects > 0, because="the line is back")
        count = len(self.delivered.ticks[topic])
        wait_until(lambda: len(self.delivered.ticks[topic]) > count, because=f"{topic} flows again")
        return since_ns, time.time_ns()

    def assert_whole(self, topic: str, *, by: tuple[str, ...] = ()) -> None:
        """What was delivered is the tape, from its first tick on: each event once, and word for word.

        With *by*, each event is told by these keys alone.
        """
        self.simulator.remote.pause()
        tape = [json.loads(text) for text in self.simulator.remote.tape(topic)]

        def key(event: dict[str, Any]) -> Any:
            facts = {name: tuple(value) if isinstance(value, list) else value for name, value in event.items()}
            return tuple(facts[name] for name in by) if by else frozenset(facts.items())  # 298 is 298.0

        ticks = self.delivered.ticks[topic]
        wait_until(lambda: any(key(tick) == key(tape[-1]) for _, tick in list(ticks)), because="the tape's end came")
        first = [key(event) for event in tape].index(key(ticks[0][1]))
        assert Counter(key(tick) for _, tick in ticks) == Counter(key(event) for event in tape[first:])


@pytest.fixture
def gap(vendor: Callable[..., Simulator], start: Start) -> Iterator[Callable[..., Gap]]:
    gaps: list[Gap] = []

    def begin(*channels: str) -> Gap:
        simulator = vendor("--ticks-per-s", "200")
        configuration = ONE_LINE.format(port=simulator.port, channels=json.dumps(channels or ["T"]))
        mcm = start(configuration)
        mcm.wait_ready()
        gaps.append(Gap(simulator, mcm))
        return gaps[-1]

    yield begin
    for one in gaps:
        for backfill in one.backfills:
            if backfill.process.poll() is None:
                backfill.kill()
        one.delivered.end()


def past(seconds: float) -> int:
    """Wall clock so long ago."""
    return time.time_ns() - int(seconds * S)


def test_what_a_dropped_line_missed_is_published_once_whatever_the_vendor_answers_first(
    gap: Callable[..., Gap],
) -> None:
    one = gap()
    since_ns, until_ns = one.cut(TRADES[0], events=110)  # the other topic may have ticked a little less
    backfill = one.backfill(page_limit=30)
    for status in (503, 429, 500, 413):
        one.simulator.remote.fail_rest(status)

    report = backfill.repair(
        [*TRADES, "stocks.T.*", "stocks.LULD.AAPL", "stocks.Q.AAPL", "nonsense"], since_ns, until_ns
    )

    words = {topic: one.delivered.repaired(topic) for topic in TRADES}
    for topic, word in words.items():
        assert word.published >= 100
        assert word.known > 0
        assert (word.id, word.topic, word.how, word.fetched) == (
            "gap-1",
            topic,
            "back-filled",
            word.known + word.published,
        )
        assert one.delivered.from_backfill(topic) == word.published
    assert report.published == sum(word.published for word in words.values())
    assert report.requests > 4 + 2 * 2 * 100 / 30
    assert one.delivered.repaired("stocks.T.*").how == "not repaired: REST knows single symbols only"
    assert one.delivered.repaired("stocks.LULD.AAPL").how == "not repaired: REST has no stocks.LULD"
    assert one.delivered.repaired("stocks.Q.AAPL").how == "not repaired: back-filling Q is not enabled"
    assert "no topic" in one.delivered.repaired("nonsense").how

    again = backfill.repair(TRADES, since_ns, until_ns)

    assert again.published == report.published
    assert one.delivered.repaired(TRADES[0], times=2).published == 0
    for topic in TRADES:
        one.assert_whole(topic)
    assert backfill.end() == 0
    assert KEY not in one.mcm.logs()


def test_quotes_and_bars_are_repaired_where_they_are_enabled(gap: Callable[..., Gap]) -> None:
    one = gap("T", "Q", "A")
    since_ns, until_ns = one.cut("stocks.A.AAPL", events=4)
    backfill = one.backfill(channels=("T", "Q", "A"))

    backfill.repair(["stocks.T.AAPL", "stocks.Q.AAPL", "stocks.A.AAPL"], since_ns, until_ns)

    for channel, by in (("T", ()), ("Q", ()), ("A", ("s",))):
        topic = f"stocks.{channel}.AAPL"
        assert one.delivered.repaired(topic).published > 0
        one.assert_whole(topic, by=by)


@pytest.mark.parametrize("victims", ["backfill", "backfill, and the router hangs"])
def test_killed_in_the_middle_it_completes_in_another_life_without_repetition(
    gap: Callable[..., Gap], victims: str
) -> None:
    one = gap()
    since_ns, until_ns = one.cut(TRADES[0], events=200)
    first = one.backfill(page_limit=20, requests_per_s=4.0)
    first.ask(TRADES, since_ns, until_ns)
    wait_until(lambda: first.report.published >= 40, because="a part has been published")
    if "router" in victims:
        pid = one.mcm.status().router.pid
        assert pid is not None
        # What backfill sends from here on waits in its file until, after five seconds, the router is replaced.
        os.kill(pid, signal.SIGSTOP)
        before = first.report.published
        wait_until(lambda: first.report.published > before, because="more has been published meanwhile")

    first.kill()
    assert first.report.unfinished == (1,)
    second = one.backfill(page_limit=20)
    second.repair(TRADES, since_ns, until_ns)

    for topic in TRADES:
        word = one.delivered.repaired(topic)
        assert word.how == "back-filled"
        assert one.delivered.from_backfill(topic) >= 200
    assert one.delivered.repaired(TRADES[0]).published < one.delivered.from_backfill(TRADES[0])
    for topic in TRADES:
        one.assert_whole(topic)


def test_a_vendor_that_refuses_is_named_and_not_asked_again(gap: Callable[..., Gap]) -> None:
    one = gap()
    topics = [f"stocks.T.S{number}" for number in range(20)]

    stranger = one.backfill(api_key="bad-key-of-a-stranger")
    first = stranger.repair(topics, past(100), past(60))
    second = stranger.repair(topics, past(100), past(60))

    assert first.refused == {"stocks": "HTTP 401 (Unknown API Key)"}
    assert second.requests == first.requests <= 4
    assert all(one.delivered.repaired(t).how == "not repaired: HTTP 401 (Unknown API Key)" for t in topics)
    assert stranger.end() == 0
    assert one.mcm.log("backfill").count("HTTP 401") == 1
    assert "bad-key-of-a-stranger" not in one.mcm.logs()

    one.simulator.remote.plan(lacks=("stocks.Q",))
    friend = one.backfill(channels=("T", "Q"))
    report = friend.repair(["stocks.Q.AAPL", "stocks.T.AAPL"], past(100), past(60))

    assert list(report.refused) == ["stocks.Q"]
    assert one.delivered.repaired("stocks.Q.AAPL").how.startswith("not repaired: HTTP 403 (You are not entitled")
    assert one.delivered.repaired("stocks.T.AAPL").how == "back-filled"


def test_many_topics_are_asked_for_no_faster_than_the_budget_and_higher_ranks_first(gap: Callable[..., Gap]) -> None:
    one = gap()
    low, high = ([f"stocks.T.{name}{number}" for number in range(30)] for name in ("LOW", "HIGH"))
    backfill = one.backfill(requests_per_s=20.0)
    since_ns, until_ns = past(100), past(60)

    began = time.monotonic()
    backfill.ask(low, since_ns, until_ns, rank=1)
    report = backfill.repair(high, since_ns, until_ns, rank=0)
    took_s = time.monotonic() - began

    assert report.requests == 60
    assert took_s > 59 / 20
    wait_until(lambda: len(one.delivered.repairs) == 60, because="every topic has its word")
    order = [word.topic for word in one.delivered.repairs]
    # The low ones were first if they had begun before the others came.
    assert set(order[:28]) < set(high) or set(order[:28]) < set(low)


class LaggingRest(ThreadingHTTPServer):
    """The simulator's REST side as it is when it lags: first too busy, then empty, and only then all of it."""

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Lagging)
        self.upstream, self.asked = upstream, 0
        self.times: list[float] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Lagging(BaseHTTPRequestHandler):
    server: LaggingRest

    def do_GET(self) -> None:
        server = self.server
        server.times.append(time.monotonic())
        status, body = 200, b'{"results":[],"status":"OK"}'
        if len(server.times) == 1:
            status, body = 429, b""
        elif len(server.times) > 2:
            headers = {"Authorization": self.headers["Authorization"]}
            with urllib.request.urlopen(urllib.request.Request(server.upstream + self.path, headers=headers)) as answer:
                body = answer.read()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "2")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_rest_is_asked_a_second_time_because_it_lags_the_stream(gap: Callable[..., Gap]) -> None:
    one = gap()
    since_ns, until_ns = one.cut(TRADES[0], events=50)
    lagging = LaggingRest(one.simulator.rest_url)
    try:
        one.backfill(lagging.url).repair(TRADES[:1], since_ns, until_ns)
    finally:
        lagging.shutdown()
        lagging.server_close()

    busy, empty, whole = lagging.times
    assert empty - busy > 1.9
    assert whole - empty > 1
    assert one.delivered.repaired(TRADES[0]).published >= 50
    one.assert_whole(TRADES[0])
