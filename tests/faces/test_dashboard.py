"""The dashboard as a program sees it: REST, health, stream, and that nothing depends on it."""

import asyncio
import itertools
import json
import socket
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from openapi_spec_validator import validate

from mcm.core.status import Status
from mcm.core.web_api import PATHS
from mcm.web.app import Dashboard
from mcm.web.pages import QUEUE, Page
from mcm.web.sampler import Look, Sampler
from tests.bench.costs import cpu_s
from tests.faces.dashboard import Board, Web, readers
from tests.processes.stack import NO_FACES, Mcm, Start, wait_until

pytestmark = pytest.mark.xdist_group("dashboard")  # one mcm for all of them
LINES = ["primary", "secondary", "tertiary"]


def lines_of(web: Web) -> dict[str, Any]:
    return {one["id"]: one for one in web.get("/api/websocket/connections").json}


# --- how it stands ----------------------------------------------------------------------------------------------------


def test_every_configured_connection_is_shown_also_the_disabled_one(board: Board) -> None:
    found = lines_of(board.web)

    assert list(found) == [*LINES, "spare"]
    assert [found[name]["status"]["state"] for name in LINES] == ["live"] * 3
    assert found["spare"]["status"] is None
    assert found["spare"]["note"] == "disabled in the configuration"
    assert found["primary"]["watchlists"] == ["leaders"]
    assert board.web.get("/api/websocket/connections/spare").json == found["spare"]


def test_a_connection_tells_its_tickers(board: Board) -> None:
    found = board.web.get("/api/websocket/connections/primary/tickers").json

    assert {"AAPL", "MSFT", "NVDA", "AMZN"} <= set(found["tickers"])
    assert {"stocks.T.AAPL", "stocks.Q.AAPL"} <= set(found["topics"])


def test_the_status_is_that_of_the_command_line(board: Board) -> None:
    there = json.loads(board.mcm.cli("status", "--json").stdout)
    here = board.web.get("/api/status").json

    assert here.keys() == there.keys() == set(Status.__struct_fields__)
    assert here["pid"] == there["pid"]
    assert here["dashboard"]["address"] == board.web.address


def test_topics_gaps_and_the_ledger_are_told(board: Board) -> None:
    table = board.web.get("/api/topics").json
    rows = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}
    why = board.web.get("/api/topics/AAPL").json
    ledger = board.web.get("/api/ledger").json

    assert rows["stocks.T.AAPL"]["lines"] == ["primary"]
    assert rows["stocks.T.AAPL"]["watchlist"] == "leaders"
    assert {one["topic"] for one in why} == {"stocks.T.AAPL", "stocks.Q.AAPL"}
    assert board.web.get("/api/topics/stocks.T.JPM").json[0]["pinned_to"] == "secondary"
    assert board.web.get("/api/gaps").json["open"] == []
    assert ledger["router"]["balance"] == 0
    assert "received" in ledger["equation"]


def test_it_is_healthy_and_ready(board: Board) -> None:
    assert board.web.get("/health").json == {"status": "up"}
    assert board.web.get("/ready").json == {"ready": True, "reasons": []}


def test_every_path_is_described_and_the_description_is_valid(board: Board) -> None:
    described = board.web.get("/api/openapi.json").json

    validate(described)
    assert described["paths"].keys() == PATHS.keys()
    for path, operations in described["paths"].items():
        for method in operations:
            place = path.replace("{id}", "primary").replace("{topic}", "AAPL")
            answer = board.web.ask("HEAD" if method == "get" else "DELETE", place)
            assert answer.status == (200 if method == "get" else 405), path


