"""What the router knows and decides: where each link stands, which numbers come next, what becomes of a batch.

Pure: the router feeds it batches, journals the record that comes out, and publishes it.  Fed with the records of its
journal instead, it is again what it was; so a start is a recovery, and there is no other path.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from mcm.core.arbitration import HELD, Arbiter, Verdict, topics_in
from mcm.core.notices import BACKFILL, CONTROL, SUPERVISOR, CoverChange, LineMark, TopicMark, readable_notices
from mcm.core.record import Accepted, Covered, Due, Ended, Fed, Published, Rejoined, Step, join, split
from mcm.core.sequence import Numbering
from mcm.core.wire import Batch

__all__ = ["Acceptance", "Counters", "records_before"]

_SLICE = 2_000
_OURS = frozenset({SUPERVISOR, BACKFILL})


@dataclass
class Counters:
    """Ticks since the beginning of the journal epoch, but for what is said to be batches.

    ``received = published + duplicates + held`` at every moment: the router's part of the ledger.

    Attributes:
        received: in accepted batches; published: in messages.
        duplicates: known already from another line; held: kept until a rejoined line is in step.
        lost_batches: that no file has.
    """

    received: int = 0
    published: int = 0
    duplicates: int = 0
    held: int = 0
    lost_batches: int = 0


class _Slice(msgspec.Struct, array_like=True):
    """A part of the state, as it is kept beside the journal; *index* is that of the next record when it was taken."""

    index: int
    next_of: dict[bytes, int] = {}
    taken: dict[str, tuple[int, int]] = {}
    counters: Counters | None = None
    arbiter: bytes = b""
    read_ns: dict[str, int] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Slice).decode


@dataclass
class Acceptance:
    """The state of the number line.

    Attributes:
        numbers: hands out offsets and sequences.
        taken: link → (link epoch, sequence) of the last batch that was accepted.
        read_ns: link → wall clock at which its worker read that batch.
        index: of the next record.
        arbiter: says which events of topics with several lines are published.
        doubts: times that a record and the arbitration of it disagreed at recovery, so that lines had to rejoin.
    """

    numbers: Numbering
    taken: dict[str, tuple[int, int]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    read_ns: dict[str, int] = field(default_factory=dict)
    index: int = 0
    arbiter: Arbiter = field(default_factory=Arbiter)
    doubts: int = 0
    _slices: deque[_Slice] = field(default_factory=deque)  # of the arbiter, to be put in place when their time comes
    _awaited: set[bytes] = field(default_factory=set)  # topics of those slices

    def is_next(self, link: str, epoch: int, sequence: int) -> bool:
        """Whether this batch is the one behind the last accepted one of its link."""
        return self.taken.get(link) == (epoch, sequence - 1)

    def missing_before(self, link: str, epoch: int, sequence: int) -> int:
        """How many batches of the link are missing before this one: 0 for the next, below 0 for one that is known."""
        known_epoch, known = self.taken.get(link, (epoch, 0))
        return sequence - 1 - (known if known_epoch == epoch else 0)

    # --- batches

    def accept(self, batch: Batch) -> tuple[int, Accepted]:
        """(first offset, record) of a batch whose turn it is; the numbers are given from here on."""
        first_offset = self.numbers.offset + 1
        record = Accepted(
            self.index, batch.connection, batch.link_epoch, batch.sequence, batch.monotonic_ns, batch.received_ns, []
        )
        if self.missing_before(batch.connection, batch.link_epoch, batch.sequence) > 0:
            self._tell(Ended(batch.connection), record)
        number, add, lines_of = self.numbers.number, record.messages.append, self.arbiter.lines_of
        for topic, length, encoded in batch.groups:
            if topic == CONTROL:
                self._be_told(encoded, record)
                continue
            if lines_of(topic) and batch.connection != BACKFILL:
                self._arbitrate(topic, encoded, record)
            else:
                record.received += length if not _is_notice(record.link, topic) else 0
                add(Published(topic, number(topic, length)[1], length, encoded))
        self.taken[batch.connection] = (batch.link_epoch, batch.sequence)
        self.read_ns[batch.connection] = batch.received_ns
        self._count(record)
        return first_offset, record

    def _count(self, record: Accepted) -> None:
        self.index = record.index + 1
        counters, link = self.counters, record.link
        published = sum(message.length for message in record.messages if not _is_notice(link, message.topic))
        counters.received += record.received
        counters.published += published
        counters.duplicates += record.duplicates
        counters.held += record.received - published - record.duplicates

    def _arbitrate(self, topic: bytes, encoded: bytes, record: Accepted) -> None:
        events = split(encoded)
        record.received += len(events)
        if not events:
            return
        verdict = self.arbiter.feed(record.link, topic, events, record.monotonic_ns)
        record.steps.append(Fed(topic, verdict.trace, _coded(HELD, verdict.trace, events)))
        record.duplicates += verdict.duplicates
        self._publish(verdict, record)

    def _publish(self, verdict: Verdict, record: Accepted) -> None:
        """Number what arbitration lets pass; what was held before keeps its line and its time."""
        record.duplicates += verdict.dropped
        for one in verdict.published:
            length = len(one.events)
            _, sequence = self.numbers.number(one.topic, length)
            message = Published(one.topic, sequence, length, join(one.events))
            if one.released:
                received_ns = record.received_ns - (record.monotonic_ns - one.stamp_ns)
                message = message._replace(connection=one.line, received_ns=received_ns)
            record.messages.append(message)

    def _be_told(self, encoded: bytes, record: Accepted) -> None:
        arbiter = self.arbiter
        for notice in readable_notices(encoded):
            match notice:
                case LineMark(line):
                    self._tell(Ended(line), record)
                case TopicMark(line, topics):
                    items = [item for item in map(str.encode, topics) if arbiter.concerns(item)]
                    if items:
                        self._tell(Rejoined(line, items), record)
                case CoverChange(topics, lines, carried_by):
                    self._tell(Covered([topic.encode() for topic in topics], lines, carried_by), record)

    def _tell(self, step: Step, record: Accepted) -> None:
        record.steps.append(step)
        self._publish(self._take_step(step, record), record)

    def _take_step(self, step: Step, record: Accepted) -> Verdict:
        """What follows from a step that is no feed."""
        arbiter = self.arbiter
        match step:
            case Covered(items, lines, carried_by) if len(lines) > 1:
                return arbiter.cover(items, lines, record.monotonic_ns, carried_by)
            case Covered(items):
                return arbiter.uncover(items)
            case Ended(line):
                return arbiter.line_gap(line)
            case Rejoined(line, items):
                return arbiter.topic_gap(line, [item for item in items if item not in self._awaited])
            case Due(now_ns):
                return arbiter.due(now_ns)
            case _:
                raise AssertionError("a feed has its own way")

    def due(self, now_ns: int, received_ns: int) -> tuple[int, Accepted] | None:
        """What time has released by *now_ns* (monotonic), if anything: as :meth:`accept`."""
        when = self.arbiter.next_due_ns()
        if when is None or when > now_ns:
            return None
        verdict = self.arbiter.due(now_ns)
        if not (verdict.published or verdict.dropped):
            return None  # looked at in vain: nothing has changed, and nothing needs to be told again
        first_offset = self.numbers.offset + 1
        record = Accepted(self.index, "", 0, 0, now_ns, received_ns, [], [Due(now_ns)])
        self._publish(verdict, record)
        self._count(record)
        return first_offset, record

    # --- the journal again

    def restore(self, first_offset: int, record: Accepted) -> None:
        """Take a record of the journal again; one that a snapshot contains already changes nothing."""
        if record.index < self.index:
            return
        self.numbers.offset = first_offset + len(record.messages) - 1
        for topic, sequence, length, *_ in record.messages:
            self.numbers.next_of[topic] = sequence + length
        if record.link:
            self.taken[record.link] = (record.link_epoch, record.sequence)
            self.read_ns[record.link] = record.received_ns
        self._retrace(record)
        self._count(record)

    def _retrace(self, record: Accepted) -> None:
        """Tell arbitration again what it was told."""
        while self._slices and self._slices[0].index <= record.index:
            self._put_in_place(self._slices.popleft())
        fresh: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for one in record.messages if record.steps else ():
            if not one.connection:
                fresh[one.topic] += split(one.ticks)
        for step in record.steps:
            if not isinstance(step, Fed):
                self._take_step(step, record)
            elif step.topic not in self._awaited:
                try:
                    self.arbiter.refeed(
                        record.link,
                        step.topic,
                        step.trace,
                        record.monotonic_ns,
                        fresh=fresh[step.topic],
                        held=step.held,
                    )
                except ValueError:
                    self.doubts += 1
                    self.arbiter.line_gap(record.link)

    def _put_in_place(self, part: _Slice) -> None:
        self.arbiter.restore(part.arbiter)
        self._awaited.difference_update(topics_in(part.arbiter))

    def recovered(self) -> None:
        """All records were taken: what is left of the snapshot is in force."""
        while self._slices:
            self._put_in_place(self._slices.popleft())

    # --- the snapshot beside the journal

    def slices(self) -> Iterator[bytes]:
        """The state in parts that each take less than a millisecond; the state may change between two of them.

        Records that are accepted meanwhile are in the journal behind the snapshot's number, and are taken again.
        """
        yield _encode(_Slice(self.index, taken=dict(self.taken), counters=self.counters, read_ns=dict(self.read_ns)))
        for part in self.arbiter.snapshot():
            yield _encode(_Slice(self.index, arbiter=part))
        topics = iter(list(self.numbers.next_of))
        while names := list(islice(topics, _SLICE)):
            yield _encode(_Slice(self.index, next_of={topic: self.numbers.next_of[topic] for topic in names}))

    def load(self, encoded: bytes) -> None:
        """Take one part of a snapshot; msgspec.DecodeError for anything else."""
        part = _decode(encoded)
        self.numbers.next_of.update(part.next_of)
        self.taken.update(part.taken)
        self.read_ns.update(part.read_ns)
        if part.counters is not None:
            self.counters, self.index = part.counters, part.index
        if part.arbiter:
            self._slices.append(part)
            self._awaited.update(topics_in(part.arbiter))


def records_before(part: bytes) -> int:
    """How many records of the epoch had been taken when this first part of a snapshot was."""
    return _decode(part).index


def _is_notice(link: str, topic: bytes) -> bool:
    """Whether a message is mcm's own word, which is published like ticks and counted with none of them."""
    return link in _OURS and topic.startswith(b"mcm.")


def _coded(wanted: int, trace: Iterable[tuple[int, int]], events: list[bytes]) -> list[bytes]:
    """Those of *events* that have this code in the trace, which runs over all of them."""
    found: list[bytes] = []
    position = 0
    for code, length in trace:
        if code == wanted:
            found += events[position : position + length]
        position += length
    return found
