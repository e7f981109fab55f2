"""The log, on real files: what is appended is read, whatever is killed, cut, full or damaged in between."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mcm.core.wire import WIRE_VERSION
from mcm.journal import (
    BackgroundSync,
    Behind,
    Damage,
    Dropped,
    EpochChanged,
    Extent,
    LogFull,
    Reader,
    Record,
    Recovered,
    SnapshotWriter,
    Writer,
    extents,
    read_snapshot,
    recover,
)
from mcm.journal.format import HEADER_BYTES, RECORD_BYTES, Header

BOOT, OTHER_BOOT = b"b" * 16, b"c" * 16


def open_writer(directory: Path, *, segment_bytes: int = 16 << 20, epoch: int | None = None) -> Writer:
    return Writer(recover(directory, BOOT), epoch=epoch, segment_bytes=segment_bytes)


def kill(writer: Writer) -> None:
    """What SIGKILL leaves: closed files and no word about it."""
    for descriptor in (writer._descriptor, writer._index, writer._state):
        if descriptor >= 0:
            os.close(descriptor)
    writer._descriptor = writer._index = writer._state = -1


def payload(number: int) -> bytes:
    return b"%d;" % number * (1 + number % 7)


def fill(writer: Writer, numbers: range) -> list[Record]:
    """One record per number, stamped with ten times it."""
    records = [Record(number, number * 10, payload(number)) for number in numbers]
    for record in records:
        writer.append(*record)
    return records


def read_all(reader: Reader) -> list[Record]:
    records: list[Record] = []
    while more := reader.read(100):
        records += more
    return records


def read_on(reader: Reader) -> tuple[list[Record], list[Behind | EpochChanged]]:
    """Everything, past what is raised."""
    records, raised = list[Record](), list[Behind | EpochChanged]()
    while True:
        try:
            if not (more := reader.read(100)):
                return records, raised
            records += more
        except (Behind, EpochChanged) as told:
            raised.append(told)


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


# -- the model


class LogModel(RuleBasedStateMachine):
    """A log behaves like a list: whatever is appended, reopened, cut, dropped, sought and skipped, in any order."""

    @initialize(segment_bytes=st.integers(1, 600))
    def begin(self, segment_bytes: int) -> None:
        self.files = TemporaryDirectory()
        self.patch = patch("mcm.journal.writer.INDEX_BYTES", 150)
        self.patch.start()
        self.directory, self.segment_bytes = Path(self.files.name) / "log", segment_bytes
        self.writer = open_writer(self.directory, segment_bytes=segment_bytes)
        self.epoch = self.writer.epoch
        self.reader = Reader(self.directory)
        self.records: list[Record] = []
        self.next_number = 5
        self.begins: dict[int, int] = {}  # first number of a segment → index of its first record
        self.left = self.at = 0  # indexes: the first record that was not dropped; the reader
        self.has_begun = False  # until its first call, a reader is at the first record there is

    def teardown(self) -> None:
        if hasattr(self, "files"):
            self.reader.close()
            kill(self.writer)
            self.patch.stop()
            self.files.cleanup()

    @rule(sizes=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 90), st.integers(1, 50)), max_size=12))
    def append(self, sizes: list[tuple[int, int, int]]) -> None:
        for covered, size, stamp_ns in sizes:
            record = Record(self.next_number, stamp_ns, os.urandom(size))
            self.writer.append(*record)
            self.begins.setdefault(int(segments(self.directory)[-1].stem), len(self.records))
            self.records.append(record)
            self.next_number += covered

    @rule(end=st.sampled_from(["close", "kill", "torn"]), torn=st.integers(1, 80))
    def reopen(self, end: str, torn: int) -> None:
        if end == "close":
            self.writer.close()
        kill(self.writer)
        if end == "torn" and self.records:
            record = RECORD_BYTES.to_bytes(4, "little") * 2 + self.next_number.to_bytes(8, "little") + bytes(8 + 23)
            with segments(self.directory)[-1].open("ab") as file:
                file.write(record[: min(torn, len(record))])
        recovered = recover(self.directory, BOOT)
        assert not self.records or not recovered.new_epoch_because
        assert recovered.last == (self.records[-1] if self.records else None)
        self.writer = Writer(recovered, epoch=self.epoch, segment_bytes=self.segment_bytes)

    @rule(damage=st.sampled_from([b"", b"x", b"\0" * 100]), which=st.integers(0, 5))
    def lose_index(self, damage: bytes, which: int) -> None:
        for path in sorted(self.directory.glob("*.idx"))[which : which + 1]:
            if damage:
                path.write_bytes(damage + path.read_bytes())
            else:
                path.unlink()

    @rule(back=st.integers(-2, 30))
    def drop(self, back: int) -> None:
        number = self.next_number - back
        dropped = self.writer.drop_before(number)
        left = self.begins[int(segments(self.directory)[0].stem)] if self.records else 0
        assert all(record.number < number for record in self.records[self.left : left])
        starts = sorted(index for index in self.begins.values() if index >= left)
        if len(starts) > 1:  # the oldest segment left is a closed one: it must have a reason to stay
            last, following = self.records[starts[1] - 1].number, self.records[starts[1]].number
            assert last >= number or following > number
        if left > self.left:
            assert dropped is not None
            assert (dropped.first, dropped.end) == (self.records[self.left].number, self.records[left].number)
        else:
            assert dropped is None
        self.left = left
        if not self.has_begun:
            self.at = left

    @rule(max_bytes=st.integers(1, 400))
    def read(self, max_bytes: int) -> None:
        self.has_begun = True
        told: Behind | None = None
        try:
            records = self.reader.read(max_bytes)
        except Behind as behind:
            told = behind
        if told is not None:
            assert self.at < self.left
            assert told.first_available == self.records[self.left].number
            self.at = self.left
            return
        assert records == self.records[self.at : self.at + len(records)]
        assert records or self.at == len(self.records)
        self.at += len(records)

    @precondition(lambda self: self.at < len(self.records))
    @rule()
    def skip(self) -> None:
        self.has_begun = True
        record = self.records[self.at]
        assert not self.reader.skip(record.number, len(record.payload) + 1)
        assert not self.reader.skip(record.number + 1000, len(record.payload))
        if self.reader.skip(record.number, len(record.payload)):
            self.at += 1
        else:
            assert self.at < self.left

    @precondition(lambda self: self.records)
    @rule(back=st.integers(-3, 80))
    def seek(self, back: int) -> None:
        number = self.next_number - back
        available = range(self.left, len(self.records))
        exact = [index for index in available if self.records[index].number == number]
        below = [index for index in available if self.records[index].number < number]

        self.has_begun = True
        self.reader.seek(number)

        self.at = exact[0] if exact else below[-1] if below else self.left
        self.expect_behind(self.left > 0 and number < self.records[self.left].number)

    @precondition(lambda self: self.records)
    @rule(stamp_ns=st.integers(0, 51))
    def seek_time(self, stamp_ns: int) -> None:
        reached = [index for index, record in enumerate(self.records) if record.stamp_ns >= stamp_ns]
        at = reached[0] if reached else len(self.records)

        self.has_begun = True
        self.reader.seek_time(stamp_ns)

        self.at = max(at, self.left)
        self.expect_behind(at < self.left)

    def expect_behind(self, is_behind: bool) -> None:
        if is_behind:
            with pytest.raises(Behind):
                self.reader.read()

    @invariant()
    def nothing_is_damaged_and_news_is_seen(self) -> None:
        if hasattr(self, "files"):
            assert self.reader.take_damage() == []
            assert self.reader.has_more() or self.at == len(self.records)


TestLogModel = LogModel.TestCase
# Not shrunk: with real files that takes minutes, and an example of 30 steps can be read.
TestLogModel.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)


# -- recovery: the tail


def test_a_log_cut_anywhere_goes_on_behind_its_last_whole_record(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    records = fill(writer, range(1, 6))
    kill(writer)
    (segment,) = segments(tmp_path)
    whole = segment.read_bytes()

    for length in range(HEADER_BYTES, len(whole) + 1):
        segment.write_bytes(whole[:length])
        reader = Reader(tmp_path)
        before = read_all(reader)
        writer = open_writer(tmp_path)
        assert writer.epoch == Header.unpack(whole).epoch  # type: ignore[union-attr]
        more = fill(writer, range(len(before) + 1, 8))
        kill(writer)

        assert before == records[: len(before)]
        assert length < len(whole) or len(before) == 5
        assert read_all(reader) == more
        assert read_all(Reader(tmp_path)) == before + more
        assert reader.take_damage() == []
        reader.close()


def test_a_torn_tail_is_nothing_to_a_reader_until_a_writer_goes_on(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    records = fill(writer, range(1, 4))
    kill(writer)
    (segment,) = segments(tmp_path)
    os.truncate(segment, segment.stat().st_size - 1)
    os.utime(segment, ns=(0, 0))  # long ago, so that the verdict may be kept
    reader = Reader(tmp_path)

    assert read_all(reader) == records[:2]
    assert not reader.has_more()
    writer = open_writer(tmp_path)
    writer.append(3, 0, b"again")
    assert reader.has_more()
    assert read_all(reader) == [Record(3, 0, b"again")]


# -- recovery: the epoch


def keeps(recovered: Recovered) -> bool:
    return not recovered.new_epoch_because


def end_of_kill(directory: Path) -> Writer:
    writer = open_writer(directory, segment_bytes=200)
    fill(writer, range(1, 30))
    kill(writer)
    return writer


def flip(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_an_empty_or_missing_directory_begins_an_epoch(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        assert recover(directory, BOOT).new_epoch_because == "the log is empty"
        writer = open_writer(directory)
        writer.append(1, 1, b"x")
        assert writer.extent == Extent(1, 1)


def test_a_kill_keeps_the_epoch(tmp_path: Path) -> None:
    epoch = end_of_kill(tmp_path).epoch

    assert keeps(recover(tmp_path, BOOT))
    assert open_writer(tmp_path).epoch == epoch


def test_a_kill_between_rotation_and_record_keeps_the_epoch_and_the_last_record(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=100)
    records = fill(writer, range(1, 10))
    os.truncate(segments(tmp_path)[-1], HEADER_BYTES)
    kill(writer)

    recovered = recover(tmp_path, BOOT)

    assert keeps(recovered)
    last = read_all(Reader(tmp_path))[-1]
    assert recovered.last == last == records[last.number - 1]
    assert Writer(recovered).floor == last.number + 1


def test_a_restarted_machine_needs_a_clean_end(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    fill(writer, range(1, 5))
    writer.sync()

    assert "restarted" in recover(tmp_path, OTHER_BOOT).new_epoch_because
    writer.close()
    assert keeps(recover(tmp_path, OTHER_BOOT))
    assert Writer(recover(tmp_path, OTHER_BOOT)).epoch == writer.epoch
    assert keeps(recover(tmp_path, OTHER_BOOT)), "now it is open under this boot"
    assert not keeps(recover(tmp_path, BOOT))


def test_damage_before_the_last_record_costs_the_epoch(tmp_path: Path) -> None:
    end_of_kill(tmp_path)
    flip(segments(tmp_path)[-1], HEADER_BYTES + RECORD_BYTES)
    recovered = recover(tmp_path, BOOT)

    assert "damaged before its last record" in recovered.new_epoch_because
    assert recovered.last is not None
    assert recovered.last.number == 29


@pytest.mark.parametrize("garbage", [bytes(50), b"\xff" * 50], ids=["zeros", "ones"])
def test_a_tail_that_no_interrupted_append_leaves_costs_the_epoch(tmp_path: Path, garbage: bytes) -> None:
    end_of_kill(tmp_path)
    with segments(tmp_path)[-1].open("ab") as file:
        file.write(garbage)
    recovered = recover(tmp_path, BOOT)

    assert "the end" in recovered.new_epoch_because
    writer = Writer(recovered)
    more = fill(writer, range(writer.floor, writer.floor + 3))
    reader = Reader(tmp_path)
    records, raised = read_on(reader)
    assert [record.number for record in records] == [*range(1, 30), *(record.number for record in more)]
    assert [type(told) for told in raised] == [EpochChanged]
    (damage,) = reader.take_damage()
    assert (damage.size, damage.first_missing, damage.next_number) == (50, 30, 30)


def test_a_complete_last_record_that_is_damaged_costs_the_epoch_because_it_was_published(tmp_path: Path) -> None:
    end_of_kill(tmp_path)
    flip(segments(tmp_path)[-1], -1)

    assert "the end" in recover(tmp_path, BOOT).new_epoch_because


def test_a_suspended_log_costs_the_epoch_even_when_closed(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append(1, 1, b"x")
    writer.suspend()
    assert "suspended" in recover(tmp_path, BOOT).new_epoch_because
    writer.resume()
    assert keeps(recover(tmp_path, BOOT))
    writer.suspend()
    writer.close()

    assert "suspended" in recover(tmp_path, BOOT).new_epoch_because


def test_an_unreadable_newest_header_costs_the_epoch(tmp_path: Path) -> None:
    end_of_kill(tmp_path)
    newest = segments(tmp_path)[-1]
    whole = newest.read_bytes()

    for damaged in (whole[: HEADER_BYTES - 1], b"", bytes(HEADER_BYTES) + whole[HEADER_BYTES:]):
        newest.write_bytes(damaged)
        recovered = recover(tmp_path, BOOT)
        assert "no readable header" in recovered.new_epoch_because
        assert recovered.last is not None
        assert recovered.high_stamp_ns >= recovered.last.number * 10


def test_another_wire_version_costs_the_epoch_and_is_not_read(tmp_path: Path) -> None:
    writer = end_of_kill(tmp_path)
    newest = segments(tmp_path)[-1]
    header = Header.unpack(newest.read_bytes())
    assert header is not None
    newest.write_bytes(header._replace(version=WIRE_VERSION + 1).pack() + newest.read_bytes()[HEADER_BYTES:])
    recovered = recover(tmp_path, BOOT)

    assert f"wire version {WIRE_VERSION + 1}" in recovered.new_epoch_because
    with pytest.raises(ValueError, match="may not go on"):
        Writer(recovered, epoch=writer.epoch)
    writer = Writer(recovered)
    writer.append(writer.floor, 0, b"new")
    reader = Reader(tmp_path)
    records, _ = read_on(reader)
    assert [record.number for record in records] == [*range(1, header.first), writer.floor]
    (damage,) = reader.take_damage()
    assert (damage.first_missing, damage.next_number) == (header.first, writer.floor)


@pytest.mark.parametrize("state", [b"", b"open", b"\0" * 64, None])
def test_a_lost_state_file_costs_the_epoch(tmp_path: Path, state: bytes | None) -> None:
    end_of_kill(tmp_path)
    if state is None:
        (tmp_path / "state").unlink()
    else:
        (tmp_path / "state").write_bytes(state)

    assert "state" in recover(tmp_path, BOOT).new_epoch_because


def test_damage_in_a_closed_segment_does_not_concern_the_epoch(tmp_path: Path) -> None:
    end_of_kill(tmp_path)
    for segment in segments(tmp_path)[:-1]:
        segment.write_bytes(bytes(segment.stat().st_size))

    assert keeps(recover(tmp_path, BOOT))


def test_an_epoch_that_ended_does_not_come_back_when_its_successor_is_killed_before_its_first_record(
    tmp_path: Path,
) -> None:
    end_of_kill(tmp_path)
    writer = Writer(recover(tmp_path, OTHER_BOOT))
    kill(writer)

    assert "begun already" in recover(tmp_path, OTHER_BOOT).new_epoch_because


def test_a_new_epoch_is_announced_once_and_never_mixed(tmp_path: Path) -> None:
    old = end_of_kill(tmp_path)
    reader = Reader(tmp_path)
    before = read_all(reader)
    writer = Writer(recover(tmp_path, OTHER_BOOT))
    assert reader.read() == []

    records = fill(writer, range(writer.floor, writer.floor + 3))

    assert reader.has_more()
    assert not reader.skip(writer.floor - 2, len(records[0].payload))
    with pytest.raises(EpochChanged) as told:
        reader.read()
    assert (told.value.epoch, told.value.first) == (writer.epoch, 30)
    assert read_all(reader) == records
    assert (reader.epoch, len(before)) == (writer.epoch, 29)
    late = Reader(tmp_path, epoch=writer.epoch)
    with pytest.raises(EpochChanged, match=str(old.epoch)):
        late.read()
    late.seek(30)
    late.epoch = writer.epoch
    assert read_all(late) == records


def test_numbers_never_go_back_not_even_in_a_new_epoch(tmp_path: Path) -> None:
    end_of_kill(tmp_path)
    with pytest.raises(ValueError, match="below 29"):
        open_writer(tmp_path).append(28, 0, b"x")
    with pytest.raises(ValueError, match="below 30"):
        Writer(recover(tmp_path, OTHER_BOOT)).append(1, 0, b"x")
    with pytest.raises(ValueError, match="0 bytes"):
        open_writer(tmp_path).append(100, 0, b"")


# -- damage


@settings(max_examples=200)
@given(
    where=st.floats(0, 1, exclude_max=True),
    size=st.sampled_from([1, 1, 1, 10, 100, 500]),
    how=st.sampled_from(["flip", "zero", "random"]),
    seed=st.integers(0, 2**32),
)
def test_damage_costs_only_what_it_hits_and_names_it(where: float, size: int, how: str, seed: int) -> None:
    with TemporaryDirectory() as name:
        directory, random = Path(name), Random(seed)
        writer = open_writer(directory, segment_bytes=400)
        records = fill(writer, range(1, 60))
        kill(writer)
        path = random.choice(segments(directory))
        whole = path.read_bytes()
        offset = int(where * len(whole))
        hit = whole[offset : offset + size]
        damaged = {
            "flip": bytes(byte ^ 16 for byte in hit),
            "zero": bytes(len(hit)),
            "random": random.randbytes(len(hit)),
        }
        path.write_bytes(whole[:offset] + damaged[how] + whole[offset + size :])
        reader = Reader(directory, epoch=writer.epoch)

        read = read_all(reader)

        lost = [record.number for record in records if record not in read]
        assert read == [record for record in records if record.number not in lost]
        assert set(lost) <= numbers_hit(path, whole, offset, size)
        found = reader.take_damage()
        named = [number for damage in found for number in range(damage.first_missing, damage.next_number)]
        waits = path == segments(directory)[-1]  # what is lost at the end may still be being written
        assert named == lost or (waits and named == [number for number in lost if number < max(r.number for r in read)])
        for damage in found:
            copy = directory / "quarantine" / f"{path.stem}-{damage.offset}"
            assert copy.read_bytes() == path.read_bytes()[damage.offset : damage.offset + damage.size]
        again = Reader(directory, epoch=writer.epoch)
        again.seek(40)
        again.seek(1)
        assert read_all(again) == read
        assert again.take_damage() == found


def numbers_hit(path: Path, whole: bytes, offset: int, size: int) -> set[int]:
    """Which records have a byte in this range; all, where it is the header of the newest segment."""
    hit, position = set(), HEADER_BYTES
    newest = segments(path.parent)[-1]
    while position < len(whole):
        length = int.from_bytes(whole[position : position + 4], "little")
        end = position + RECORD_BYTES + length
        if (position < offset + size and offset < end) or (offset < HEADER_BYTES and path == newest):
            hit.add(int.from_bytes(whole[position + 8 : position + 16], "little"))
        position = end
    return hit


def test_a_damaged_segment_does_not_hide_the_next_from_a_waiting_reader(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=200)
    fill(writer, range(1, 4))
    with segments(tmp_path)[-1].open("ab") as file:
        file.write(b"\xff" * 30)
    os.utime(segments(tmp_path)[-1], ns=(0, 0))
    reader = Reader(tmp_path)
    assert [record.number for record in read_all(reader)] == [1, 2, 3]
    assert not reader.has_more()
    kill(writer)

    writer = Writer(recover(tmp_path, BOOT))
    writer.append(10, 0, b"x")

    assert reader.has_more()
    assert [record.number for record in read_on(reader)[0]] == [10]
    assert reader.take_damage() == [
        Damage(segments(tmp_path)[0], segments(tmp_path)[0].stat().st_size - 30, 30, 4, 10, "no valid record")
    ]


# -- a full disk

FILL = """
import json, os, resource, sys
from pathlib import Path
from mcm.journal import LogFull, Reader, Writer, recover

