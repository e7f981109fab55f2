"""What the router knows and decides: where each link stands, which numbers come next, what becomes of a batch.

Pure: the router feeds it batches, journals the record that comes out, and publishes it.  Fed with the records of its
journal instead, it is again what it was; so a start is a recovery, and there is no other path.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from mcm.core.record import Accepted, Published
from mcm.core.sequence import Numbering
from mcm.core.wire import Batch

__all__ = ["Acceptance", "Counters"]

_SLICE = 2_000


@dataclass
class Counters:
    """Ticks since the beginning of the journal epoch, but for what is said to be batches.

    ``received = published + duplicates + held + lost`` at every moment.
    """

    received: int = 0
    published: int = 0
    lost_batches: int = 0


class _Slice(msgspec.Struct, array_like=True):
    """A part of the state, as it is kept beside the journal."""

    next_of: dict[bytes, int] = {}
    taken: dict[str, tuple[int, int]] = {}
    counters: Counters | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Slice).decode


@dataclass
class Acceptance:
    """The state of the number line.

    Attributes:
        numbers: hands out offsets and sequences.
        taken: link → (link epoch, sequence) of the last batch that was accepted.
    """

    numbers: Numbering
    taken: dict[str, tuple[int, int]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)

    def is_next(self, link: str, epoch: int, sequence: int) -> bool:
        """Whether this batch is the one behind the last accepted one of its link."""
        return self.taken.get(link) == (epoch, sequence - 1)

    def missing_before(self, link: str, epoch: int, sequence: int) -> int:
        """How many batches of the link are missing before this one: 0 for the next, below 0 for one that is known."""
        known_epoch, known = self.taken.get(link, (epoch, 0))
        return sequence - 1 - (known if known_epoch == epoch else 0)

    def accept(self, batch: Batch) -> tuple[int, Accepted]:
        """(first offset, record) of a batch whose turn it is; the numbers are given from here on."""
        number = self.numbers.number
        first_offset = self.numbers.offset + 1
        messages = []
        ticks = 0
        for topic, length, encoded in batch.groups:
            _, sequence = number(topic, length)
            messages.append(Published(topic, sequence, length, encoded))
            ticks += length
        self.taken[batch.connection] = (batch.link_epoch, batch.sequence)
        self.counters.received += ticks
        self.counters.published += ticks
        record = Accepted(
            batch.connection, batch.link_epoch, batch.sequence, batch.monotonic_ns, batch.received_ns, messages
        )
        return first_offset, record

    def restore(self, first_offset: int, record: Accepted) -> None:
        """Take a record of the journal again; one that a snapshot contains already changes nothing."""
        offset = first_offset + len(record.messages) - 1
        if offset < self.numbers.offset:
            return
        self.numbers.offset = offset
        ticks = 0
        for topic, sequence, length, *_ in record.messages:
            self.numbers.next_of[topic] = sequence + length
            ticks += length
        if record.link:
            self.taken[record.link] = (record.link_epoch, record.sequence)
        self.counters.received += ticks
        self.counters.published += ticks

    # --- the snapshot beside the journal

    def slices(self) -> Iterator[bytes]:
        """The state in parts that each take less than a millisecond; the state may change between two of them.

        Records that are accepted meanwhile are in the journal behind the snapshot's number, and are taken again.
        """
        yield _encode(_Slice(taken=dict(self.taken), counters=self.counters))
        topics = iter(list(self.numbers.next_of))
        while part := list(islice(topics, _SLICE)):
            yield _encode(_Slice(next_of={topic: self.numbers.next_of[topic] for topic in part}))

    def load(self, part: bytes) -> None:
        """Take one part of a snapshot; msgspec.DecodeError for anything else."""
        found = _decode(part)
        self.numbers.next_of.update(found.next_of)
        self.taken.update(found.taken)
        if found.counters is not None:
            self.counters = found.counters
