"""What ``scripts/soak`` runs: random faults under load, and a judge that compares all the while, in bounded memory.

Two Subscribers are judged, one that lives through everything and one in a process that is killed and goes on from its
cursor.  Each must deliver, per topic and in order, exactly what the link files say that the lines received.  What has
been compared is forgotten, and the link files that held it are deleted.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from mcm import Subscriber
from mcm.core.errors import McmError
from mcm.core.follow import Lost, Reset
from mcm.core.status import Status
from mcm.core.wire import decode_batch
from mcm.journal import Reader
from mcm.simulator.launch import Simulator, launch
from tests.processes.judge import ALL_TOPICS, LINES, Key, key_of, pid_of, say
from tests.processes.stack import THREE_LINES, Mcm, resident_bytes, wait_until

TICKS_PER_S = 5_500
SETTINGS = THREE_LINES + "\n[routing]\nfailover = false\n[testing]\nkeep_links = true\n"
PAUSE_S = (2.0, 6.0)
STOP_S = (0.5, 3.0)
RECOVERED_WITHIN_S = 75.0  # a line that is dropped again and again waits up to 60 s before it dials (core.dialling)
SAMPLE_S = 5.0
SETTLED_S = 60.0  # memory of a process younger than that is still growing into its work
REPORT_S = 30.0
# More kills than that, and a process is given up or parked, as its restart policy says: (kills, seconds).
BUDGETS = {"router": [(8, 300.0)], "replay": [(4, 60.0), (17, 900.0)]} | {
    name: [(4, 60.0), (17, 900.0)] for name in LINES
}

READER = """
import os, sys, msgspec, mcm
cursor = bytes.fromhex(sys.argv[2]) or None
subscriber = mcm.Subscriber("stocks.*", run_dir=sys.argv[1], cursor=cursor, since=None if cursor else 1)
for topic, ticks in subscriber.messages():
    results = [[topic, tick.sequence_number, tick.timestamp] for tick in ticks]
    sys.stdout.buffer.write(msgspec.json.encode([subscriber.cursor.hex(), results]) + b"\\n")
    sys.stdout.buffer.flush()
"""


class Account:
    """One Subscriber's deliveries against what was received; what agrees is forgotten.

    Attributes:
        agreed, lost, repeated: ticks; repeated ones may also be made up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: defaultdict[str, deque[Key]] = defaultdict(deque)
        self._delivered: defaultdict[str, deque[Key]] = defaultdict(deque)
        self._newest_ms: dict[str, int] = dict.fromkeys(ALL_TOPICS, 0)
        self.agreed = self.lost = self.repeated = 0
        self.complaints: list[str] = []

    def received(self, topic: str, keys: list[Key]) -> None:
        """A line has it."""
        with self._lock:
            self._expected[topic].extend(keys)
            self._compare(topic)

    def delivered(self, topic: str, keys: list[Key]) -> None:
        """The Subscriber handed it out."""
        with self._lock:
            self._delivered[topic].extend(keys)
            if keys and isinstance(newest := keys[-1][1], int):
                self._newest_ms[topic] = newest
            self._compare(topic)

    def _compare(self, topic: str) -> None:
        expected, delivered = self._expected[topic], self._delivered[topic]
        while expected and delivered:
            key = delivered.popleft()
            if key == expected[0]:
                self.agreed += 1
            elif key in expected:
                while expected[0] != key:
                    expected.popleft()
                    self.lost += 1
                self.agreed += 1
            else:
                self.repeated += 1
                continue
            expected.popleft()

    def complain(self, notice: object) -> None:
        """Take what the Subscriber says: gaps are what no line has read, and no complaint."""
        if isinstance(notice, Lost | Reset):
            self.complaints.append(str(notice))

    @property
    def waiting(self) -> int:
        """Ticks that were received and are not delivered."""
        with self._lock:
            return sum(map(len, self._expected.values()))

    @property
    def ahead(self) -> int:
        """Ticks that were delivered and not yet found in a file."""
        with self._lock:
            return sum(map(len, self._delivered.values()))

    @property
    def newest_s(self) -> float:
        """Wall clock of the newest delivered tick of the topic that is most behind."""
        return min(self._newest_ms.values()) / 1e3

    @property
    def is_exact(self) -> bool:
        return self.agreed > 0 and not (self.lost or self.repeated or self.complaints)


