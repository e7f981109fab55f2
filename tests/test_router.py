"""The socket and the files lead to the same: what the router makes of batches does not depend on how they came."""

import shutil
import tempfile
from pathlib import Path
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from mcm.core.acceptance import Acceptance
from mcm.core.notices import CONTROL, SUPERVISOR, LineMark, group_of
from mcm.core.record import Accepted
from mcm.core.sequence import Numbering
from mcm.core.testing import Testing
from mcm.core.wire import Batch, Group, encode_batch, encode_ticks
from mcm.journaling import Journal
from mcm.links import Incoming, OutgoingLink
from mcm.quarantine import Quarantine
from workers.router import Router


class Recorder:
    """A journal that only remembers."""

    def __init__(self) -> None:
        self.records: list[tuple[int, Accepted]] = []

    def append(self, first_offset: int, record: Accepted) -> None:
        self.records.append((first_offset, record))

    def messages(self) -> list[tuple[bytes, int, bytes]]:
        return [(one.topic, one.sequence, one.ticks) for _, record in self.records for one in record.messages]


def router_on(run_dir: Path, recorder: Recorder, acceptance: Acceptance | None = None) -> Router:
    return Router(
        run_dir, acceptance or Acceptance(Numbering(epoch=1)), cast(Journal, recorder), Quarantine(run_dir), Testing()
    )


class Worker:
    """A link with one incarnation at a time; keeps what it appended."""

    def __init__(self, run_dir: Path, name: str) -> None:
        self._run_dir, self._name, self._epoch = run_dir, name, 0
        self._link: OutgoingLink | None = None
        self.ticks: list[bytes] = []
        self.restart()

    def restart(self) -> None:
        """Die as by a kill, and start again."""
        self.die()
        self._epoch += 1
        self._sequence = 0
        self._link = OutgoingLink(self._run_dir, self._name, self._epoch)

    def die(self) -> None:
        if self._link is not None:
            self._link.close()

    def append(self, stamp: int) -> bytes:
        assert self._link is not None
        self._sequence += 1
        ticks = encode_ticks([f"{self._name} {self._epoch} {self._sequence}"])
        groups = [Group(b"stocks.T." + self._name.encode(), 1, ticks)]
        frame = encode_batch(Batch(self._name, self._epoch, self._sequence, stamp, stamp, groups))
        self._link.append(self._sequence, stamp, frame)
        self.ticks.append(ticks)
        return frame


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["push", "push", "push", "lose", "delay", "twice", "restart", "look", "kill router", "garbage"]
        ),
        st.sampled_from(["primary", "secondary"]),
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(EVENTS)
def test_whatever_the_socket_loses_delays_or_repeats_every_batch_is_taken_once_and_in_order(
    events: list[tuple[str, str]],
) -> None:
    run_dir = Path(tempfile.mkdtemp(prefix="mcm-"))
    try:
        recorder, acceptance = Recorder(), Acceptance(Numbering(epoch=1))
        router = router_on(run_dir, recorder, acceptance)
        workers = {name: Worker(run_dir, name) for name in ("primary", "secondary")}
        delayed: list[bytes] = []
        garbage = 0
        for stamp, (what, name) in enumerate(events):
            match what:
                case "restart":
                    workers[name].restart()
                case "look":
                    router.look(at_all=True)
                case "kill router":  # what it knew is in its journal; nothing else survives
                    router = router_on(run_dir, recorder, acceptance)
                    router.recover()
                case "garbage":
                    router.pushed([b"\xc1 no batch"])
                    router.pushed([b"", b"two"])
                    garbage += 2
                case _:
                    frame = workers[name].append(stamp)
                    if what == "delay":
                        delayed.append(frame)
                        continue
                    for _ in range({"push": 1, "twice": 2}.get(what, 0)):
                        router.pushed([frame])
                    while delayed and stamp % 3 == 0:
                        router.pushed([delayed.pop()])
        router.recover()

        for name, worker in workers.items():
            taken = [ticks for topic, _, ticks in recorder.messages() if topic.endswith(name.encode())]
            assert taken == worker.ticks
            worker.die()
        offsets = [first for first, record in recorder.records if record.messages]
        assert offsets == list(range(1, len(offsets) + 1))
        assert acceptance.counters.lost_batches == 0
        assert router.rejected <= garbage
    finally:
        shutil.rmtree(run_dir)


def test_older_incarnations_are_read_to_their_end_and_then_deleted(tmp_path: Path) -> None:
    worker = Worker(tmp_path, "primary")
    for stamp in range(3):
        worker.append(stamp)
    worker.restart()
    worker.append(3)
    recorder = Recorder()

    router_on(tmp_path, recorder).recover()

    assert [ticks for _, _, ticks in recorder.messages()] == worker.ticks
    assert len(list((tmp_path / "link" / "primary").glob("*-*"))) == 1
    worker.die()


def test_the_worker_deletes_what_the_router_has_taken_and_nothing_else(tmp_path: Path) -> None:
    link = OutgoingLink(tmp_path, "primary", 1)
    payload = b"x" * 1_000_000
    incoming = Incoming(tmp_path, "primary", None)
    for sequence in range(1, 41):
        link.append(sequence, 0, payload)
    taken = [frame for _ in range(30) for frame in incoming.read(1)]

    incoming.note_taken(len(taken))
    link.tidy()
    rest = [frame for _ in range(60) for frame in incoming.read(1)]
    again = Incoming(tmp_path, "primary", (1, len(taken)))

    assert len(taken) + len(rest) == 40
    assert sum(1 for _ in range(60) for frame in again.read(1)) >= len(rest)
    assert link.lost == 0
    assert len(list((tmp_path / "link" / "primary").glob("*-*/*.seg"))) < 3
    link.close()


def test_the_word_of_a_lines_end_takes_nothing_out_of_its_turn_at_recovery(tmp_path: Path) -> None:
    worker, supervisor = Worker(tmp_path, "primary"), OutgoingLink(tmp_path, SUPERVISOR, 9)
    for stamp in range(400):
        worker.append(stamp)
    mark = Batch(SUPERVISOR, 9, 1, 200, 200, [group_of(CONTROL, [LineMark("primary")])])
    supervisor.append(1, 200, encode_batch(mark))
    worker.restart()
    for stamp in range(400, 800):
        worker.append(stamp)
    recorder, acceptance = Recorder(), Acceptance(Numbering(epoch=1))

    router_on(tmp_path, recorder, acceptance).recover()

    assert [ticks for _, _, ticks in recorder.messages()] == worker.ticks
    assert acceptance.counters.lost_batches == 0
    worker.die()
    supervisor.close()
