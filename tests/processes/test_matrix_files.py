"""The fault matrix, its files: disks that are full, tails that are torn, files that are gone, a past that is long."""

import contextlib
import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from mcm import journaling, links
from mcm.core.acceptance import Acceptance
from mcm.core.follow import Lost, Reset
from mcm.core.gaps import GapClosed, GapOpened
from mcm.core.record import Accepted, Published, encode_record
from mcm.core.wire import Batch, Group, decode_batch, encode_ticks
from mcm.journal import LogFull, Writer, extents, recover
from mcm.journaling import Retention, open_journal
from mcm.links import Incoming, Missing, OutgoingLink, Stored
from mcm.quarantine import Quarantine
from mcm.simulator.launch import Simulator
from tests.processes.judge import ALL_TOPICS, LINES, Collector, Trial, balance, received, say, settle
from tests.processes.stack import Mcm, Start, wait_until
from tests.processes.test_matrix import (
    FIRST_SEED,
    LOAD,
    TICKS_PER_S,
    Begin,
    begin,
    kill_everything,
    patient,
    settings_for,
)

__all__ = ["begin", "patient"]  # fixtures


def last_segment(directory: Path) -> Path:
    return max(directory.glob("*.seg"))


def epoch_of(mcm: Mcm) -> int | None:
    return extents(mcm.run_dir / "journal")[-1].epoch


# --- the judge --------------------------------------------------------------------------------------------------------

FILES = {"stocks.T.A": [(number, 0) for number in range(10)], "stocks.T.B": [(number, 1) for number in range(10)]}


def test_the_judge_is_content_with_what_is_exact() -> None:
    assert balance(FILES, FILES).is_exact
    assert not balance({}, {}).is_exact


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda keys: keys.pop(4), "lost"),
        (lambda keys: keys.pop(), "lost"),
        (lambda keys: keys.append(keys[3]), "repeated"),
        (lambda keys: keys.append((99, 9)), "phantom"),
        (lambda keys: keys.reverse(), "disordered"),
    ],
)
def test_the_judge_notices_a_single_tick(spoil: Callable[[list[object]], object], what: str) -> None:
    delivered = {topic: list(keys) for topic, keys in FILES.items()}

    spoil(delivered["stocks.T.B"])  # type: ignore[arg-type]

    found = balance(FILES, delivered)
    assert not found.is_exact
    assert [name for name in ("lost", "repeated", "phantom", "disordered") if getattr(found, name)] == [what]


@pytest.mark.usefixtures("patient")
def test_a_router_that_has_forgotten_what_it_took_is_noticed_by_the_judge(begin: Begin, start: Start) -> None:
    """The control to all cases with link files: with the journal goes the position, and everything comes again."""
    trial = begin()
    trial.flow(TICKS_PER_S)
    kill_everything(trial)
    for path in (trial.mcm.run_dir / "journal").iterdir():
        path.unlink()

    start(trial.mcm.config.read_text()).wait_ready()
    wait_until(lambda: bool(trial.collector.complaints), because="the Subscriber is told of the new epoch")
    trial.flow(TICKS_PER_S)
    settle(trial.simulator, trial.collector, *ALL_TOPICS)

    found = balance(received(trial.mcm.run_dir), trial.collector.delivered)
    assert found.repeated > TICKS_PER_S
    assert found.lost == found.phantom == 0
    assert [type(complaint) for complaint in trial.collector.complaints] == [Reset]


# --- links ------------------------------------------------------------------------------------------------------------