class Tail:
    """Reads the link files of one line as they grow, incarnation by incarnation, and deletes what nobody needs."""

    def __init__(self, run_dir: Path, name: str) -> None:
        self._base = run_dir / "link" / name
        self._done: set[Path] = set()
        self._present: Path | None = None
        self._reader: Reader | None = None

    def read(self) -> Iterator[tuple[str, list[Key]]]:
        """(topic, keys) of what was appended since."""
        while True:
            waiting = sorted(set(self._base.glob("*-*")) - self._done)
            if self._reader is None:
                if not waiting:
                    return
                self._present = waiting[0]
                self._reader = Reader(self._present)
            records = self._reader.read(1 << 20)
            for _, _, payload in records:
                for topic, _, ticks in decode_batch(payload).groups:
                    if topic.startswith(b"mcm."):
                        continue  # what lines tell the router; no ticks
                    yield topic.decode(), [key_of(tick) for tick in msgspec.msgpack.decode(ticks)]
            if not records:
                if len(waiting) < 2 or self._reader.has_more():  # the worker of the present one may still write
                    return
                self._reader.close()
                assert self._present is not None
                self._done.add(self._present)
                self._reader = None

    def passed(self) -> list[Path]:
        """Incarnations and segments that were read to their end; the newest segment of the present one never is."""
        found = [path for path in self._done if path.exists()]
        if self._present is not None and self._present not in self._done:
            found += sorted(self._present.glob("*.seg"))[:-2]
        return found


