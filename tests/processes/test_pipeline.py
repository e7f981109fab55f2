"""Ticks flow from the vendor through workers and router to subscribers, and every command shows it."""

import itertools
import json
from pathlib import Path

import msgspec

from mcm.simulator.launch import Simulator
from tests.processes.stack import Mcm, wait_until


def test_every_event_that_the_vendor_sent_arrives_once_and_in_order(three_lines: tuple[Simulator, Mcm]) -> None:
    simulator, mcm = three_lines
    subscriber = mcm.subscribe(b"stocks.")
    topics = ["stocks.T.AAPL", "stocks.Q.MSFT", "stocks.T.JPM", "stocks.T.SHOP"]

    wait_until(lambda: all(subscriber.count(topic) > 100 for topic in topics), because="ticks of every line come")
    simulator.remote.pause()
    sent = simulator.remote.report().topics
    last = {topic: simulator.remote.tape(topic, sent[topic].count, sent[topic].count)[0] for topic in topics}
    wait_until(
        lambda: all(subscriber.upstream_sequences(topic)[-1] == json.loads(last[topic])["q"] for topic in topics),
        because="the last event of every topic has come",
    )

    for topic in topics:
        arrived = subscriber.ticks[topic]
        tape = simulator.remote.tape(topic, sent[topic].count - len(arrived) + 1, sent[topic].count)
        assert [msgspec.msgpack.decode(tick) for tick in arrived] == [json.loads(text) for text in tape]
        assert [list(msgspec.msgpack.decode(tick)) for tick in arrived[:5]] == [list(json.loads(t)) for t in tape[:5]]
        numbers = subscriber.messages[topic]
        assert all(later == first + length for (first, length), (later, _) in itertools.pairwise(numbers))


def test_status_shows_every_line_as_one_json_document(three_lines: tuple[Simulator, Mcm]) -> None:
    _, mcm = three_lines

    status = json.loads(mcm.cli("status", "--json").stdout)

    assert status["state"] == "ready"
    assert status["account"] == {"stocks": {"allowed": 3, "running": 3, "configured": 3}}
    assert {name: line["wanted"] for name, line in status["connections"].items()} == {
        "primary": 4,
        "secondary": 4,
        "tertiary": 2,
    }
    primary = status["connections"]["primary"]
    assert (primary["state"], primary["market"], primary["confirmed"], primary["unconfirmed"]) == (
        "live",
        "stocks",
        4,
        [],
    )
    assert set(primary) >= {
        "pid",
        "ticks",
        "ticks_per_s",
        "last_tick_age_s",
        "reconnects",
        "restarts",
        "errors",
        "reason",
    }
    assert set(status["router"]) >= {"pid", "state", "received", "published", "restarts"}
    assert status["uptime_s"] > 0


def test_status_for_people_fits_into_a_terminal(three_lines: tuple[Simulator, Mcm]) -> None:
    _, mcm = three_lines
    mcm.environment["COLUMNS"] = "80"

    shown = mcm.cli("status").stdout

    assert "primary" in shown
    assert all(len(line) <= 80 for line in shown.splitlines()), shown


def test_tail_prints_as_many_ticks_as_asked_for(three_lines: tuple[Simulator, Mcm]) -> None:
    _, mcm = three_lines

    by_symbol = mcm.cli("tail", "AAPL", "--count", "5")
    as_json = mcm.cli("tail", "stocks.Q.*", "--json", "--count", "3")

    assert len(by_symbol.stdout.splitlines()) == 5
    assert {line.split()[1] for line in by_symbol.stdout.splitlines()} <= {"stocks.T.AAPL", "stocks.Q.AAPL"}
    ticks = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [tick["tick"]["ev"] for tick in ticks] == ["Q", "Q", "Q"]
    assert all(tick["topic"] == f"stocks.Q.{tick['tick']['sym']}" for tick in ticks)


def test_tail_says_at_once_that_nobody_carries_a_symbol(three_lines: tuple[Simulator, Mcm]) -> None:
    _, mcm = three_lines

    with mcm.popen("tail", "--run-dir", str(mcm.run_dir), "T.NOBODY") as tail:
        assert tail.stderr is not None
        said = tail.stderr.readline()
        tail.terminate()

    assert said == "mcm: no connection carries T.NOBODY; Waiting for it, Ctrl-C ends\n"


def test_tail_ends_when_mcm_stops(three_lines: tuple[Simulator, Mcm]) -> None:
    _, mcm = three_lines

    with mcm.popen("tail", "--run-dir", str(mcm.run_dir), "AAPL") as tail:
        assert tail.stdout is not None
        tail.stdout.readline()
        mcm.cli("stop")
        _, complaint = tail.communicate(timeout=10)

    assert tail.returncode == 5
    assert "(it has stopped)" in complaint


def test_the_built_in_simulator_feeds_the_packaged_configuration(mcm: Mcm) -> None:
    started = mcm.command("start", "--detach", "--run-dir", str(mcm.run_dir))

    assert started.returncode == 0, started.stderr
    assert "with 3 of 3 connections live" in started.stdout
    assert len(mcm.cli("tail", "AAPL", "--count", "2").stdout.splitlines()) == 2
    assert mcm.cli("stop").stdout == "stopped\n"
    assert mcm.processes() == {}
    assert not (Path(mcm.run_dir) / "control").exists()