@pytest.mark.parametrize(
    ("asked", "body", "status", "words"),
    [
        ("GET /api/nothing", None, 404, "there is no GET /api/nothing"),
        ("GET /api/websocket/connections/primry", None, 404, "did you mean primary?"),
        ("GET /api/topics/AAPLE", None, 404, "did you mean AAPL?"),
        ("PUT /api/status", None, 405, "there is no PUT /api/status"),
        ("POST /api/connections/nobody/restart", None, 404, "there is no connection 'nobody'"),
        ("POST /api/subscribe", {"topics": []}, 400, "the body is not what is expected"),
        ("POST /api/subscribe", {"topics": ["nonsense"]}, 400, "is no topic"),
        ("POST /api/subscribe", {"topic": "T.AAPL"}, 400, "unknown field"),
        ("POST /api/move", {"what": "AAPL", "connection": "nobody"}, 400, "there is no connection"),
        ("POST /api/move", b"{", 400, "the body is not what is expected"),
        ("POST /api/move", b"[" * 100_000, 400, "the body is not what is expected"),
        ("POST /api/websocket/rebalance", {"dry_run": "yes"}, 400, "Expected `bool`"),
        ("POST /api/connections/primary/resume", None, 400, "primary is not paused"),
        ("POST /api/subscribe", b" " * 2_000_000, 413, ""),
    ],
)
def test_what_cannot_be_answered_says_status_problem_and_what_helps(
    board: Board, asked: str, body: object, status: int, words: str
) -> None:
    method, path = asked.split()
    answer = board.web.ask(method, path, body)

    assert answer.status == answer.json["status"] == status
    assert answer.json.keys() == {"status", "problem", "hint"}
    assert words in f"{answer.json['problem']}; {answer.json['hint']}"


def test_the_status_is_answered_within_fifty_milliseconds(board: Board) -> None:
    def once() -> float:
        began = time.perf_counter()
        board.web.get("/api/status")
        return time.perf_counter() - began

    times = [once() for _ in range(40)]

    assert statistics.median(times) < 0.05  # the longest one also says how busy the machine is


# --- the stream -------------------------------------------------------------------------------------------------------


def test_a_page_gets_the_whole_picture_and_then_at_most_four_small_ones_a_second(board: Board) -> None:
    events = board.web.events()
    first, whole = next(events)
    began = time.monotonic()
    news = list(itertools.islice(events, 9))
    elapsed_s = time.monotonic() - began
    events.close()

    assert first == "whole"
    assert {one["name"] for one in whole["configured"]["connections"]} == {*LINES, "spare"}
    assert whole["history"]["lines"].keys() >= set(LINES)
    assert {name for name, _ in news} == {"news"}
    assert elapsed_s > 1.8, "no more than four a second"
    assert all(abs(time.time() * 1e3 - picture["at_ms"]) < 4_000 for _, picture in news)
    tape = [row for _, picture in news for row in picture["tape"]]
    assert {row[1] for row in tape} == set(LINES)


def test_latencies_of_every_line_are_measured_while_somebody_looks(board: Board) -> None:
    events = board.web.events()

    def are_measured() -> bool:
        latency = next(events)[1]["latency"]
        return all(
            0 < latency[name]["inside"]["p50_s"] < 1.0 and latency[name]["vendor"]["p99_s"] is not None
            for name in LINES
            if name in latency
        ) and latency.keys() >= set(LINES)

    wait_until(are_measured, because="every line has brought some ticks")
    events.close()


def test_the_table_knows_when_a_topic_ticked_last_while_somebody_looks(board: Board) -> None:
    events = board.web.events()

    def ages() -> list[float | None]:
        next(events)
        table = board.web.get("/api/topics").json
        return [row[table["columns"].index("age_s")] for row in table["rows"]]

    wait_until(lambda: any(age is not None and age < 2 for age in ages()), because="ticks are seen")
    events.close()


def test_a_page_that_does_not_read_holds_nobody_up(board: Board) -> None:
    with socket.create_connection(board.web.address.split(":")) as stuck:  # type: ignore[arg-type]
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stuck.sendall(f"GET /api/stream HTTP/1.1\r\nHost: {board.web.address}\r\n\r\n".encode())
        events = board.web.events()

        assert [name for name, _ in itertools.islice(events, 12)] == ["whole"] + ["news"] * 11
        events.close()