def delete(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
            path.with_suffix(".idx").unlink(missing_ok=True)


class Steady(threading.Thread):
    """The Subscriber that lives through everything."""

    def __init__(self, run_dir: Path, account: Account) -> None:
        super().__init__(daemon=True)
        self._account = account
        self.subscriber = Subscriber("stocks.*", run_dir=run_dir, since=1, on_gap=account.complain)
        self.start()

    def run(self) -> None:
        with contextlib.suppress(McmError):
            for topic, ticks in self.subscriber.raw():
                self._account.delivered(topic.decode(), [key_of(tick) for tick in msgspec.msgpack.decode(ticks)])

    def end(self) -> None:
        self.subscriber.stop()
        self.join(10)
        self.subscriber.close()


class Mortal:
    """The Subscriber in a process of its own, which is killed and goes on from the cursor that it stored.

    A cursor stands before the message it comes with: that message counts once the next one has come, or at the end.
    """

    def __init__(self, mcm: Mcm, account: Account) -> None:
        self._mcm, self._account, self.cursor = mcm, account, ""
        self._in_hand: list[tuple[str, int, int]] = []
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-P", "-c", READER, str(self._mcm.run_dir), self.cursor]
        self.process = subprocess.Popen(command, env=self._mcm.environment, stdout=subprocess.PIPE)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith(b"\n"):
                break  # it was killed inside a write: not stored
            self.take()
            self.cursor, self._in_hand = msgspec.json.decode(line, type=tuple[str, list[tuple[str, int, int]]])

    def take(self) -> None:
        """Count the message in hand."""
        for topic, sequence, at_ms in self._in_hand:
            self._account.delivered(topic, [(sequence, at_ms)])
        self._in_hand = []

    def kill(self) -> None:
        """``kill -9``, and everything that it had stored is read."""
        self.process.kill()
        self.process.wait()
        self._thread.join()
        self._in_hand = []  # it comes again
        assert self.process.stdout is not None
        self.process.stdout.close()


class Trend:
    """A straight line through samples, of which only sums are kept."""

    def __init__(self) -> None:
        self.number, self.highest, self.last = 0, 0.0, 0.0
        self._x = self._y = self._xx = self._xy = 0.0

    def add(self, hours: float, value: float) -> None:
        self.number, self.highest, self.last = self.number + 1, max(self.highest, value), value
        self._x, self._y = self._x + hours, self._y + value
        self._xx, self._xy = self._xx + hours * hours, self._xy + hours * value

    @property
    def per_hour(self) -> float:
        spread = self.number * self._xx - self._x * self._x
        return (self.number * self._xy - self._x * self._y) / spread if self.number > 2 and spread > 0 else 0.0


class Gauge:
    """Memory and descriptors by kind of process, and zombies."""

    def __init__(self, mcm: Mcm) -> None:
        self._mcm, self._began = mcm, time.monotonic()
        self._seen: dict[int, float] = {}
        self.memory: defaultdict[str, Trend] = defaultdict(Trend)
        self.descriptors: defaultdict[str, Trend] = defaultdict(Trend)
        self.zombies = 0
        self._dead_before: set[str] = set()

    def sample(self) -> None:
        now = time.monotonic()
        for pid, line in self._mcm.processes().items():
            kind = next((kind for kind in ("supervisor", "router", "replay", "connection") if f".{kind}" in line), "")
            if not kind or now - self._seen.setdefault(pid, now) < SETTLED_S:
                continue
            with contextlib.suppress(OSError, IndexError):
                resident = resident_bytes(pid) / 2**20
                hours = (now - self._began) / 3_600
                self.memory[kind].add(hours, resident)
                self.descriptors[kind].add(hours, len(os.listdir(f"/proc/{pid}/fd")))
        dead = self._zombies()
        self.zombies = max(self.zombies, len(dead & self._dead_before))  # one that is seen once is about to be reaped
        self._dead_before = dead

    def _zombies(self) -> set[str]:
        supervisor, found = self._mcm.status().pid, set()
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, parent = entry.read_text().rpartition(")")[2].split()[:2]
                if state == "Z" and int(parent) == supervisor:
                    found.add(entry.parent.name)
        return found


class Faults:
    """What can be done, chosen at random within what the restart policies allow."""

    def __init__(self, simulator: Simulator, mcm: Mcm, mortal: Mortal, rng: random.Random) -> None:
        self._simulator, self._mcm, self._mortal, self._rng = simulator, mcm, mortal, rng
        self._kills: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=100))
        self.done: Counter[str] = Counter()

    def inject(self) -> str:
        """Do one, completely; its name."""
        choices: list[Callable[[], str | None]] = [
            self._kill_one, self._kill_one, self._kill_two, self._stop_one, self._drop_a_line, self._kill_the_reader,
            self._stop_the_reader,
        ]  # fmt: skip
        while (name := self._rng.choice(choices)()) is None:
            pass
        self.done[name] += 1
        return name

    def _pid(self, name: str) -> int | None:
        return pid_of(self._mcm.status(), name)

    def _may_kill(self, name: str) -> bool:
        now, kills = time.monotonic(), self._kills[name]
        return all(sum(at > now - window_s for at in kills) < most for most, window_s in BUDGETS[name])

    def _kill(self, *names: str) -> str | None:
        victims = {name: self._pid(name) for name in names}
        if not all(victims.values()) or not all(map(self._may_kill, names)):
            return None
        for number, (name, pid) in enumerate(victims.items()):
            if number:
                time.sleep(self._rng.uniform(0, 0.6))
            assert pid is not None
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._kills[name].append(time.monotonic())
        return "kill " + " + ".join("worker" if name in LINES else name for name in names)

    def _kill_one(self) -> str | None:
        return self._kill(self._rng.choice(list(BUDGETS)))

    def _kill_two(self) -> str | None:
        return self._kill(*self._rng.sample(list(BUDGETS), 2))

    def _stop_one(self) -> str | None:
        name = self._rng.choice(list(BUDGETS))
        if (pid := self._pid(name)) is None:
            return None
        self._pause(pid)
        return f"stop {'worker' if name in LINES else name}"

    def _pause(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._rng.uniform(*STOP_S))
            os.kill(pid, signal.SIGCONT)

    def _drop_a_line(self) -> str | None:
        lines = self._simulator.remote.report().open_connections()
        if not lines:
            return None
        mode = self._rng.choice(["close", "abort", "reset"])
        self._simulator.remote.drop(mode=mode, connection=self._rng.choice(lines).number)  # type: ignore[arg-type]
        return f"line {mode}"

    def _kill_the_reader(self) -> str:
        self._mortal.kill()
        self._mortal.start()
        return "kill subscriber"

    def _stop_the_reader(self) -> str:
        self._pause(self._mortal.process.pid)
        return "stop subscriber"


