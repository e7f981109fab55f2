"""Routing that moves: whatever is moved, added, removed or lost, no topic misses what a line of it has received.

The judge is the simulator's tape: a topic that was moved only must be the tape without a hole, a repetition or a change
of order; of a line that was killed only what lies in a named gap may be missing.
"""

import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from mcm.client import Control
from mcm.core.errors import UsageError
from mcm.core.follow import Lost, Reset
from mcm.simulator.launch import Simulator
from tests.processes.judge import Collector, keys_of, outside, pid_of, say, settle
from tests.processes.stack import NO_FACES, Mcm, Start, wait_until

SYMBOLS = [f"S{number:03}" for number in range(300)]
TOPICS = [f"stocks.T.{symbol}" for symbol in SYMBOLS]
TICKS_PER_S = 5_000
FILE = (
    NO_FACES
    + """
[upstream]
feed = "{feed}"
[routing]
strategy = "{strategy}"
auto_rebalance = false
{connections}
[[watchlists]]
name = "all"
channels = ["T"]
symbols = {symbols}
"""
)


def file_for(simulator: Simulator, *names: str, strategy: str = "manual", symbols: list[str] = SYMBOLS) -> str:
    connections = "\n".join(f'[[connections]]\nname = "{name}"' for name in names)
    feed = f"ws://127.0.0.1:{simulator.port}"
    return FILE.format(feed=feed, strategy=strategy, connections=connections, symbols=symbols)


class Scene(NamedTuple):
    simulator: Simulator
    mcm: Mcm
    collector: Collector

    def wait_moved(self, because: str = "everything is where it is to be") -> None:
        """Until every line has confirmed what it carries, and no topic is on two lines."""
        self.mcm.wait(
            lambda status: (
                status.state == "ready"
                and not status.stuck
                and not status.unplaced
                and sum(line.wanted for line in status.connections.values()) == len(SYMBOLS)
                and all(line.confirmed == line.wanted for line in status.connections.values())
            ),
            because=because,
            within_s=40,
        )

    def assert_perfect(self, *, has_gaps: bool = False) -> int:
        """Every topic is the vendor's tape, but for what a named gap tells of, if one may; how much is missing."""
        settle(self.simulator, self.collector, *TOPICS)
        missing, report = 0, self.simulator.remote.report()
        for topic in TOPICS:
            tape = keys_of(self.simulator.remote.tape(topic, 1, report.topics[topic].count))
            delivered = list(self.collector.delivered[topic])
            expected = tape[tape.index(delivered[0]) :]
            if delivered == expected:
                continue
            assert has_gaps, f"{topic}: {len(expected) - len(delivered)} of {len(expected)} are missing"
            came = set(delivered)
            assert delivered == [key for key in expected if key in came], f"{topic}: repeated or out of order"
            absent = [at for key in expected if key not in came and isinstance(at := key[1], int)]
            assert outside(absent, self.collector.gaps, topic) == [], f"{topic}: missing, and in no named gap"
            missing += len(absent)
        assert [one for one in self.collector.complaints if isinstance(one, Lost | Reset)] == []
        say(f"{self.collector.count()} ticks, {missing} of them missing in named gaps")
        return missing


@pytest.fixture
def scene(vendor: Callable[..., Simulator], start: Start, collect: Callable[..., Collector]) -> Callable[..., Scene]:
    def make(*names: str, strategy: str = "manual", automatic: bool = False) -> Scene:
        simulator = vendor("--ticks-per-s", str(TICKS_PER_S), "--turn-ms", "10")
        text = file_for(simulator, *names, strategy=strategy)
        if automatic:
            text = text.replace("auto_rebalance = false", "auto_rebalance = true\nhealth_check_interval_s = 1")
        mcm = start(text)
        mcm.wait_ready()
        collector = collect(mcm, "stocks.T.*")
        wait_until(lambda: len(collector.delivered) == len(SYMBOLS), because="every topic ticks")
        return Scene(simulator, mcm, collector)

    return make


def move_all(mcm: Mcm, symbols: list[str], name: str) -> None:
    with Control(mcm.run_dir) as control:
        for symbol in symbols:
            assert control.move(symbol, name) == {}


def is_measured(mcm: Mcm) -> bool:
    with contextlib.suppress(UsageError), Control(mcm.run_dir) as control:
        control.rebalance(dry_run=True)
        return True
    return False


def carried_by(mcm: Mcm) -> dict[str, list[str]]:
    with Control(mcm.run_dir) as control:
        return control.ask("plan", answer=dict[str, list[str]])


