"""The fault matrix: whatever is done to mcm under load costs only what no line has read, and that inside a known time.

Every case tells on stdout (``pytest -rP``) its seed, its load and how long mcm took to catch up.  The quick ones have
three seeds, the others as many as ``MCM_TEST_SEEDS`` says; other ones: ``MCM_TEST_SEED=7``.  The files and the disk are
in test_matrix_files, the upstream lines in test_matrix_lines.
"""

import contextlib
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import zmq

from mcm import bus, locks
from mcm.core.errors import McmError
from mcm.core.replaying import AskHeads, AskMore, AskRange, AskTime, encode
from mcm.core.wire import Batch, Group, encode_batch
from mcm.simulator.launch import Simulator
from tests.processes.judge import ALL_TOPICS, LINES, Collector, Trial, balance, joined_ms, key_of, received, say, settle
from tests.processes.stack import THREE_LINES, Mcm, Start, resident_bytes, wait_until

FIRST_SEED = int(os.environ.get("MCM_TEST_SEED", "1"))
SEEDS = range(FIRST_SEED, FIRST_SEED + int(os.environ.get("MCM_TEST_SEEDS", "1")))
TICKS_PER_S = 5_000
# In frames of 10 ms: in those of 2 ms, one mcm alone takes more than the half of two cores that a test may have.
LOAD = ("--ticks-per-s", str(TICKS_PER_S), "--turn-ms", "10")
# Single lines: who takes over whose topics is another suite's matter.
SETTINGS = THREE_LINES + "\n[routing]\nfailover = false\n[testing]\nkeep_links = true\n{more}\n"
CAUGHT_UP_WITHIN_S = 5.0

Begin = Callable[..., Trial]


@pytest.fixture
def begin(vendor: Callable[..., Simulator], start: Start) -> Iterator[Begin]:
    """Starts a trial: 5,000 ticks/s over three lines, and faults on purpose if asked for."""
    with contextlib.ExitStack() as stack:

        def start_trial(more: str = "", *options: str) -> Trial:
            simulator = vendor(*LOAD, *options)
            mcm = start(settings_for(simulator, more))
            mcm.wait_ready()
            trial = Trial(simulator, mcm)
            stack.callback(trial.end)
            return trial

        yield start_trial


def settings_for(simulator: Simulator, more: str = "") -> str:
    return SETTINGS.format(feed=f"ws://127.0.0.1:{simulator.port}", more=more)


# --- the table --------------------------------------------------------------------------------------------------------


def kill_a_worker(trial: Trial, _: random.Random) -> None:
    victim = trial.pid("primary")
    os.kill(victim, signal.SIGKILL)
    trial.replaced("primary", victim)


def stop_a_worker_for_three_seconds(trial: Trial, _: random.Random) -> None:
    victim = trial.pid("primary")
    trial.mcm.wait(lambda status: status.connections["primary"].last_tick_age_s is not None, because="it has reported")
    os.kill(victim, signal.SIGSTOP)
    began = time.monotonic()
    trial.mcm.wait(lambda status: (status.connections["primary"].last_tick_age_s or 0) > 3.5, because="it is silent")
    os.kill(victim, signal.SIGCONT)
    assert time.monotonic() - began > 2
    trial.mcm.wait(lambda status: (status.connections["primary"].last_tick_age_s or 9) < 1, because="it goes on")
    assert trial.pid("primary") == victim


def stop_a_worker_for_good(trial: Trial, _: random.Random) -> None:
    victim, began = trial.pid("secondary"), time.monotonic()
    os.kill(victim, signal.SIGSTOP)
    wait_until(lambda: not Path(f"/proc/{victim}").exists(), because="a hung worker is killed")
    assert 3.5 < time.monotonic() - began < 12  # five seconds after its last heartbeat
    trial.replaced("secondary", victim)


def kill_the_router(trial: Trial, _: random.Random) -> None:
    repaired, victim = trial.collector.subscriber.counters.repaired, trial.pid("router")
    os.kill(victim, signal.SIGKILL)
    trial.replaced("router", victim)
    trial.flow(500)
    assert trial.collector.subscriber.counters.repaired > repaired