def test_beyond_its_cap_a_link_names_exactly_the_batches_that_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F5: a router that is away for longer than the files may grow."""
    monkeypatch.setattr(links, "CAP_BYTES", 40_000_000)
    outgoing = OutgoingLink(tmp_path, "primary", epoch=7)
    frames = {sequence: b"%08d" % sequence * 12_500 for sequence in range(1, 801)}  # 80 MB

    for sequence in range(1, 801):
        outgoing.append(sequence, 0, frames[sequence])
        if sequence % 10 == 0:
            outgoing.tidy()
    found: list[Stored | Missing] = []
    incoming = Incoming(tmp_path, "primary", (7, 4))  # the router had taken four, and comes back
    while more := list(incoming.read(2**24)):
        found += more

    gaps = [one for one in found if isinstance(one, Missing)]
    missing = {number for gap in gaps for number in range(gap.first, gap.last + 1)}
    assert [one.frame for one in found if isinstance(one, Stored)] == [
        frame for sequence, frame in frames.items() if sequence > 4 and sequence not in missing
    ]
    assert 300 < len(missing) == outgoing.lost - 4
    outgoing.close()


@pytest.mark.parametrize("name", ["", "../link/primary", "a\0b", "x" * 300, "primary/lock", "nobody", "\ud7ff" * 200])
def test_a_connection_that_cannot_be_has_no_link_files(tmp_path: Path, name: str) -> None:
    """F38: the name comes off the wire, with whatever somebody sends to the inlet."""
    outgoing = OutgoingLink(tmp_path, "primary", epoch=7)
    (tmp_path / "link" / "primary" / "0000000009-garbage").mkdir()

    found = list(Incoming(tmp_path, name, None).read(1_000_000))

    assert found == []
    assert list(Incoming(tmp_path, "primary", None).read(1_000_000)) == []
    outgoing.close()


def test_a_worker_that_starts_on_a_full_disk_works_without_a_link_file_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F29: LogFull is what append() says anyway; a start that failed would take the line with it."""
    descriptors = len(os.listdir("/proc/self/fd"))

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", no_room)
        outgoing = OutgoingLink(tmp_path, "primary", epoch=7)
        outgoing.tidy()
        with pytest.raises(LogFull):
            outgoing.append(1, 0, b"never kept")
        assert len(os.listdir("/proc/self/fd")) == descriptors + 1  # the lock
    outgoing.tidy()
    outgoing.append(2, 0, b"kept")

    assert list(Incoming(tmp_path, "primary", None).read(1_000_000)) == [Stored(7, 2, b"kept")]
    outgoing.close()


# --- a record that ends the router ---


def test_a_record_that_ends_the_router_twice_is_put_aside_and_named(begin: Begin) -> None:
    """F27: the third router steps over it; what it held is the only thing that is missing, and a gap says so."""
    number = 400
    trial = begin(f'poison = "primary/{number}"')
    trial.mcm.wait(lambda status: status.router.restarts == 2, because="two routers die of it")
    trial.mcm.wait_ready()
    trial.catch_up()
    trial.flow(TICKS_PER_S)

    (aside,) = (trial.mcm.run_dir / "quarantine").iterdir()
    poison = decode_batch(aside.read_bytes())
    held = {group.topic.decode(): group.length for group in poison.groups}
    assert (poison.connection, poison.sequence) == ("primary", number)
    settle(trial.simulator, trial.collector, *ALL_TOPICS)
    found = balance(received(trial.mcm.run_dir), trial.collector.delivered)
    assert found.lost == sum(held.values()) > 0
    assert found.repeated == found.phantom == found.disordered == 0
    status = trial.mcm.status()
    assert (status.router.restarts, status.router.lost_batches) == (2, 1)
    wait_until(lambda: len(trial.collector.gaps) == 2, because="the gap is opened and closed")
    opened, closed = trial.collector.gaps
    assert isinstance(opened, GapOpened)
    assert isinstance(closed, GapClosed)
    assert opened.since_ns <= poison.received_ns <= closed.until_ns
    assert (opened.connection, closed.how) == ("primary", "went on")
    assert set(held) <= set(closed.topics) == set(LINES["primary"])
    assert [type(complaint) for complaint in trial.collector.complaints] == []
    say(f"F27: {found}, {opened.reason}, {(closed.until_ns - opened.since_ns) / 1e6:.0f} ms")


# --- torn tails -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 2))
def test_torn_tails_of_journal_and_links_are_cut_and_numbers_go_on(begin: Begin, start: Start, seed: int) -> None:
    """F30: what was being written when everything died: the beginning of one more record, at the end of every file."""
    rng = random.Random(seed)
    trial = begin()
    fault_ms = trial.last_moment_ms()
    kill_everything(trial)
    epoch = epoch_of(trial.mcm)
    newest = [last_segment(trial.mcm.run_dir / "journal")]
    newest += [last_segment(max((trial.mcm.run_dir / "link" / name).glob("*-*"))) for name in LINES]
    for path in newest:
        tear(path, rng)

    start(trial.mcm.config.read_text()).wait_ready()
    trial.catch_up()
    trial.flow(TICKS_PER_S)

    found = trial.verdict(lines=tuple(LINES), fault_ms=fault_ms)
    say(f"F30, seed {seed}: {found}")
    assert epoch_of(trial.mcm) == epoch