def test_pages_are_counted_and_ten_of_them_cost_little(board: Board) -> None:
    stop = threading.Event()
    threads = readers(board.web, 10, stop)
    dashboard = board.mcm.wait(
        lambda status: status.dashboard is not None and status.dashboard.pages >= 10, because="ten pages are open"
    ).dashboard
    assert dashboard is not None
    assert dashboard.pid is not None

    pid = dashboard.pid
    before, began = cpu_s(pid), time.monotonic()
    wait_until(lambda: time.monotonic() - began > 2.5, because="it has been looked at for a while")
    share = (cpu_s(pid) - before) / (time.monotonic() - began)
    stop.set()
    for thread in threads:
        thread.join(10)

    assert share < 0.15  # 3 to 4 % where nothing else runs; README has the figures
    board.mcm.wait(
        lambda status: status.dashboard is not None and status.dashboard.pages == 0, because="all are closed"
    )


def test_a_page_that_takes_nothing_is_told_everything_anew_instead_of_being_queued_for() -> None:
    page = Page()
    page.must_be_told_all = False

    for _ in range(QUEUE):
        page.put(b"news")
    assert page.waiting_bytes == QUEUE * len(b"news")
    assert not page.must_be_told_all
    page.put(b"one too many")

    assert page.waiting_bytes == 0
    assert page.must_be_told_all