def keep_the_router_away_for_six_seconds(trial: Trial, _: random.Random) -> None:
    """Every router that the supervisor starts is stopped at once, as if it could not come up."""
    links, workers, stopped = link_bytes(trial.mcm), [trial.pid(name) for name in LINES], set[int]()
    until = time.monotonic() + 6

    def is_over() -> bool:
        router = trial.mcm.status().router.pid
        if router is not None and router not in stopped:
            os.kill(router, signal.SIGSTOP)
            stopped.add(router)
        return time.monotonic() > until

    wait_until(is_over, because="six seconds pass")
    assert link_bytes(trial.mcm) > links + 1_000_000
    for router in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(router, signal.SIGKILL)
    trial.replaced("router", *stopped)
    assert [trial.pid(name) for name in LINES] == workers
    trial.mcm.wait(lambda status: status.router.skipped > 100, because="it reads the link files")
    assert all(line.reconnects == 0 for line in trial.mcm.status().connections.values())


def link_bytes(mcm: Mcm) -> int:
    return sum(path.stat().st_size for path in (mcm.run_dir / "link").glob("*/*/*.seg"))


def kill_router_and_replay(trial: Trial, rng: random.Random) -> None:
    victims = {name: trial.pid(name) for name in rng.sample(["router", "replay"], 2)}
    for pid in victims.values():
        os.kill(pid, signal.SIGKILL)
    for name, pid in victims.items():
        trial.replaced(name, pid)