def tear(path: Path, rng: random.Random) -> None:
    """Append the beginning of a record with the next number, as a writer leaves it that is killed inside write()."""
    payload = rng.randbytes(rng.randrange(50, 2_000))
    scratch = path.parent.parent / "scratch"
    writer = Writer(recover(scratch), epoch=1)
    writer.append(2**40, 0, payload)
    writer.close()
    record = last_segment(scratch).read_bytes()[-(len(payload) + 24) :]
    with path.open("ab") as file:
        file.write(record[: rng.randrange(1, len(record))])
    for left in scratch.iterdir():
        left.unlink()
    scratch.rmdir()


@pytest.mark.parametrize("cut", [1, 500])
def test_a_truncated_journal_is_made_whole_from_the_link_files(begin: Begin, start: Start, cut: int) -> None:
    """F30: whole records are gone, as no kill can do it; they are numbered again, and nothing stands there twice."""
    trial = begin()
    fault_ms = trial.last_moment_ms()
    kill_everything(trial)
    path = last_segment(trial.mcm.run_dir / "journal")
    os.truncate(path, path.stat().st_size - cut)
    trial.collector.end()

    start(trial.mcm.config.read_text()).wait_ready()
    again = Trial(trial.simulator, trial.mcm)
    again.catch_up()
    again.flow(TICKS_PER_S)

    try:
        say(f"F30, {cut} bytes: {again.verdict(lines=tuple(LINES), fault_ms=fault_ms)}")
    finally:
        again.end()


@pytest.mark.usefixtures("patient")
def test_a_truncated_link_file_costs_nothing_that_the_router_has_taken(begin: Begin, start: Start) -> None:
    """F30: the next incarnation begins anew, so that no number which the router has passed is given again."""
    trial = begin()
    settle(trial.simulator, trial.collector, *ALL_TOPICS)
    before = received(trial.mcm.run_dir)
    trial.mcm.wait(lambda status: status.router.published == trial.collector.count(), because="all was taken")
    kill_everything(trial)
    for name in LINES:
        path = last_segment(max((trial.mcm.run_dir / "link" / name).glob("*-*")))
        os.truncate(path, path.stat().st_size - 300)

    start(trial.mcm.config.read_text()).wait_ready()
    trial.simulator.remote.resume()
    trial.flow(TICKS_PER_S)
    settle(trial.simulator, trial.collector, *ALL_TOPICS)

    after = received(trial.mcm.run_dir)
    whole = {
        topic: before[topic] + [key for key in after[topic] if key not in set(before[topic])] for topic in ALL_TOPICS
    }
    assert sum(map(len, after.values())) < sum(map(len, whole.values()))
    assert balance(whole, trial.collector.delivered).is_exact
    assert trial.collector.complaints == []