def test_ticks_are_read_only_while_somebody_looks_and_only_a_part_of_too_many(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = Sampler(board.mcm.run_dir)
    sampler.start()
    assert sampler._socket is None

    sampler.want(Look.ALL)
    wait_until(lambda: bool(sampler.take_tape()), because="it reads")
    monkeypatch.setattr("mcm.web.sampler.BUDGET", 3)
    wait_until(lambda: sampler.is_partial, because="there is more than it may look at")
    wait_until(lambda: bool(sampler.take_tape()), because="it goes on with a part")
    sampler.want(Look.NOTHING)
    wait_until(lambda: sampler._socket is None and sampler.last_ns(["stocks.T.AAPL"]) == [None], because="nobody looks")


# --- what changes something -------------------------------------------------------------------------------------------


def test_topics_are_subscribed_moved_and_unsubscribed(board: Board) -> None:
    web = board.web

    assert web.post("/api/subscribe", {"topics": ["T.KO"], "connection": "tertiary"}).json["unplaced"] == {}
    wait_until(
        lambda: "KO" in web.get("/api/websocket/connections/tertiary/tickers").json["tickers"], because="it is carried"
    )
    assert web.post("/api/move", {"what": "KO", "connection": "secondary"}).status == 200
    wait_until(
        lambda: "KO" in web.get("/api/websocket/connections/secondary/tickers").json["tickers"], because="it was moved"
    )
    assert web.post("/api/unsubscribe", {"topics": ["stocks.T.KO"]}).json == {"unplaced": {}, "still_leased": []}
    assert web.get("/api/topics/KO").status == 404


def test_a_connection_is_paused_resumed_and_restarted(board: Board) -> None:
    web = board.web

    assert web.post("/api/connections/tertiary/pause").status == 200
    wait_until(lambda: lines_of(web)["tertiary"]["status"]["state"] == "paused", because="it is closed")
    assert web.get("/ready").json["ready"], "others carry what it had"
    assert web.post("/api/connections/tertiary/pause").json["hint"] == "`mcm resume tertiary` ends that"
    assert web.post("/api/connections/tertiary/resume").status == 200
    wait_until(lambda: lines_of(web)["tertiary"]["status"]["state"] == "live", because="it is back")
    before = lines_of(web)["tertiary"]["status"]
    assert web.post("/api/connections/tertiary/restart").status == 200
    wait_until(
        lambda: (now := lines_of(web)["tertiary"]["status"])["state"] == "live" and now["pid"] != before["pid"],
        because="another process has its place",
    )


def test_a_rebalance_is_shown_and_then_made(board: Board) -> None:
    web = board.web
    topics = web.get("/api/websocket/connections/primary/tickers").json["topics"]
    web.post("/api/unsubscribe", {"topics": topics})  # so that primary is idle
    try:
        wait_until(
            lambda: bool(web.post("/api/websocket/rebalance", {"dry_run": True}).json.get("moves")),
            because="every line has told its rates, and primary has nothing to do",
            within_s=30,
        )
        shown = web.post("/api/websocket/rebalance", {"dry_run": True}).json
        assert web.get("/api/websocket/connections/primary/tickers").json["topics"] == [], "only shown"
        made = web.post("/api/websocket/rebalance", {}).json

        assert shown["is_dry_run"]
        assert not made["is_dry_run"]
        assert "primary" in {move["target"] for move in shown["moves"]}
        wait_until(
            lambda: bool(web.get("/api/websocket/connections/primary/tickers").json["topics"]),
            because="primary has something to do",
        )
    finally:
        web.post("/api/subscribe", {"topics": topics})
    wait_until(lambda: web.get("/ready").status == 200, because="all is as before")


# --- nothing depends on it --------------------------------------------------------------------------------------------


def test_a_dashboard_that_is_killed_comes_back_at_its_place_and_nobody_notices(board: Board) -> None:
    before = board.mcm.status()
    assert before.dashboard is not None

    board.mcm.kill(before.dashboard.pid)
    after = board.mcm.wait(
        lambda status: (
            status.dashboard is not None
            and status.dashboard.restarts == before.dashboard.restarts + 1  # type: ignore[union-attr]
            and status.dashboard.address == board.web.address
        ),
        because="it was started again on the same port",
    )

    assert after.state == "ready"
    assert board.web.get("/health").status == 200
    assert [line.reconnects for line in after.connections.values()] == [
        line.reconnects for line in before.connections.values()
    ]


def test_a_port_that_is_taken_is_named_and_the_feed_runs(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        quiet = NO_FACES.replace("[dashboard]\nenabled = false\n", f'[dashboard]\nlisten = "127.0.0.1:{port}"\n')
        mcm: Mcm = start(quiet + '[[connections]]\nname = "only"\n[[watchlists]]\nname = "w"\nchannels = ["T"]\n'
                         'symbols = ["AAPL"]\n')  # fmt: skip
        status = mcm.wait(
            lambda status: status.dashboard is not None and bool(status.dashboard.problem), because="it says so"
        )
        assert status.dashboard is not None
        assert f"127.0.0.1:{port}" in status.dashboard.problem
        assert status.dashboard.address == ""
        assert mcm.wait_ready().connections["only"].state == "live"
        assert f"dashboard: cannot listen on 127.0.0.1:{port}" in mcm.cli("status").stdout
    mcm.wait(
        lambda status: status.dashboard is not None and status.dashboard.address.endswith(f":{port}"),
        because="it takes the port once that is free",
    )


def test_what_is_missing_makes_it_unready_with_the_reason(board: Board) -> None:
    board.simulator.remote.refuse_upgrades()
    board.simulator.remote.drop()
    try:
        wait_until(
            lambda: any("topics confirmed" in reason for reason in board.web.get("/ready").json["reasons"]),
            because="no line lives",
        )
        assert board.web.get("/ready").status == 503
        assert not board.web.get("/ready").json["ready"]
        assert board.web.get("/health").status == 200
    finally:
        board.simulator.remote.accept_upgrades()
    wait_until(lambda: board.web.get("/ready").status == 200, because="all is well again", within_s=90)


def test_without_an_mcm_that_answers_it_says_so(tmp_path: Path) -> None:
    async def ask() -> tuple[int, Any]:
        async with TestClient(TestServer(Dashboard(tmp_path, "", ()).application())) as client:
            answer = await client.get("/api/status")
            return answer.status, await answer.json()

    status, body = asyncio.run(ask())

    assert status == body["status"] == 503
    assert f"no mcm answers on {tmp_path}" in body["problem"]