def fill(writer, number):
    try:
        while True:
            writer.append(number, number, b"%d" % number * 300)
            number += 1
    except LogFull as full:
        print("full:", full, file=sys.stderr)
        return number

directory, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
else:
    (directory / "filler").write_bytes(bytes(200_000))
writer = Writer(recover(directory), segment_bytes=300_000)
refused = fill(writer, 1)
again = fill(writer, refused)
size = max(directory.glob("*.seg")).stat().st_size
writer.suspend()
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
else:
    (directory / "filler").unlink()
writer.append(refused, 0, b"after")
writer.resume()
numbers, reader = [], Reader(directory)
while records := reader.read():
    numbers += [record.number for record in records]
print(json.dumps({
    "refused": refused, "again": again, "numbers": numbers, "kept": not recover(directory).new_epoch_because,
    "damage": len(reader.take_damage()), "segments": len(list(directory.glob("*.seg"))),
}))
"""


def check_filled(output: str) -> int:
    told = json.loads(output)
    assert told["again"] == told["refused"] > 10
    assert told["numbers"] == list(range(1, told["refused"] + 1))
    assert told["kept"]
    assert told["damage"] == 0
    return int(told["segments"])


def test_a_file_size_limit_refuses_a_record_and_leaves_the_log_usable(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILL, str(tmp_path), "200000"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert check_filled(output) == 1


def test_a_full_disk_refuses_a_record_and_leaves_the_log_usable(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}"'
    if subprocess.run(["unshare", "-Urm", "sh", "-c", mount], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here: a small tmpfs cannot be mounted")
    script = f'{mount} && exec "$@"'
    command = ["unshare", "-Urm", "sh", "-c", script, "sh", sys.executable, "-c", FILL, str(tmp_path), "0"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert check_filled(output) > 1


def test_a_new_segment_that_cannot_be_made_refuses_the_record_and_the_next_try_makes_it(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=100)
    fill(writer, range(1, 3))
    writer.append(3, 0, bytes(100))
    (tmp_path / "segment.new").mkdir()

    with pytest.raises(LogFull, match=r"\.seg"):
        writer.append(4, 0, b"x")
    (tmp_path / "segment.new").rmdir()
    writer.append(4, 0, b"x")

    assert [record.number for record in read_all(Reader(tmp_path))] == [1, 2, 3, 4]


def test_a_short_write_that_cannot_be_cut_at_once_is_cut_before_the_next_record(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append(1, 0, b"one")
    write = os.write
    with (
        patch("mcm.journal.writer._write", lambda descriptor, data: write(descriptor, data[:-1])),
        patch("os.ftruncate", side_effect=OSError(5, "broken")),
    ):
        for _ in range(2):
            with pytest.raises(LogFull):
                writer.append(2, 0, b"two")

    writer.append(2, 0, b"zwei")

    assert [record.payload for record in read_all(Reader(tmp_path))] == [b"one", b"zwei"]


# -- kills

APPEND = """
import sys
from pathlib import Path
from mcm.journal import Writer, recover