class Soak:
    """One run, from the start of mcm to the verdict."""

    def __init__(self, simulator: Simulator, mcm: Mcm, seed: int) -> None:
        self._simulator, self._mcm, self._rng = simulator, mcm, random.Random(seed)
        self.accounts = {"steady": Account(), "mortal": Account()}
        self._steady = Steady(mcm.run_dir, self.accounts["steady"])
        self._mortal = Mortal(mcm, self.accounts["mortal"])
        self._faults = Faults(simulator, mcm, self._mortal, self._rng)
        self._tails = [Tail(mcm.run_dir, name) for name in LINES]
        self._gauge = Gauge(mcm)
        self._retiring: list[Path] = []
        self._recoveries: defaultdict[str, list[float]] = defaultdict(list)
        self._failures: list[str] = []
        self._received = self._most_waiting = 0
        self._ticked = 0.0
        self._began, self._report_at, self._sample_at = time.monotonic(), 0.0, 0.0

    def run(self, seconds: float) -> None:
        """Faults until the time is over, then quiet."""
        self._wait_until_recovered("start")
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end and not self._is_spoilt():
            self._turn_until(now + self._rng.uniform(*PAUSE_S))
            name = self._faults.inject()
            self._wait_until_recovered(name)
        report = self._simulator.remote.report()
        self._ticked = sum(topic.count for topic in report.topics.values()) / (time.monotonic() - self._began)
        self._simulator.remote.pause()
        with contextlib.suppress(AssertionError):  # the verdict shows what is left
            wait_until(self._is_quiet, because="everything is delivered", within_s=RECOVERED_WITHIN_S)

    def _is_spoilt(self) -> bool:
        return bool(self._failures) or any(one.lost or one.repeated for one in self.accounts.values())

    def _turn(self) -> None:
        """Compare what has come, and whatever else is due."""
        now = time.monotonic()
        caught_up = all(not account.waiting for account in self.accounts.values())
        if caught_up and self._retiring:  # what had been read before is delivered: nobody needs those files
            delete(self._retiring)
            self._retiring = []
        for tail in self._tails:
            for topic, keys in tail.read():
                self._received += len(keys)
                for account in self.accounts.values():
                    account.received(topic, keys)
        self._most_waiting = max(self._most_waiting, *(one.waiting for one in self.accounts.values()))
        if not self._retiring:
            self._retiring = [path for tail in self._tails for path in tail.passed()]
        if now >= self._sample_at:
            self._sample_at = now + SAMPLE_S
            self._gauge.sample()
        if now >= self._report_at:
            self._report_at = now + REPORT_S
            say(f"{now - self._began:7.0f} s  {self._summary()}")
        time.sleep(0.05)

    def _turn_until(self, when: float) -> None:
        while time.monotonic() < when:
            self._turn()

    def _wait_until_recovered(self, name: str) -> None:
        began, since = time.monotonic(), time.time()
        while not self._has_recovered(since):
            if time.monotonic() - began > RECOVERED_WITHIN_S:
                self._failures.append(f"{name}: not recovered within {RECOVERED_WITHIN_S:.0f} s")
                return
            self._turn()
        self._recoveries[name].append(time.monotonic() - began)

    def _has_recovered(self, since: float) -> bool:
        """Whether every topic has brought something newer than the fault, and is less than a second late."""
        if min(account.newest_s for account in self.accounts.values()) < max(since, time.time() - 1.0):
            return False
        with contextlib.suppress(McmError):
            return self._mcm.status().state == "ready"
        return False

    def _is_quiet(self) -> bool:
        self._turn()
        if (
            self.accounts["steady"].ahead + self.accounts["steady"].waiting == 0
            and self.accounts["mortal"].waiting < 100
        ):
            self._mortal.take()  # nothing follows, so nothing says that it has been taken
        return not any(account.waiting or account.ahead for account in self.accounts.values())

    def _summary(self) -> str:
        lost, repeated = (sum(getattr(one, what) for one in self.accounts.values()) for what in ("lost", "repeated"))
        return (
            f"{self._received:,} ticks received, {lost} lost, {repeated} repeated, {self._faults.done.total()} faults"
        )

    def end(self) -> None:
        self._steady.end()
        self._mortal.kill()

    def verdict(self, status: Status) -> bool:
        """Print everything that was found; whether it is good."""
        seconds = time.monotonic() - self._began
        say(f"\nran {seconds:.0f} s; the vendor sent {self._ticked:,.0f} ticks/s; {self._received:,} ticks received")
        for name, one in self.accounts.items():
            say(f"{name} subscriber: {one.agreed:,} agreed, {one.lost} lost, {one.repeated} repeated, "
                f"{one.waiting} missing, {one.ahead} in no file, {len(one.complaints)} complaints")  # fmt: skip
            for complaint in one.complaints[:3]:
                say(f"    {complaint}")
        router = status.router
        say(f"router: {router.received:,} received = {router.published:,} published")
        say(f"        {router.lost_batches} batches lost, {router.skipped} by file, {router.rejected} rejected; "
            f"at most {self._most_waiting:,} ticks under way")  # fmt: skip
        say(f"\n{'fault':<28}{'times':>6}{'recovered after':>17}  median and longest, s")
        for name, times in sorted(self._recoveries.items()):
            ordered = sorted(times)
            say(f"{name:<28}{len(times):>6}{ordered[len(ordered) // 2]:>17.2f} {ordered[-1]:>8.2f}")
        say(f"\n{'older than 60 s':<16}{'RSS MB':>8}{'highest':>9}{'per hour':>10}{'files':>8}{'per hour':>10}")
        for kind, memory in sorted(self._gauge.memory.items()):
            files = self._gauge.descriptors[kind]
            say(f"{kind:<16}{memory.last:>8.1f}{memory.highest:>9.1f}{memory.per_hour:>+10.1f}"
                f"{files.last:>8.0f}{files.per_hour:>+10.1f}")  # fmt: skip
        say(f"zombies: {self._gauge.zombies}")
        for failure in self._failures:
            say(f"FAILED {failure}")
        is_good = not self._failures and all(
            one.is_exact and not one.waiting and not one.ahead for one in self.accounts.values()
        )
        say(f"verdict: {'nothing lost, nothing repeated' if is_good else 'FAILED'}")
        return is_good


def main() -> int:
    """Run it; exit status 1 when something was lost or repeated."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Random faults under load, judged all the while.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mcm-", dir="/tmp"))
    mcm = Mcm(folder)
    say(f"seed {arguments.seed}, {arguments.minutes:g} minutes, {TICKS_PER_S:,} ticks/s, files in {folder}")
    with launch("--ticks-per-s", str(TICKS_PER_S)) as simulator:
        mcm.config.write_text(SETTINGS.format(feed=f"ws://127.0.0.1:{simulator.port}"))
        try:
            started = mcm.cli("start", "--detach", "--config", str(mcm.config))
            assert started.returncode == 0, started.stderr
            soak = Soak(simulator, mcm, arguments.seed)
            try:
                soak.run(arguments.minutes * 60)
                is_good = soak.verdict(mcm.status())
            finally:
                soak.end()
        finally:
            mcm.end()
    if is_good:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