def stop_the_supervisor_for_seven_seconds(trial: Trial, _: random.Random) -> None:
    names = ["supervisor", "router", "replay", *LINES]
    before = [trial.pid(name) for name in names]
    os.kill(before[0], signal.SIGSTOP)
    trial.flow(7 * TICKS_PER_S * 9 // 10)  # longer than it would have patience with a silent child
    os.kill(before[0], signal.SIGCONT)
    trial.flow(TICKS_PER_S)
    assert [trial.pid(name) for name in names] == before


def reset_a_line(trial: Trial, _: random.Random) -> None:
    report = trial.simulator.remote.report()
    line = next(one for one in report.open_connections() if "T.JPM" in one.items)
    trial.simulator.remote.drop(mode="reset", connection=line.number)
    status = trial.mcm.wait(
        lambda status: status.connections["secondary"].reconnects == 1 and status.state == "ready",
        because="the line is back",
    )
    assert sum(status.connections["secondary"].errors.values()) == 1
    assert len(trial.simulator.remote.report().dials) == len(report.dials) + 1


def start_a_second_mcm(trial: Trial, _: random.Random) -> None:
    supervisor = trial.pid("supervisor")
    said = trial.mcm.cli("start", "--config", str(trial.mcm.config))
    assert said.returncode == 3
    assert f"pid {supervisor}" in said.stderr
    assert trial.pid("supervisor") == supervisor


def read_slowly_with_zmtp_heartbeats(trial: Trial, _: random.Random) -> None:
    """libzmq #3596: a peer that asks for heartbeats and does not read must not take the publisher with it."""
    router = trial.pid("router")
    script = (
        "import sys, time, zmq; s = zmq.Context().socket(zmq.SUB)\n"
        "s.setsockopt(zmq.HEARTBEAT_IVL, 50); s.setsockopt(zmq.HEARTBEAT_TIMEOUT, 100); s.setsockopt(zmq.RCVHWM, 10)\n"
        "s.subscribe(b''); s.connect(sys.argv[1]); s.recv(); print('reads', flush=True)\n"
        "while True: s.recv(); time.sleep(0.02)\n"
    )
    with trial.mcm.python("-c", script, f"ipc://{trial.mcm.run_dir}/ticks") as slow:
        assert slow.stdout is not None
        slow.stdout.readline()
        trial.flow(3 * TICKS_PER_S)
        slow.kill()
    trial.flow(TICKS_PER_S)
    assert trial.pid("router") == router


def exhaust_the_descriptors_of_the_router(trial: Trial, _: random.Random) -> None:
    router = trial.pid("router")
    used = len(list(Path(f"/proc/{router}/fd").iterdir()))
    hard = resource.prlimit(router, resource.RLIMIT_NOFILE)[1]
    limit = 3 * used
    resource.prlimit(router, resource.RLIMIT_NOFILE, (limit, hard))
    script = (  # subscribes until the router has so many files open, or is gone
        "import os, sys, time, zmq; context = zmq.Context(); sockets = []\n"
        "def used():\n"
        "    try: return len(os.listdir(f'/proc/{sys.argv[2]}/fd'))\n"
        "    except OSError: return 1 << 20\n"
        "while used() < int(sys.argv[3]):\n"
        "    one = context.socket(zmq.SUB); sockets.append(one)\n"
        "    one.subscribe(b'stocks.T.AAPL\\0'); one.connect(sys.argv[1]); time.sleep(0.005)\n"
        "print('connected', flush=True); time.sleep(100)\n"
    )
    address = f"ipc://{trial.mcm.run_dir}/ticks"
    with trial.mcm.python("-c", script, address, str(router), str(int(limit * 0.9))) as many:
        trial.mcm.wait(lambda status: status.router.is_crowded, because="there is a warning")
        assert trial.pid("router") == router
        assert f"of {limit} file descriptors are used" in trial.mcm.log("router")
        with trial.mcm.python("-c", script, address, str(router), str(2 * limit)) as too_many:
            trial.replaced("router", router)
            too_many.kill()
        many.kill()
    assert "Too many open files" in trial.mcm.log("router")


class Fault(NamedTuple):
    """What is done (it returns when that is over and proven), and whose unread events it may cost."""

    inject: Callable[[Trial, random.Random], None]
    lines: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # of the simulator, for a load in other pieces


FAULTS = {
    "F1 worker killed": Fault(kill_a_worker, ("primary",)),
    "F2 worker stopped for 3 s": Fault(stop_a_worker_for_three_seconds),
    "F2 worker hangs": Fault(stop_a_worker_for_good, ("secondary",)),
    "F3 router killed": Fault(kill_the_router),
    "F5 router away for 6 s": Fault(keep_the_router_away_for_six_seconds, options=("--turn-ms", "2")),
    "F9 supervisor stopped for 7 s": Fault(stop_the_supervisor_for_seven_seconds),
    "F13 slow subscriber with ZMTP heartbeats": Fault(read_slowly_with_zmtp_heartbeats),
    "F14 router out of descriptors": Fault(exhaust_the_descriptors_of_the_router),
    "F16 line reset": Fault(reset_a_line, ("secondary",)),
    "F22 second start": Fault(start_a_second_mcm),
    "F37 router and replay killed": Fault(kill_router_and_replay),
}


QUICK = ("F1 worker killed", "F3 router killed", "F16 line reset", "F37 router and replay killed")
THREE_SEEDS = range(FIRST_SEED, FIRST_SEED + 3)


@pytest.mark.parametrize(
    ("name", "seed"), [(name, seed) for name in FAULTS for seed in (THREE_SEEDS if name in QUICK else SEEDS)]
)
def test_a_fault_costs_only_what_no_line_has_read(begin: Begin, name: str, seed: int) -> None:
    fault, rng = FAULTS[name], random.Random(seed)
    trial = begin("", *fault.options)
    trial.flow(rng.randrange(500, 3_000))
    load, fault_ms = trial.load(), trial.last_moment_ms()

    fault.inject(trial, rng)
    caught_up_s = trial.catch_up()
    share = load()
    trial.flow(TICKS_PER_S)

    found = trial.verdict(lines=fault.lines, fault_ms=fault_ms)
    say(f"{name}, seed {seed}: load {share:.0%}, caught up {caught_up_s:.2f} s after its end, {found}")
    assert trial.is_loaded(share)
    assert caught_up_s < CAUGHT_UP_WITHIN_S


def test_missing_ticks_that_no_gap_names_are_noticed_by_the_judge(begin: Begin) -> None:
    """The control to all cases that may cost something: F1, and nobody is told of gaps."""
    trial = begin("name_gaps = false")
    fault_ms = trial.last_moment_ms()
    kill_a_worker(trial, random.Random(FIRST_SEED))
    trial.catch_up()
    trial.flow(TICKS_PER_S)  # so that the last event of no topic is one that was missed

    with pytest.raises(AssertionError, match="missing events are in no named gap"):
        trial.verdict(lines=("primary",), fault_ms=fault_ms)


def test_the_router_delivers_again_within_seconds_of_its_death(begin: Begin) -> None:
    """F3: from the kill to the first tick that was read after it."""
    trial = begin()
    victim = trial.pid("router")

    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{victim}").exists(), because="it is dead")
    died_ms = time.time() * 1e3
    wait_until(lambda: trial.last_moment_ms() > died_ms, because="a newer tick of every topic came")
    took_s = time.time() - died_ms / 1e3

    trial.catch_up()
    found = trial.verdict()
    say(f"F3: first tick of every topic {took_s:.2f} s after the kill, {found}")
    assert took_s < 4.0


def test_too_few_descriptors_are_a_message_and_not_a_crash_loop(vendor: Callable[..., Simulator], mcm: Mcm) -> None:
    """F14: what libzmq would answer with an abort is refused at the start."""
    mcm.config.write_text(settings_for(vendor()))
    command = [sys.executable, "-P", "-m", "mcm", "start", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir)]

    said = subprocess.run(
        ["prlimit", "--nofile=1024:1024", *command, "--quiet"],
        env=mcm.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert said.returncode == 2
    assert "the limit of open files is 1024, the router needs 4,096" in said.stderr
    assert "Traceback" not in said.stderr
    assert mcm.processes() == {}


# --- the supervisor ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 5))
def test_a_supervisor_killed_at_any_moment_of_its_start_leaves_nothing_behind(
    vendor: Callable[..., Simulator], mcm: Mcm, seed: int
) -> None:
    """F7, F23: the moment is that at which so many processes exist, and a little more."""
    rng = random.Random(seed)
    mcm.config.write_text(settings_for(vendor()))
    processes, pause_s = rng.randrange(1, 7), rng.uniform(0, 0.05)
    command = ["start", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir), "--quiet"]

    with mcm.popen(*command) as first:
        wait_until(lambda: len(mcm.processes()) >= processes, because=f"{processes} processes are there")
        time.sleep(pause_s)  # the fault's own moment
        first.kill()
        first.wait()
        # A child that is only just starting ties itself to its parent as soon as Python runs: 0.1 s, or more when busy.
        died_s = time_until(lambda: not mcm.processes(), because="all die with it")
    with mcm.popen(*command) as second:
        status = mcm.wait_ready()
        assert all(line.confirmed == line.wanted for line in status.connections.values())  # their slots were free
        second.terminate()
        second.communicate(timeout=5)

    say(f"F7, seed {seed}: killed with {processes} processes after {pause_s * 1e3:.0f} ms, gone in {died_s:.2f} s")
    assert second.returncode == 0