def test_a_hundred_symbols_are_moved_and_no_tick_is_missed(scene: Callable[..., Scene]) -> None:
    here = scene("primary", "secondary", "tertiary")
    before = carried_by(here.mcm)
    moving = [item.partition(".")[2] for item in before["primary"]]
    assert len(moving) == 100

    move_all(here.mcm, moving, "tertiary")
    here.wait_moved()
    here.collector.wait_for_more(2 * TICKS_PER_S)

    assert len(carried_by(here.mcm)["tertiary"]) == 200
    assert here.mcm.status().router.duplicates > 0, "both lines carried it for a while"
    here.assert_perfect()


def test_a_connection_is_added_filled_by_a_rebalance_and_removed_again(scene: Callable[..., Scene]) -> None:
    here = scene("primary", "secondary", strategy="load-balanced")
    with Control(here.mcm.run_dir) as control:
        control.add_connection("tertiary")
    here.wait_moved()
    assert here.mcm.status().connections["tertiary"].wanted == 0

    wait_until(lambda: is_measured(here.mcm), because="the workers have told what ticks")
    with Control(here.mcm.run_dir) as control:
        moves = control.rebalance()
    here.wait_moved()
    here.collector.wait_for_more(TICKS_PER_S)
    wanted = {name: line.wanted for name, line in here.mcm.status().connections.items()}
    assert 0 < len(moves) == wanted["tertiary"] < 100
    assert max(wanted.values()) < 130

    with Control(here.mcm.run_dir) as control:
        control.remove_connection("tertiary")
    here.mcm.wait(lambda status: "tertiary" not in status.connections, because="it is gone", within_s=40)
    here.wait_moved()
    here.collector.wait_for_more(TICKS_PER_S)

    here.assert_perfect()
    assert here.mcm.status().live == []


def test_a_line_that_is_much_busier_than_another_is_relieved_by_itself_and_nothing_swings(
    scene: Callable[..., Scene],
) -> None:
    here = scene("primary", strategy="load-balanced", automatic=True)
    with Control(here.mcm.run_dir) as control:
        control.add_connection("secondary")

    here.mcm.wait(lambda status: status.connections["secondary"].wanted > 0, because="it is relieved", within_s=40)
    here.wait_moved()
    share = {name: line.wanted for name, line in here.mcm.status().connections.items()}
    here.collector.wait_for_more(8 * TICKS_PER_S)  # eight times the interval

    assert 90 <= share["secondary"] <= 160, "the fewest moves that bring the busiest below 1.2 times the mean"
    assert {name: line.wanted for name, line in here.mcm.status().connections.items()} == share
    here.assert_perfect()


def test_an_edited_file_that_lacks_a_line_is_put_in_force_and_no_tick_is_missed(scene: Callable[..., Scene]) -> None:
    here = scene("primary", "secondary", "tertiary")
    mcm = here.mcm
    mcm.config.write_text(re.sub(r"\[routing\]", "[routing", mcm.config.read_text()))
    refused = mcm.cli("apply")
    assert refused.returncode == 2
    assert "no TOML" in refused.stderr
    assert "Traceback" not in refused.stderr
    mcm.config.write_text(file_for(here.simulator, "primary", "secondary"))

    shown = mcm.cli("plan").stdout
    assert "stop tertiary" in shown
    assert "move 100 topics" in shown
    assert "`mcm apply` does it" in shown
    assert set(mcm.status().connections) == {"primary", "secondary", "tertiary"}, "nothing has happened yet"

    assert f"{mcm.config} is in force" in mcm.cli("apply").stdout
    mcm.wait(lambda status: "tertiary" not in status.connections, because="it is gone", within_s=40)
    here.wait_moved()
    here.collector.wait_for_more(TICKS_PER_S)

    assert "nothing would change" in mcm.cli("plan").stdout
    here.assert_perfect()


def test_sighup_puts_the_file_in_force_as_well(scene: Callable[..., Scene]) -> None:
    here = scene("primary", "secondary")
    here.mcm.config.write_text(file_for(here.simulator, "primary", "secondary", "more"))

    os.kill(here.mcm.status().pid, signal.SIGHUP)

    here.mcm.wait(
        lambda status: "more" in status.connections and status.connections["more"].state == "live",
        because="the file is in force",
    )
    here.collector.wait_for_more(1_000)
    here.assert_perfect()


