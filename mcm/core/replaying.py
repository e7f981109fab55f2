"""What a subscriber asks the replay process, and what it answers: heads, ranges, a time, last values.

A request is one frame, and so is an answer: the messages of a range are in it, each as it was published, because as
frames of their own they would cost more to send than to read.  A range flows with credit: the asker grants so many
messages and asks for more when they are used up.
"""

from collections.abc import Iterable

import msgspec

__all__ = [
    "Answer",
    "AskHeads",
    "AskMore",
    "AskRange",
    "AskTime",
    "Heads",
    "Messages",
    "Selection",
    "Since",
    "WrongEpoch",
    "decode_answer",
    "decode_ask",
    "encode",
]


class _Record(msgspec.Struct, tag=True, frozen=True, omit_defaults=True):
    """A record of the replay socket; *id* is the asker's and comes back with every answer."""

    id: int


class AskHeads(_Record, frozen=True):
    """Where the topics stand that have changed since an offset.

    Attributes:
        prefixes: what the asker subscribes.
        since: only topics with messages behind this offset.
        values: whether the newest message of each is wanted as well.
    """

    prefixes: tuple[bytes, ...]
    since: int = 0
    values: bool = False


class AskRange(_Record, frozen=True):
    """All messages of *prefixes* from offset *first* to *last*, in order; *credit* of them at once."""

    epoch: int
    first: int
    last: int
    prefixes: tuple[bytes, ...]
    credit: int


class AskMore(_Record, frozen=True):
    """So many more messages of the range that was asked for."""

    credit: int


class AskTime(_Record, frozen=True):
    """The first offset at which the running maximum of ``received_ns`` reaches this wall-clock time."""

    since_ns: int


Ask = AskHeads | AskRange | AskMore | AskTime


class Heads(_Record, frozen=True):
    """The state at offset *head*: of every topic asked for, the sequence that its next tick gets.

    Attributes:
        epoch: of the journal.
        next_of: topic → sequence; topics that have not changed since the offset asked for are left out.
        begins: first offset of this epoch.
        frames: the newest message of each, where values are wanted, in order.
    """

    epoch: int
    head: int
    next_of: dict[bytes, int]
    begins: int
    frames: list[bytes] = []


class Messages(_Record, frozen=True):
    """A part of a range.

    Attributes:
        frames: its messages.
        is_end: whether the range is complete.
        first_available: larger than what was asked for where retention has deleted the beginning.
    """

    frames: list[bytes]
    is_end: bool
    first_available: int = 0


class Since(_Record, frozen=True):
    """The answer to AskTime; one behind the last offset when nothing is that new."""

    epoch: int
    offset: int


class WrongEpoch(_Record, frozen=True):
    """Offsets of the epoch asked for mean nothing here; this is the present one."""

    epoch: int


Answer = Heads | Messages | Since | WrongEpoch

encode = msgspec.msgpack.Encoder().encode
_ask = msgspec.msgpack.Decoder(Ask)
_answer = msgspec.msgpack.Decoder(Answer)


def decode_ask(frame: bytes) -> Ask:
    """The request in *frame*; msgspec.DecodeError for anything else."""
    return _ask.decode(frame)  # type: ignore[no-any-return]  # a union is no type to the stubs


def decode_answer(frame: bytes) -> Answer:
    """The answer in *frame*."""
    return _answer.decode(frame)  # type: ignore[no-any-return]


class Selection:
    """Which topics some SUB prefixes select; remembers its answers, because topics come again and again.

    Everything (the empty prefix) means everything of the markets: mcm's own topics are named by who wants them.
    """

    _REMEMBERED = 200_000

    def __init__(self, prefixes: Iterable[bytes]) -> None:
        prefixes = tuple(prefixes)
        self._exact = {prefix[:-1] for prefix in prefixes if prefix.endswith(b"\0")}
        self._open = tuple(prefix for prefix in prefixes if prefix and not prefix.endswith(b"\0"))
        self._is_all = b"" in prefixes
        self._known: dict[bytes, bool] = {}

    def __contains__(self, topic: bytes) -> bool:
        """Whether a SUB socket with these prefixes would get *topic*."""
        known = self._known.get(topic)
        if known is None:
            if len(self._known) >= self._REMEMBERED:
                self._known.clear()
            known = topic in self._exact or topic.startswith(self._open)
            known = known or (self._is_all and not topic.startswith(b"mcm."))
            self._known[topic] = known
        return known