def time_until(is_true: Callable[[], bool], *, because: str, within_s: float = 5.0) -> float:
    began = time.monotonic()
    wait_until(is_true, because=because, within_s=within_s)
    return time.monotonic() - began


def kill_everything(trial: Trial) -> None:
    """``kill -9`` of the supervisor, with which all go.

    The others are stopped before: else one of them may read the end of its channel, and end in order, before its death
    signal comes.
    """
    supervisor = trial.pid("supervisor")
    for pid in trial.mcm.processes().keys() - {supervisor}:
        os.kill(pid, signal.SIGSTOP)
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not trial.mcm.processes(), because="all die with it", within_s=5.0)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subscribers of this process wait for the next start for longer than five seconds: the machine may be busy."""
    monkeypatch.setattr("mcm.subscriber.ABSENT_S", 60.0)


@pytest.mark.usefixtures("patient")
def test_what_was_appended_before_everything_died_is_delivered_after_the_next_start(begin: Begin, start: Start) -> None:
    """F7, F23: nothing of it had been published, and the Subscriber waits all the while."""
    trial = begin()
    router = trial.pid("router")
    os.kill(router, signal.SIGSTOP)
    links = link_bytes(trial.mcm)
    wait_until(lambda: link_bytes(trial.mcm) > links + 300_000, because="workers append what nobody publishes")
    waiting, fault_ms = trial.collector.count(), trial.last_moment_ms()
    kill_everything(trial)
    (trial.mcm.run_dir / "lock").write_bytes(b"\xff\x00 garbage")
    for name in ("ticks", "control", "replay", "inlet"):
        (trial.mcm.run_dir / name).unlink(missing_ok=True)
        with closing(socket.socket(socket.AF_UNIX)) as foreign:
            foreign.bind(str(trial.mcm.run_dir / name))  # and nobody listens

    began = time.monotonic()
    start(trial.mcm.config.read_text()).wait_ready()
    trial.catch_up()
    took_s = time.monotonic() - began
    trial.flow(TICKS_PER_S)

    found = trial.verdict(lines=tuple(LINES), fault_ms=fault_ms)
    say(f"F7: caught up {took_s:.2f} s after the next start, {found}")
    assert trial.collector.count() > waiting + 1_000
    assert trial.mcm.status().router.lost_batches == 0


def test_sigterm_loses_nothing_that_was_read(begin: Begin) -> None:
    """F35: a Subscriber that waits gets everything up to the last tick of every line."""
    trial = begin()
    supervisor, began = trial.pid("supervisor"), time.monotonic()

    os.kill(supervisor, signal.SIGTERM)
    wait_until(lambda: not trial.mcm.processes(), because="everything has ended", within_s=5.0)
    took_s = time.monotonic() - began
    trial.collector.join(20)  # it gives up by itself when no mcm comes again

    found = balance(received(trial.mcm.run_dir), trial.collector.delivered)
    say(f"F35: ended {took_s:.2f} s after the signal, {found}")
    assert found.is_exact, found
    assert locks.holder(trial.mcm.run_dir) is None
    assert "stopped (exit status 0)" in trial.mcm.log("supervisor")


@pytest.mark.parametrize("moment", ["backoff", "connecting"])
def test_sigterm_ends_in_time_while_lines_cannot_be_dialled(
    vendor: Callable[..., Simulator], mcm: Mcm, moment: str
) -> None:
    """F36: while it waits to dial again, and while a dial gets no answer."""
    simulator = vendor()
    simulator.remote.refuse_upgrades()
    with closing(socket.socket()) as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = simulator.port if moment == "backoff" else mute.getsockname()[1]
        mcm.config.write_text(SETTINGS.format(feed=f"ws://127.0.0.1:{port}", more=""))

        with mcm.popen("start", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir), "--quiet") as running:
            mcm.wait(lambda status: moment in {line.state for line in status.connections.values()}, because=moment)
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=5)

    assert running.returncode == 0
    assert mcm.processes() == {}


def test_a_terminal_that_nobody_reads_stops_no_tick(vendor: Callable[..., Simulator], mcm: Mcm) -> None:
    """F40: what mcm prints goes into a full pipe; children write to files and never meet it."""
    simulator = vendor(*LOAD)
    mcm.config.write_text(settings_for(simulator))
    reading, writing = os.pipe()
    command = [sys.executable, "-P", "-m", "mcm", "start", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir)]
    with subprocess.Popen(command, env=mcm.environment, stdout=writing, stderr=writing) as running:
        mcm.wait_ready()
        trial = Trial(simulator, mcm)
        filling = os.open(f"/proc/self/fd/{writing}", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(filling, b"x" * 4_096)

        load = trial.load()
        trial.flow(8 * TICKS_PER_S)  # a line of totals is due every five seconds
        share = load()
        os.set_blocking(reading, False)
        with contextlib.suppress(BlockingIOError):
            while os.read(reading, 65_536):
                pass
        found = trial.verdict()
        trial.end()
        running.terminate()
        running.wait(5)
    for descriptor in (reading, writing, filling):
        os.close(descriptor)

    say(f"F40: load {share:.0%}, {found}")
    assert trial.is_loaded(share)


# --- subscribers ------------------------------------------------------------------------------------------------------

# Keeps, in one write per message, where to go on together with what it made of everything before that.
RESULTS = """
import os, sys, msgspec, mcm
path, cursor, before = sys.argv[2], bytes.fromhex(sys.argv[3]) or None, []
subscriber = mcm.Subscriber("stocks.*", run_dir=sys.argv[1], cursor=cursor, since=None if cursor else 1)
out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for topic, encoded in subscriber.raw():
    os.write(out, msgspec.json.encode([subscriber.cursor.hex(), before]) + b"\\n")
    first = subscriber.current.sequence - subscriber._source.sequence
    before = [[topic.decode(), tick] for tick in msgspec.msgpack.decode(encoded)[first:]]