def test_a_paused_line_is_relieved_first_and_comes_back(scene: Callable[..., Scene]) -> None:
    here = scene("primary", "secondary", "tertiary")

    assert here.mcm.cli("pause", "primary").stdout == "primary is being paused\n"
    here.mcm.wait(lambda status: status.connections["primary"].state == "paused", because="it is closed", within_s=40)
    assert here.mcm.status().state == "ready"
    assert len([one for one in here.simulator.remote.report().open_connections() if one.items]) == 2
    here.collector.wait_for_more(TICKS_PER_S)
    assert here.mcm.cli("resume", "primary").stdout == "primary dials again\n"
    here.mcm.wait(lambda status: status.connections["primary"].wanted == 100, because="it has its own", within_s=90)
    here.wait_moved()

    here.assert_perfect()


def test_of_a_killed_single_line_only_the_named_gap_is_missing(scene: Callable[..., Scene]) -> None:
    here = scene("primary", "secondary", "tertiary")

    here.mcm.kill(here.mcm.status().connections["secondary"].pid)
    here.mcm.wait(lambda status: status.connections["secondary"].restarts == 1, because="it was started again")
    here.wait_moved()
    here.collector.wait_for_more(TICKS_PER_S)

    assert here.assert_perfect(has_gaps=True) > 0, "the kill has cost something"


# --- a whole channel beside single symbols ---


def change_to_the_whole_channel_and_back(here: Scene) -> None:
    """Subscribe everything, and take it back."""
    assert here.mcm.cli("subscribe", "T.*").stdout == "subscribed T.*\n"
    here.mcm.wait(
        lambda status: (
            sum(line.wanted for line in status.connections.values()) == 1
            and all(line.confirmed == line.wanted for line in status.connections.values())
        ),
        because="one line carries the whole channel, and nobody a single symbol of it",
    )
    here.collector.wait_for_more(TICKS_PER_S)
    with Control(here.mcm.run_dir) as control:
        (why,) = control.why(SYMBOLS[0])
        rows = {row.topic: row for row in control.topics()}
    (line,) = [name for name, one in here.mcm.status().connections.items() if one.wanted]
    assert why.carried_by.keys() == {line}
    assert rows[TOPICS[0]].lines == [line], "by the whole channel"
    assert here.mcm.cli("unsubscribe", "T.*").stdout == "unsubscribed T.*\n"
    here.wait_moved()
    here.collector.wait_for_more(TICKS_PER_S)


def test_a_whole_channel_takes_over_and_gives_back_and_no_tick_is_missed(scene: Callable[..., Scene]) -> None:
    here = scene("primary", "secondary")

    change_to_the_whole_channel_and_back(here)

    here.assert_perfect()


def test_with_one_line_what_a_change_to_the_whole_channel_costs_is_named(scene: Callable[..., Scene]) -> None:
    here = scene("primary")

    change_to_the_whole_channel_and_back(here)

    here.assert_perfect(has_gaps=True)
    assert len(here.collector.gaps) > 0


# --- F42: moves, rebalance and reload during F1 to F4 ---


def kill(here: Scene, name: str) -> None:
    victim = pid_of(here.mcm.status(), name)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    here.mcm.wait(
        lambda status: pid_of(status, name) not in {None, victim}, because=f"{name} was started again", within_s=30
    )


def stop(here: Scene, name: str, seconds: float, *, then_kill: bool) -> None:
    victim = pid_of(here.mcm.status(), name)
    assert victim is not None
    os.kill(victim, signal.SIGSTOP)
    time.sleep(seconds)  # the fault's own length
    if then_kill:
        os.kill(victim, signal.SIGKILL)
    os.kill(victim, signal.SIGCONT)


FAULTS: dict[str, tuple[Callable[[Scene], None], bool]] = {
    "F1 the old line's worker killed": (lambda here: kill(here, "primary"), True),
    "F1 the new line's worker killed": (lambda here: kill(here, "tertiary"), True),
    "F2 the new line's worker stopped for 3 s": (lambda here: stop(here, "tertiary", 3.0, then_kill=False), False),
    "F3 router killed": (lambda here: kill(here, "router"), False),
    "F4 router stopped, then killed": (lambda here: stop(here, "router", 4.0, then_kill=True), False),
}


