"""From what a SUB socket brings and what a replay brings to one stream without holes; no I/O.

A SUB socket drops messages silently: when it is slow, while it reconnects, while the router is down.  So every message
is checked against the dense sequence of its topic, and what the sequences cannot show (the lost *last* message of a
quiet topic) against the heads that the replay process keeps.

    LIVE ──a jump, a reconnect, an overflow, a heartbeat beyond what is verified──▶ wants Heads
      ▲                                                                              │  nothing is missing: LIVE
      └──────────── all messages up to those heads were replayed ◀── wants Range ◀───┘  something is

*Verified* is the offset up to which nothing is missing.  Behind it, ``recent`` holds the topics that have been
delivered already, so that a replay of that stretch delivers each tick once.  Both together are the cursor.

Offsets are dense over all topics: a *run* of messages without a hole in theirs lacks nothing, whatever was subscribed,
and verifies itself where it touches what is verified.  So who subscribes everything asks the replay only for what was
dropped; who subscribes a part of it sees holes that mean nothing, and depends on the heads.

Order: per topic always the upstream's.  Over topics the offsets' order, but that a message which was dropped on its way
comes as soon as its absence is known (at most a second later).
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from mcm.core.errors import McmError
from mcm.core.wire import Message

__all__ = ["Cursor", "Delivery", "Follower", "Lost", "Reset", "WantHeads", "WantRange", "ticks_in"]

VERIFY_EVERY_S = 1.0


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """A place in the stream, to go on from: opaque to users, who store ``bytes(cursor)``.

    Attributes:
        epoch: of the journal.
        offset: everything up to it was taken.
        recent: topic → sequence of the next tick wanted, of topics of which more was taken.
    """

    epoch: int
    offset: int
    recent: dict[bytes, int]

    def __bytes__(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(stored: bytes) -> "Cursor":
        """The cursor that ``bytes(cursor)`` gave; msgspec.DecodeError for anything else."""
        return msgspec.msgpack.decode(stored, type=Cursor)


class Lost(McmError):
    """Ticks that existed and that this subscriber cannot get any more.

    Attributes:
        topic: which one; None where only offsets are known, because retention has deleted what would tell.
        count: how many ticks, or with no topic how many messages of all topics.
        first, last: their sequences, or with no topic their offsets.
        reason: in words.
    """

    def __init__(self, topic: str | None, first: int, last: int, reason: str) -> None:
        super().__init__(topic, first, last, reason)
        self.topic, self.first, self.last, self.reason = topic, first, last, reason
        self.count = last - first + 1

    def __str__(self) -> str:
        if self.topic is None:
            return f"messages {self.first:,} to {self.last:,} of all topics are lost: {self.reason}"
        return (
            f"{self.count:,} ticks of {self.topic} are lost, sequences {self.first:,} to {self.last:,}: {self.reason}"
        )


class Reset(McmError):
    """The journal has started a new epoch: numbers and cursors from before mean nothing any more.

    Attributes:
        before, now: the epochs.
    """

    def __init__(self, before: int, now: int) -> None:
        super().__init__(before, now)
        self.before, self.now = before, now

    def __str__(self) -> str:
        return (
            f"the journal has started a new epoch ({self.before:016x} → {self.now:016x}): what was published and not "
            "received before it is lost; everything since it follows"
        )


class Delivery(msgspec.Struct, gc=False):
    """A message to hand out; its first *skip* ticks have been taken before."""

    topic: bytes
    message: Message
    skip: int


class WantHeads(NamedTuple):
    """Ask where the topics stand that have changed since this offset."""

    since: int


class WantRange(NamedTuple):
    """Ask for everything from *first* to *last*."""

    first: int
    last: int


def ticks_in(message: Message) -> int:
    """How many ticks *message* holds, from the head of their list alone (msgpack: fixarray, array 16, array 32)."""
    head = memoryview(message.ticks)
    if head[0] & 0xF0 == 0x90:
        return head[0] & 0x0F
    return int.from_bytes(head[1:3] if head[0] == 0xDC else head[1:5], "big")


@dataclass
class Follower:
    """The stream of one subscriber.

    Feed it what SUB brings (:meth:`live`, :meth:`heartbeat`, :meth:`doubt`) while ``wanted`` is None; else get what is
    wanted and feed :meth:`heads`, :meth:`replayed` and :meth:`range_ended`.  What is fed in another state is ignored.

    Args:
        cursor: where to go on; None for now.

    Attributes:
        wanted: what to ask for next; at the start the heads, because nothing is known.
        repaired, duplicates, lost: messages that only the replay brought; that came twice; ticks lost.
    """

    cursor: Cursor | None = None
    wanted: WantHeads | WantRange | None = None
    repaired: int = 0
    duplicates: int = 0
    lost: int = 0
    _epoch: int | None = None
    _verified: int | None = None
    _expected: dict[bytes, int] = field(default_factory=dict)
    _recent: dict[bytes, int] = field(default_factory=dict)  # topic → offset of its last delivered message
    _heads: dict[bytes, int] = field(default_factory=dict)  # what to compare with once the range has come
    _head: int = 0
    _jumped: tuple[bytes, Message] | None = None
    _verify_at: float = 0.0
    _beat: int | None = None  # offset of the heartbeat whose check is under way; None where something is known to miss
    # First and last offset of the newest messages, between which there is no hole, and the last one taken of them.
    _run_begin: int = 0
    _run_end: int = -1
    _run_taken: int = -1
    _is_waiting: bool = False  # whether such heads are ahead of the socket, and a heartbeat has to pass them first
    _knows_all: bool = False  # whether a topic without an expectation is one that never ticked

    def __post_init__(self) -> None:
        """Start behind the cursor, or now."""
        if self.cursor is not None:
            self._epoch, self._verified = self.cursor.epoch, self.cursor.offset
            self._expected = dict(self.cursor.recent)
            self._recent = dict.fromkeys(self.cursor.recent, self.cursor.offset + 1)
        self.wanted = WantHeads(0)

    # --- what the SUB socket brings ---

    def live(self, topic: bytes, message: Message) -> Delivery | None:
        """Take a message; deliver it unless it is known or does not fit, which makes heads wanted."""
        if self.wanted is not None or self._verified is None:
            return None
        if message.offset <= self._verified:
            self.duplicates += 1
            return None
        expected = self._expected.get(topic, 1)
        if message.sequence > expected:
            self._jumped = (topic, message)
            self.doubt()
            return None
        if message.offset != self._run_end + 1:
            self._verify_run()
            self._run_begin = message.offset
        self._run_end = message.offset
        delivery = self._deliver(topic, message, expected)
        if delivery is None:
            self.duplicates += 1
        return delivery

    def taken(self) -> None:
        """Everything delivered so far has been taken, so that the cursor may move behind it."""
        self._run_taken = self._run_end

    def _verify_run(self) -> None:
        """Move behind what was taken of the run; not at every message, because it costs as much as one."""
        end = self._run_taken
        if self._verified is not None and self._run_begin <= self._verified + 1 <= end:
            self._verified = end
            self._recent = {topic: offset for topic, offset in self._recent.items() if offset > end}

    def _deliver(self, topic: bytes, message: Message, expected: int) -> Delivery | None:
        behind = message.sequence + ticks_in(message)
        if behind <= expected:
            return None
        self._expected[topic] = behind
        self._recent[topic] = message.offset
        return Delivery(topic, message, expected - message.sequence)

    def doubt(self) -> None:
        """Something may be missing: the socket has reconnected, or more came than fits."""
        if self.wanted is None:
            self._verify_run()
            self._beat, self._is_waiting = None, False
            self.wanted = WantHeads(self._verified or 0 if self._knows_all else 0)

    def heartbeat(self, epoch: int, offset: int, *, now: float) -> None:
        """The router lives, and this is its last offset; once a second that is compared with what was verified."""
        if self.wanted is not None:
            return
        self._verify_run()
        if self._is_waiting and epoch == self._epoch:
            if offset >= self._head:
                self._is_waiting = False
                self._compare()
        elif epoch != self._epoch or (offset > (self._verified or 0) and now >= self._verify_at):
            self._verify_at = now + VERIFY_EVERY_S
            self.doubt()
            self._beat = offset

    # --- what the replay brings ---

    def heads(
        self, epoch: int, head: int, next_of: dict[bytes, int], begins: int = 1
    ) -> "list[Lost | Reset | Delivery]":
        """The state of my topics that have changed since the offset asked for, at offset *head*.

        *begins* is the first offset of the epoch: after a reset everything from there on follows.
        """
        if self._epoch is None or self._verified is None:  # the first: from here on
            self._epoch, self._verified, self._expected, self._knows_all = epoch, head, dict(next_of), True
            return list(self._settle(head))
        if epoch != self._epoch:
            before, self._epoch, self._verified, self._jumped = self._epoch, epoch, begins - 1, None
            self._expected, self._recent, self._knows_all, self._beat = {}, {}, False, None
            self._run_begin, self._run_end, self._run_taken = 0, -1, -1
            self.wanted = WantHeads(0)
            return [Reset(before, epoch)]
        self._heads, self._head = next_of, head
        if self._beat is not None and head > self._beat:
            # What was published behind that heartbeat is still on its way and not missing: the journal is just faster.
            self.wanted, self._is_waiting = None, True
            return []
        return self._compare()

    def _compare(self) -> "list[Lost | Reset | Delivery]":
        """Everything up to the heads has come by the socket, or never will."""
        if self._head > (self._verified or 0) and any(
            self._expected.get(topic, 0) < number for topic, number in self._heads.items()
        ):
            self.wanted = WantRange((self._verified or 0) + 1, self._head)
            return []
        return self._know_heads()

    def replayed(self, topic: bytes, message: Message) -> list[Lost | Delivery]:
        """A message of the range, in order: delivered unless it was before; what is missing before it is lost."""
        events: list[Lost | Delivery] = []
        expected = self._expected.get(topic, message.sequence)
        if message.sequence > expected:
            events.append(self._lose(topic, expected, message.sequence - 1))
            expected = message.sequence
        delivery = self._deliver(topic, message, expected)
        if delivery is not None:
            self.repaired += 1
            events.append(delivery)
        return events

    def behind(self, first_available: int) -> Lost | None:
        """The range begins only at this offset.  What is gone is counted by topic, as far as its beginning is known."""
        assert self._verified is not None
        if first_available <= self._verified + 1 or self._knows_all:
            return None
        lost = Lost(None, self._verified + 1, first_available - 1, "they are older than the journal's retention")
        self._expected.clear()
        return lost

    def range_ended(self) -> "list[Lost | Reset | Delivery]":
        """The range is complete: what the heads count and the range did not bring is lost."""
        events = [
            self._lose(topic, expected, number - 1)
            for topic, number in self._heads.items()
            if (expected := self._expected.get(topic, number)) < number
        ]
        return [*events, *self._know_heads()]

    def _know_heads(self) -> "list[Lost | Reset | Delivery]":
        """Nothing more is to come up to the heads: from here on their numbers are what is expected."""
        for topic, number in self._heads.items():
            self._expected[topic] = max(number, self._expected.get(topic, number))
        self._knows_all = True  # as long as it did not, the heads of all topics had been asked for
        return list(self._settle(self._head))

    def _settle(self, head: int) -> "list[Lost | Delivery]":
        """Nothing is missing up to *head*; the message that did not fit now does, or was never journaled."""
        self._verified = max(self._verified or 0, head)
        self._recent = {topic: offset for topic, offset in self._recent.items() if offset > head}
        jumped, self._heads, self._jumped, self.wanted = self._jumped, {}, None, None
        return self.replayed(*jumped) if jumped is not None and jumped[1].offset > head else []

    def _lose(self, topic: bytes, first: int, last: int) -> Lost:
        self.lost += last - first + 1
        return Lost(topic.decode(), first, last, "the journal has them no more")

    # --- what it looks like ---

    @property
    def epoch(self) -> int | None:
        """Of the journal that is followed; None before the first heads."""
        return self._epoch

    def place(self, untaken: tuple[bytes, int] | None = None) -> Cursor | None:
        """The cursor behind everything delivered, but for the ticks from (topic, sequence) on that nobody has taken."""
        self._verify_run()
        if self._epoch is None or self._verified is None:
            return None
        recent = {topic: self._expected[topic] for topic in self._recent}
        if untaken is not None:
            recent[untaken[0]] = untaken[1]
        return Cursor(self._epoch, self._verified, recent)