"""


class Stored:
    """What such a program has stored: its results, and the cursor of the last complete line."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.path, self.cursor, self._position = path, "", 0
        self.delivered: dict[str, list[tuple[object, ...]]] = defaultdict(list)

    def count(self) -> int:
        """Read what was added; the number of results."""
        with self.path.open("rb") as file:
            file.seek(self._position)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._position += len(whole) + len(newline)
        for line in whole.split(b"\n") if newline else ():
            self.cursor, results = msgspec.json.decode(line, type=tuple[str, list[tuple[str, dict[str, object]]]])
            for topic, tick in results:
                self.delivered[topic].append(key_of(tick))
        return sum(map(len, self.delivered.values()))


def test_a_killed_subscriber_goes_on_from_what_it_stored_without_missing_or_repeating_a_tick(begin: Begin) -> None:
    """F10, three times."""
    trial = begin()
    stored = Stored(trial.mcm.folder / "results")

    for life in range(4):
        enough = stored.count() + 2_000
        arguments = [str(trial.mcm.run_dir), str(stored.path), stored.cursor]
        with trial.mcm.python("-c", RESULTS, *arguments) as subscriber:
            wait_until(lambda enough=enough: stored.count() > enough, because="it stores results")  # type: ignore[misc]
            if life == 3:
                settle(trial.simulator, trial.collector, *ALL_TOPICS)
                wait_until(lambda: stored.count() > trial.collector.count() - 50, because="it has caught up")
            subscriber.kill()

    stored.count()
    expected = received(trial.mcm.run_dir)
    found = balance(expected, stored.delivered)
    say(f"F10: {found}")
    # The message in hand at the last kill is in no result; everything before it is there once.
    assert (found.repeated, found.phantom, found.disordered) == (0, 0, 0)
    assert all(keys == expected[topic][: len(keys)] for topic, keys in stored.delivered.items())
    assert found.lost < 50