@pytest.mark.parametrize("name", FAULTS)
def test_moves_rebalance_and_reload_during_a_fault_lose_nothing(scene: Callable[..., Scene], name: str) -> None:
    inject, may_cost = FAULTS[name]
    rng = random.Random(name)
    here = scene("primary", "secondary", "tertiary")
    wait_until(lambda: is_measured(here.mcm), because="the workers have told what ticks")
    moving = rng.sample([item.partition(".")[2] for item in carried_by(here.mcm)["primary"]], 50)

    move_all(here.mcm, moving[:25], "tertiary")
    inject(here)
    here.mcm.config.write_text(file_for(here.simulator, "primary", "secondary", "tertiary", strategy="load-balanced"))
    with Control(here.mcm.run_dir) as control:
        control.apply()
        control.rebalance()
    move_all(here.mcm, moving[25:], "tertiary")
    here.mcm.wait(lambda status: status.state == "ready" and not status.unplaced, because="all lines live", within_s=40)
    here.collector.wait_for_more(2 * TICKS_PER_S)
    if not may_cost:
        here.wait_moved()

    assert here.mcm.status().unplaced == {}
    with Control(here.mcm.run_dir) as control:
        moved = [control.why(symbol)[0] for symbol in moving]
    assert all(one.pinned_to == "tertiary" and one.home == ["tertiary"] for one in moved)
    assert all(one.moves for one in moved[:25]), "those before the fault were made at once"
    here.assert_perfect(has_gaps=may_cost)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_what_was_changed_by_hand_is_listed_and_survives_a_restart(
    vendor: Callable[..., Simulator], start: Start
) -> None:
    simulator = vendor()
    mcm = start(file_for(simulator, "primary", "secondary", symbols=["AAPL", "MSFT"]))
    mcm.wait_ready()

    assert mcm.cli("subscribe", "T.NVDA", "--copies", "2").stdout == "subscribed T.NVDA\n"
    assert mcm.cli("unsubscribe", "T.MSFT").stdout == "unsubscribed T.MSFT\n"
    assert mcm.cli("move", "AAPL", "secondary").stdout == "moving to secondary: AAPL\n"
    expected = ["subscribed stocks.T.NVDA, 2 copies", "unsubscribed stocks.T.MSFT", "moved stocks.T.AAPL to secondary"]
    assert mcm.status().live == expected
    assert all(line in mcm.cli("plan").stdout for line in expected)
    mcm.cli("stop")
    again = start(mcm.config.read_text())
    again.wait_ready()

    assert again.status().live == expected
    carried = carried_by(again)
    assert carried == {"primary": ["T.NVDA"], "secondary": ["T.AAPL", "T.NVDA"]}


REFUSED = [
    (["subscribe", "AAPL"], "'AAPL' is no topic; write CHANNEL.SYMBOL like T.AAPL"),
    (["subscribe", "T.X", "--copies", "3"], "copies = 3, but only 2 connections serve stocks"),
    (["subscribe", "T.X", "--connection", "primari"], "there is no connection 'primari'; did you mean primary?"),
    (["unsubscribe", "T.AAPI"], "stocks.T.AAPI is not subscribed; did you mean stocks.T.AAPL?"),
    (["move", "AAPI", "primary"], "nobody has subscribed AAPI; did you mean AAPL?"),
    (["pause", "nobody"], "there is no connection 'nobody'; there are primary, secondary"),
    (["connection", "add", "primary"], "there is a connection primary already"),
    (["connection", "add", "x", "--market", "stock"], 'did you mean "stocks"?'),
    (["why", "AAPI"], "nobody has subscribed AAPI; did you mean AAPL?"),
]


def test_why_tells_everything_and_what_cannot_be_is_refused_with_what_could(
    vendor: Callable[..., Simulator], start: Start
) -> None:
    mcm = start(file_for(vendor(), "primary", "secondary", symbols=["AAPL", "MSFT"]))
    mcm.wait_ready()

    said = mcm.cli("why", "AAPL").stdout
    assert "stocks.T.AAPL" in said
    assert re.search(r"carried by (primary|secondary), confirmed since \d\d:\d\d:\d\d", said)
    assert re.search(r"because manual put it on (primary|secondary)", said)
    assert re.search(r"last tick \d+\.\d s ago", said)
    for command, problem in REFUSED:
        refused = mcm.command(*command, "--run-dir", str(mcm.run_dir))
        assert refused.returncode == 2
        assert problem in refused.stderr
        assert "Traceback" not in refused.stderr
    assert mcm.status().live == []


def test_what_a_program_leases_is_carried_for_as_long_as_it_lives(
    vendor: Callable[..., Simulator], start: Start
) -> None:
    from mcm import Subscriber

    mcm = start(file_for(vendor(), "primary", symbols=["AAPL"]))
    mcm.wait_ready()

    with pytest.raises(UsageError, match="is no topic"):
        Subscriber("NVDA", run_dir=mcm.run_dir, demand=True)
    with Subscriber("T.NVDA", run_dir=mcm.run_dir, demand=True) as subscriber:
        assert next(subscriber).symbol == "NVDA"
        assert list(mcm.status().leases.values()) == [1]

    assert mcm.status().leases == {}
    mcm.wait(lambda status: status.connections["primary"].wanted == 1, because="nobody wants it any more")