recovered = recover(Path(sys.argv[1]))
writer = Writer(recovered, segment_bytes=200_000)
number = recovered.last.number + 1 if recovered.last else 1
print(writer.epoch, flush=True)
while True:
    writer.append(number, number, b"%d;" % number * (1 + number % 700))
    number += 1
"""


def test_a_reader_sees_every_record_once_through_kills_of_the_writer(tmp_path: Path) -> None:
    reader, next_number, random, epochs = Reader(tmp_path), 1, Random(1), set()
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", APPEND, str(tmp_path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            epochs.add(writer.stdout.readline())
            until = next_number + random.randrange(2_000)
            deadline = time.monotonic() + 60
            while next_number < until:
                assert time.monotonic() < deadline
                next_number = check_records(reader.read(random.randrange(1, 100_000)), next_number)
            writer.kill()
        next_number = check_records(read_all(reader), next_number)

    assert len(epochs) == 1
    assert reader.take_damage() == []
    last = recover(tmp_path).last
    assert last is not None
    assert last.number == next_number - 1


def check_records(records: list[Record], next_number: int) -> int:
    for record in records:
        assert record == (next_number, next_number, b"%d;" % next_number * (1 + next_number % 700))
        next_number += 1
    return next_number


# -- heads


def test_heads_taken_in_slices_and_all_records_from_their_number_on_are_the_state(tmp_path: Path) -> None:
    random, counts, heads = Random(2), dict.fromkeys("abcdef", 0), None
    writer = open_writer(tmp_path, segment_bytes=2_000)
    pending: Iterator[str] = iter(())
    for number in range(1, 1_000):
        if number % 100 == 50:
            heads, pending = SnapshotWriter(tmp_path, writer.epoch, number), iter(counts)
        name = random.choice("abcdef")
        counts[name] += 1
        writer.append(number, 0, f"{name} {counts[name]}".encode())
        if heads is not None and number % 10 == 0:
            if (slice_of := next(pending, None)) is None:
                heads.commit()
                heads = None
            else:
                heads.write(f"{slice_of} {counts[slice_of]}".encode())
    kill(writer)

    snapshot = read_snapshot(tmp_path, writer.epoch)
    assert snapshot is not None
    reader = Reader(tmp_path)
    reader.seek(snapshot.number)
    found: dict[str, int] = {}
    for text in [*snapshot.chunks, *(record.payload for record in read_all(reader))]:
        name, count = text.decode().split()
        found[name] = int(count)

    assert snapshot.number == 850
    assert {name: counts[name] for name in found} == found
    assert len(found) == 6


def test_heads_that_are_damaged_foreign_or_unfinished_are_none(tmp_path: Path) -> None:
    assert read_snapshot(tmp_path, 7) is None
    first = SnapshotWriter(tmp_path, 7, 100)
    first.write(b"one")
    assert read_snapshot(tmp_path, 7) is None
    first.commit()
    second = SnapshotWriter(tmp_path, 7, 200)
    second.write(b"two")
    second.abandon()

    snapshot = read_snapshot(tmp_path, 7)

    assert snapshot is not None
    assert (snapshot.number, snapshot.chunks) == (100, [b"one"])
    assert read_snapshot(tmp_path, 8) is None
    assert not (tmp_path / "heads.new").exists()
    whole = (tmp_path / "heads").read_bytes()
    for offset in range(len(whole)):
        (tmp_path / "heads").write_bytes(whole[:offset])
        assert read_snapshot(tmp_path, 7) is None
        flip_back = bytearray(whole)
        flip_back[offset] ^= 1
        (tmp_path / "heads").write_bytes(flip_back)
        assert read_snapshot(tmp_path, 7) is None


# -- retention


def test_trim_keeps_below_its_limits_and_names_what_went(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=200)
    records = fill(writer, range(1, 101))
    size = writer.size_bytes
    assert size == sum(path.stat().st_size for path in segments(tmp_path))
    assert writer.trim() is None

    gone = writer.trim(max_bytes=size // 2)

    assert isinstance(gone, Dropped)
    assert writer.size_bytes == size - gone.size <= size // 2
    assert writer.extent == Extent(gone.end, 100)
    assert gone.first == 1
    assert read_all(Reader(tmp_path)) == records[gone.end - 1 :]
    older = writer.trim(older_than_ns=800)
    assert older is not None
    assert older.first == gone.end
    assert 70 < older.end <= 80
    rest = writer.trim(max_bytes=0)
    assert rest is not None
    assert len(segments(tmp_path)) == len(list(tmp_path.glob("*.idx"))) == 1


def test_a_reader_finishes_its_deleted_segment_and_is_told_what_it_missed_behind_it(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=200)
    records = fill(writer, range(1, 101))
    reader, stranger = Reader(tmp_path), Reader(tmp_path)
    held = reader.read(1)

    gone = writer.drop_before(90)

    assert gone is not None
    assert stranger.read(1) == [records[gone.end - 1]]
    stranger.seek(2)
    with pytest.raises(Behind) as told:
        stranger.read()
    assert (told.value.first_missing, told.value.first_available) == (2, gone.end)
    more, raised = read_on(reader)
    (behind,) = raised
    assert isinstance(behind, Behind)
    assert behind.first_available == gone.end
    served = [record.number for record in held + more]
    assert served == [*range(1, behind.first_missing), *range(gone.end, 101)]


def test_retention_goes_on_over_epochs(tmp_path: Path) -> None:
    end_of_kill(tmp_path)
    writer = Writer(recover(tmp_path, OTHER_BOOT), segment_bytes=200)
    assert writer.trim(max_bytes=0) is not None, "all but the newest, which has no successor yet"
    writer.append(100, 0, b"x")

    assert writer.trim(max_bytes=0) is not None
    assert [path.stem for path in segments(tmp_path)] == [f"{100:020d}"]


def test_extents_tell_what_every_segment_holds(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=200)
    fill(writer, range(1, 31))

    found = extents(tmp_path)

    assert [extent.path for extent in found] == segments(tmp_path)
    assert {extent.epoch for extent in found} == {writer.epoch}
    assert [extent.first for extent in found[1:]] == [(extent.last or 0) + 1 for extent in found[:-1]]
    assert (found[-1].last, found[-1].last_stamp_ns) == (30, 300)
    assert sum(extent.size for extent in found) == writer.size_bytes
    assert extents(tmp_path / "missing") == []


# -- sync


def test_sync_reaches_every_segment_once_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=200)
    fill(writer, range(1, 30))
    synced: list[str] = []
    with patch("mcm.journal.writer._fdatasync", lambda path: synced.append(path.name)):
        writer.sync()
        once = list(synced)
        writer.sync()
        assert synced == once
        files = [path.name for path in segments(tmp_path)]
        writer.append(30, 0, b"x")
        writer.sync()

    assert sorted(once) == sorted([*files, tmp_path.name])
    assert synced[len(once) :] == [files[-1]]


def test_a_background_sync_outlives_an_error_and_ends_when_told(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    calls = threading.Semaphore(0)
    outcomes: Iterator[Callable[[], None]] = iter([fail])

    def sync() -> None:
        calls.release()
        next(outcomes, succeed)()

    with patch.object(writer, "sync", sync):
        background = BackgroundSync(writer, interval_s=0.001)
        background.start()
        for _ in range(3):
            assert calls.acquire(timeout=30)
        background.stop()

    assert background.error is None
    assert not background._thread.is_alive()


def fail() -> None:
    raise OSError(5, "the disk is broken")


def succeed() -> None:
    pass