class Watch(Collector):
    """A Collector that also notes how long each message took from the worker to here, seconds."""

    def __init__(self, run_dir: Path, *topics: str) -> None:
        self.delays_s: list[float] = []
        super().__init__(run_dir, *topics)

    def run(self) -> None:
        with contextlib.suppress(McmError):
            for topic, encoded in self.subscriber.raw():
                current = self.subscriber.current
                assert current is not None
                self.delays_s.append(time.time() - current.received_ns / 1e9)
                self.delivered[topic.decode()] += map(key_of, msgspec.msgpack.decode(encoded))

    def delay_ms(self, percent: int, first: int) -> float:
        delays = sorted(self.delays_s[first:])
        return delays[len(delays) * percent // 100] * 1e3


def test_a_stopped_subscriber_neither_delays_the_others_nor_fills_the_router(begin: Begin) -> None:
    """F11: it catches up from the journal when it goes on."""
    trial = begin()
    healthy = Watch(trial.mcm.run_dir, "stocks.*")
    stored = Stored(trial.mcm.folder / "results")
    with trial.mcm.python("-c", RESULTS, str(trial.mcm.run_dir), str(stored.path), "") as slow:
        wait_until(lambda: stored.count() > 500, because="it reads")
        first = len(healthy.delays_s)
        trial.flow(2 * TICKS_PER_S)
        usual = [healthy.delay_ms(percent, first) for percent in (50, 99)]
        first = len(healthy.delays_s)
        router = trial.pid("router")
        before = resident_bytes(router)

        os.kill(slow.pid, signal.SIGSTOP)
        trial.flow(7 * TICKS_PER_S)
        grown, meanwhile = resident_bytes(router) - before, [healthy.delay_ms(percent, first) for percent in (50, 99)]
        os.kill(slow.pid, signal.SIGCONT)
        settle(trial.simulator, trial.collector, *ALL_TOPICS)
        wait_until(lambda: stored.count() > trial.collector.count() - 50, because="it has caught up")
        slow.kill()
    found = trial.verdict()
    healthy.end()

    say(f"F11: p50 and p99 {usual} ms, {meanwhile} ms meanwhile; router + {grown / 1e6:.1f} MB, {found}")
    assert grown < 50_000_000
    assert meanwhile[0] < max(2 * usual[0], 500)  # a publisher that waits would make it seconds; busy cores do not
    assert trial.pid("router") == router


def test_the_lost_last_message_of_a_quiet_topic_is_delivered_all_the_same(begin: Begin) -> None:
    """F43: no message reaches the socket of the Subscriber, so every one is a last one."""
    trial = begin("drop_publish = 1.0", "--ticks-per-s", "200")

    paused = time.monotonic()
    settle(trial.simulator, trial.collector, *ALL_TOPICS)
    took_s = time.monotonic() - paused

    say(f"F43: delivered {took_s:.2f} s after it ticked")
    assert took_s < 2.5
    assert trial.collector.subscriber.counters.repaired > 100
    assert trial.verdict().is_exact


@pytest.mark.parametrize("how", ["exact", "wildcard"])
def test_thirty_thousand_topics_of_one_subscriber_survive_the_death_of_the_router(
    vendor: Callable[..., Simulator], start: Start, how: str
) -> None:
    simulator = vendor(*LOAD)
    symbols = {name: [f"{name[0].upper()}{number:04}" for number in range(10_000)] for name in LINES}
    lists = "".join(
        f'[[connections]]\nname = "{name}"\n[[watchlists]]\nname = "{name}"\nconnection = "{name}"\n'
        f'channels = ["T"]\nsymbols = {msgspec.json.encode(of_line).decode()}\n'
        for name, of_line in symbols.items()
    )
    feed = f'[upstream]\nfeed = "ws://127.0.0.1:{simulator.port}"\n[testing]\nkeep_links = true\n'
    mcm = start(feed + lists)
    mcm.wait(lambda status: sum(line.confirmed for line in status.connections.values()) == 30_000, because="all live")
    topics = [f"T.{symbol}" for of_line in symbols.values() for symbol in of_line]
    collector = Collector(mcm.run_dir, *(topics if how == "exact" else ["stocks.T.*"]), since=1)
    wait_until(lambda: len(collector.delivered) == 30_000, because="every topic has ticked", within_s=60)
    victim = mcm.status().router.pid
    assert victim is not None

    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    mcm.wait(lambda status: status.router.pid not in {None, victim}, because="the router is back")
    count = collector.count()
    wait_until(lambda: collector.count() > count + 5_000, because="ticks flow again")
    took_s = time.monotonic() - began
    simulator.remote.pause()
    sent = sum(topic.count for topic in simulator.remote.report().topics.values())
    wait_until(lambda: balance(received(mcm.run_dir), collector.delivered).is_exact, because="all is delivered")

    say(f"30,000 topics, {how}: 5,000 more ticks {took_s:.2f} s after the kill, {collector.count()} of {sent} sent")
    assert collector.complaints == []
    collector.end()


# --- garbage ----------------------------------------------------------------------------------------------------------

DEEP = b"\x91" * 100_000
NONSENSE = [b"", b"\x00", b"\xc1", b"\xff" * 1_000, DEEP, msgspec.msgpack.encode({"a": [1, {"b": None}]}), b"\xdd" * 5]
FOREIGN_LINES = ["", "../../../tmp", "a\0b", "x" * 300, "primary/lock", "\ud7ff", "nobody"]


def forged(connection: str, sequence: int = 1) -> bytes:
    """A batch of a line that does not exist."""
    groups = [Group(b"stocks.T.FORGED", 1, msgspec.msgpack.encode([{"ev": "T", "sym": "FORGED"}]))]
    return encode_batch(Batch(connection, 4711, sequence, 0, 0, groups))


def throw_garbage(run_dir: Path, rng: random.Random) -> None:
    """At every socket of mcm: bytes that are no ZMTP, messages that are no records, records that make no sense."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    for name in (bus.INLET, bus.TICKS, bus.REPLAY, bus.CONTROL):
        for size in (1, 64, 100_000):
            with closing(socket.socket(socket.AF_UNIX)) as raw, contextlib.suppress(OSError):
                raw.connect(str(run_dir / name))
                raw.sendall(rng.randbytes(size))
    asks = [
        encode(ask)
        for ask in (
            AskRange(1, 0, 1, 2**62, (b"",), 10),
            AskRange(2**62, -1, -(2**62), 2**62, (b"\xff" * 1_000,), -5),
            AskRange(3, 2**62, 2**62, 1, (), 2**62),
            AskMore(3, 2**62),
            AskHeads(4, tuple(bytes([number]) for number in range(256)), -5, values=True),
            AskTime(5, -(2**62)),
            AskTime(6, 2**62),
        )
    ]
    requests = [
        msgspec.msgpack.encode(one) for one in ({"op": "x"}, {"op": "restart", "args": {"name": ["y"]}}, {"op": 1})
    ]
    batches = [forged(name, sequence) for name in FOREIGN_LINES for sequence in (1, -1, 2**62)]
    aimed = {
        (zmq.PUSH, bus.INLET): batches,
        (zmq.XSUB, bus.TICKS): [b"\x01" + b"y" * 4_000, b"\x01" + b"z" * 10_000, b"\x00never", b"\x07"],
        (zmq.DEALER, bus.REPLAY): asks,
        (zmq.DEALER, bus.CONTROL): [msgspec.msgpack.encode(one) for one in requests],
    }
    try:
        for (kind, name), frames in aimed.items():
            for frame in [*NONSENSE, *frames, bytes(17 * 1024 * 1024)]:
                with context.socket(kind) as thrower:
                    thrower.setsockopt(zmq.LINGER, 2_000)
                    thrower.connect(f"ipc://{run_dir}/{name}")
                    if kind is zmq.XSUB:
                        thrower.poll(20)  # what is sent before the handshake is dropped
                    thrower.send(frame)
            with context.socket(kind) as thrower:
                thrower.setsockopt(zmq.LINGER, 2_000)
                thrower.connect(f"ipc://{run_dir}/{name}")
                if kind is not zmq.XSUB:
                    thrower.send_multipart([b"one", b"", b"too", b"many"])
    finally:
        context.term()


def test_garbage_at_every_socket_is_counted_and_survived(begin: Begin) -> None:
    """F38: also names of connections that are paths, or can be none."""
    trial = begin()
    names = ["supervisor", "router", "replay", *LINES]
    before = [trial.pid(name) for name in names]

    throw_garbage(trial.mcm.run_dir, random.Random(FIRST_SEED))
    trial.flow(TICKS_PER_S)

    status = trial.mcm.wait(lambda status: status.router.rejected >= len(NONSENSE), because="it is counted")
    assert [trial.pid(name) for name in names] == before, trial.mcm.logs()
    found = trial.verdict()
    say(f"F38: {status.router.rejected} rejected, {found}")
    assert not (trial.mcm.run_dir / "link" / "nobody").exists()


# --- the vendor's slow consumers --------------------------------------------------------------------------------------


def test_only_a_stopped_worker_is_cut_as_a_slow_consumer(vendor: Callable[..., Simulator], start: Start) -> None:
    """F20: a router that stands still costs no line; a worker that does costs its own, and only then."""
    simulator = vendor("--ticks-per-s", "20000", "--send-buffer-bytes", "65536")
    one_line = re.sub(r'connection = "(secondary|tertiary)"', 'connection = "primary"', settings_for(simulator))
    one_line = re.sub(r'\[\[connections\]\]\nname = "(secondary|tertiary)"', "", one_line)
    mcm = start(one_line)
    status = mcm.wait_ready()
    collector = Collector(mcm.run_dir, "stocks.*", since=1)
    wait_until(lambda: collector.count() > 5_000, because="ticks flow")
    router, worker = status.router.pid, status.connections["primary"].pid
    assert router is not None
    assert worker is not None

    os.kill(router, signal.SIGSTOP)
    links = link_bytes(mcm)
    wait_until(lambda: link_bytes(mcm) > links + 6_000_000, because="the worker reads on")
    os.kill(router, signal.SIGCONT)
    assert [one.ending for one in simulator.remote.report().connections] == [""]
    fault_ms = int(time.time() * 1e3)
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: not simulator.remote.report().open_connections(), because="the vendor cuts it", within_s=5)
    os.kill(worker, signal.SIGCONT)
    mcm.wait(lambda status: status.connections["primary"].reconnects == 1, because="it dials again")
    mcm.wait_ready()
    count = collector.count()
    wait_until(lambda: collector.count() > count + 5_000, because="ticks flow again")
    settle(simulator, collector, *ALL_TOPICS)

    files = received(mcm.run_dir)
    found = balance(files, collector.delivered)
    collector.end()
    say(f"F20: {found}, line: {mcm.status().connections['primary'].errors}")
    assert found.is_exact
    assert collector.complaints == []
    assert mcm.status().connections["primary"].pid == worker
    for topic in ALL_TOPICS:
        assert joined_ms(simulator, topic) >= fault_ms