# --- full disks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("needs_repair", [False, True])
def test_a_full_disk_stops_no_tick_and_costs_only_who_needs_a_repair(begin: Begin, needs_repair: bool) -> None:
    """F29: the journal takes nothing for a while; who has read on misses nothing, who comes back is told what."""
    trial = begin()
    behind = Collector(trial.mcm.run_dir, "stocks.*", since=1)
    wait_until(lambda: behind.count() > 500, because="both read")
    if needs_repair:
        behind.end()
    load = trial.load()
    router = trial.pid("router")
    size = last_segment(trial.mcm.run_dir / "journal").stat().st_size

    resource.prlimit(router, resource.RLIMIT_FSIZE, (size + 50_000, resource.RLIM_INFINITY))
    trial.mcm.wait(lambda status: status.router.not_durable_since is not None, because="status says so")
    trial.flow(TICKS_PER_S)
    resource.prlimit(router, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    trial.mcm.wait(lambda status: status.router.not_durable_since is None, because="it resumes")
    share = load()
    if needs_repair:
        behind = Collector(trial.mcm.run_dir, "stocks.*", cursor=behind.cursor)
    trial.flow(TICKS_PER_S)

    found = trial.verdict()
    lost = sum(complaint.count for complaint in behind.complaints if isinstance(complaint, Lost))
    say(f"F29: load {share:.0%}, {found}, {lost} ticks named as Lost by who came back")
    assert trial.pid("router") == router
    assert "not durable since offset" in trial.mcm.log("router")
    assert trial.is_loaded(share)
    if needs_repair:
        wait_until(lambda: behind.subscriber.counters.lost >= TICKS_PER_S // 2, because="it is told what is in no file")
        assert all(complaint.topic is not None for complaint in behind.complaints if isinstance(complaint, Lost))
    else:
        wait_until(lambda: behind.count() == trial.collector.count(), because="the other one has all as well")
        assert behind.complaints == []
    behind.end()


class FullDisk:
    """A writer's append that takes nothing while *is_full*."""

    def __init__(self, writer: Writer) -> None:
        self._append, self._directory, self.is_full = writer.append, writer.directory, False

    def __call__(self, number: int, stamp_ns: int, payload: bytes) -> None:
        if self.is_full:
            raise LogFull(self._directory, OSError(errno.ENOSPC, "no space left on device"))
        self._append(number, stamp_ns, payload)


def publish(journal: journaling.Journal, acceptance: Acceptance, topic: bytes, ticks: int) -> None:
    position = acceptance.taken.get("primary", (7, 0))[1]
    groups = [Group(topic, ticks, encode_ticks(list(range(ticks))))]
    first_offset, record = acceptance.accept(Batch("primary", 7, position + 1, 0, 0, groups))
    journal.append(first_offset, record)


def test_numbers_given_on_a_full_disk_are_never_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F29: a topic that ticked only meanwhile, and a router that is killed right after the disk has room again."""
    journal, acceptance = open_journal(tmp_path, Retention(2**30, 24), Quarantine(tmp_path))
    disk = FullDisk(journal._writer)
    monkeypatch.setattr(journal._writer, "append", disk)
    publish(journal, acceptance, b"stocks.T.QUIET", 5)
    disk.is_full = True
    publish(journal, acceptance, b"stocks.T.QUIET", 5)
    disk.is_full = False
    publish(journal, acceptance, b"stocks.T.BUSY", 1)
    given, epoch = dict(acceptance.numbers.next_of), acceptance.numbers.epoch

    _, again = open_journal(
        tmp_path, Retention(2**30, 24), Quarantine(tmp_path)
    )  # the first one was killed: it was never closed

    assert again.numbers.epoch != epoch or again.numbers.next_of == given


def test_heads_that_know_more_than_the_journal_cost_the_epoch_and_are_not_believed(tmp_path: Path) -> None:
    """F30: the end of the journal is gone, with numbers that were published; its heads are from after it."""
    journal, acceptance = open_journal(tmp_path, Retention(2**30, 24), Quarantine(tmp_path))
    journal.start()
    for _ in range(3):
        publish(journal, acceptance, b"stocks.T.A", 5)
    journal.close()
    epoch, path = acceptance.numbers.epoch, last_segment(tmp_path / "journal")
    os.truncate(path, path.stat().st_size - 1)

    _, again = open_journal(tmp_path, Retention(2**30, 24), Quarantine(tmp_path))

    assert again.numbers.epoch != epoch
    assert again.taken["primary"] == (7, 2), "the third batch is read again from its link file"


@pytest.fixture
def tiny_disk() -> Iterator[Callable[[Mcm], Mcm]]:
    """Runs ``mcm start`` with its run directory on a disk of 1 MB of its own."""
    running: list[subprocess.Popen[str]] = []

    def begin_on(mcm: Mcm) -> Mcm:
        mcm.run_dir.mkdir(exist_ok=True)
        script = 'mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"'
        command = [sys.executable, "-P", "-m", "mcm", "start", "--quiet", "--config", str(mcm.config)]
        command += ["--run-dir", str(mcm.run_dir)]
        popen = subprocess.Popen(
            ["unshare", "-Urm", "sh", "-c", script, "sh", str(mcm.run_dir), *command],
            env=mcm.environment,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        running.append(popen)
        outside = Mcm(mcm.folder)  # the same, as it is seen from this side of the mount
        outside.run_dir = Path(f"/proc/{popen.pid}/root{mcm.run_dir}")
        return outside

    yield begin_on
    for popen in running:
        popen.kill()
        popen.wait()


def can_mount() -> bool:
    command = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs none /mnt"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


@pytest.mark.skipif(not can_mount(), reason="this kernel lets nobody mount a disk of his own")
@pytest.mark.parametrize(
    "fault",
    [
        "none",
        "router",
    ],
)
def test_with_no_room_for_any_file_the_feed_goes_on(
    vendor: Callable[..., Simulator], mcm: Mcm, tiny_disk: Callable[[Mcm], Mcm], fault: str
) -> None:
    """F29: journal, link files, heads and logs are all on a disk of 1 MB."""
    simulator = vendor(*LOAD)
    mcm.config.write_text(settings_for(simulator))
    mcm = tiny_disk(mcm)
    status = mcm.wait(
        lambda status: status.router.not_durable_since is not None and status.state == "ready", because="it is full"
    )
    plain = mcm.subscribe(b"stocks.")
    wait_until(lambda: plain.count("stocks.T.AAPL") > 100, because="ticks flow although nothing can be written")
    if fault == "router":
        assert status.router.pid is not None
        os.kill(status.router.pid, signal.SIGKILL)
        mcm.wait(lambda now: now.router.pid not in {None, status.router.pid}, because="the router is back")

    seen = {topic: plain.count(topic) for topic in ALL_TOPICS}
    wait_until(
        lambda: all(plain.count(topic) > seen[topic] + 500 for topic in ALL_TOPICS),
        because="every topic goes on",
        within_s=10,
    )

    assert all(line.restarts == 0 for line in mcm.status().connections.values())
    plain.end()


# --- a long past ------------------------------------------------------------------------------------------------------


def write_past(directory: Path, size: int, *, topics: int = 500) -> int:
    """A journal of about *size* bytes, as a router leaves it that was killed before it wrote heads; its records."""
    writer = Writer(recover(directory))
    ticks = encode_ticks([{"ev": "T", "sym": "PAST", "p": 1.25, "s": 100, "t": 1_700_000_000_000, "q": 1}] * 3)
    names = [b"stocks.T.P%05d" % number for number in range(topics)]
    sequences: dict[bytes, int] = dict.fromkeys(names, 1)
    offset, records, began_ns = 1, 1, time.time_ns() - 60 * 10**9  # young enough for every retention
    while writer.size_bytes < size:
        chosen = [names[(records * 7 + step) % topics] for step in range(5)]
        messages = [Published(topic, sequences[topic], 3, ticks) for topic in chosen]
        for topic in chosen:
            sequences[topic] += 3
        record = Accepted(records, "past", 1, records, records, began_ns + records, messages)
        writer.append(offset, record.received_ns, encode_record(record))
        offset, records = offset + len(messages), records + 1
    writer.close()
    return records


def test_a_long_past_does_not_keep_the_router_from_starting(
    vendor: Callable[..., Simulator], start: Start, mcm: Mcm
) -> None:
    """F45: from the kill to the first tick with 100 MB behind it, first all of it to be read, then with heads."""
    size = int(os.environ.get("MCM_TEST_JOURNAL_BYTES", "100000000"))
    records = write_past(mcm.run_dir / "journal", size)
    simulator = vendor(*LOAD)
    start(settings_for(simulator) + f"\n[journal]\nretention_hours = 8760\nretention_bytes = {2**40}\n")
    limit_s = 60 + size / 10e6
    mcm.wait(lambda status: status.state == "ready", because="all is live", within_s=limit_s)
    collector = Collector(mcm.run_dir, "stocks.T.AAPL")
    wait_until(lambda: collector.count() > 100, because="ticks flow", within_s=60)
    took = {}

    for which in ("without heads", "with heads"):
        victim = mcm.status().router.pid
        assert victim is not None
        if which == "without heads":
            for heads in journal_heads(mcm.run_dir / "journal"):
                heads.unlink()
        fault_ms = time.time() * 1e3
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda since=fault_ms: newest_ms(collector) > since, because="newer ticks come", within_s=limit_s)  # type: ignore[misc]
        took[which] = time.time() - fault_ms / 1e3
        mcm.wait(lambda status, old=victim: status.router.pid not in {None, old}, because="it reports")  # type: ignore[misc]
        wait_until(lambda: bool(journal_heads(mcm.run_dir / "journal")), because="heads are written")
    collector.end()

    lines = [line.partition("INFO ")[2] for line in mcm.log("router").splitlines() if "recovered up to" in line]
    say(f"F45: {size / 1e6:.0f} MB, {records} records: first tick {took}; {lines}")
    assert took["without heads"] < 5 + size / 10e6
    assert took["with heads"] < 5


def journal_heads(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if "head" in path.name or "snap" in path.name]


def newest_ms(collector: Collector) -> int:
    newest: Mapping[str, list[tuple[object, ...]]] = collector.delivered
    return max((at for keys in list(newest.values()) for at in keys[-1][1:] if isinstance(at, int)), default=0)
