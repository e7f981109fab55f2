"""The replay process: gives subscribers from the journal what their sockets missed.  It only reads files.

It follows the journal and keeps, per topic, where it stands; topics are kept in the order of their last change, so that
"what has changed since X" costs what has changed.  Ranges are streamed with credit, a piece per turn for each asker in
turn, so that one who wants a day keeps nobody waiting who wants a second.
"""

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mcm import bus, runtime
from mcm.core import replaying
from mcm.core.control import Down, Ready, ReplayReport, ReplaySettings, Stop
from mcm.core.record import Published, decode_record
from mcm.core.replaying import AskHeads, AskMore, AskRange, AskTime, Heads, Messages, Selection, Since, WrongEpoch
from mcm.core.wire import Message
from mcm.journal import Behind, EpochChanged, Reader, directory_of, segments

log = logging.getLogger("mcm.replay")

REPORT_S = 1.0
FOLLOW_S = 0.1
FAREWELL_S, FAREWELL_LIMIT_S = 0.2, 0.8
FOLLOW_BYTES = 512 * 1024
PIECE_BYTES = 256 * 1024
PIECE_MESSAGES = 500
REMEMBERED_BYTES = 128 * 1024 * 1024  # so much of the past is read at the start, for last values
CLIENTS = 1_000


class _Topic(msgspec.Struct, gc=False):
    """The newest message of a topic."""

    offset: int
    newest: Published
    connection: str
    received_ns: int

    @property
    def next_sequence(self) -> int:
        return self.newest.sequence + self.newest.length

    def frame(self) -> bytes:
        """That message as it was published."""
        topic, sequence, _, ticks, *_ = self.newest
        message = Message(self.offset, sequence, self.received_ns, self.connection, msgspec.Raw(ticks))
        return message.encode(topic)


class Past:
    """What the journal says, as far as it has been read.

    Attributes:
        epoch: of the journal; None until something is in it.
        begins: first offset of this epoch that is there; head: the last one read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.epoch: int | None = None
        self.begins, self.head = 1, 0
        self._topics: dict[bytes, _Topic] = {}  # in the order of their last change
        self._reader = Reader(directory)
        newest, size = None, 0
        for path, first, epoch in reversed(segments(directory)):
            newest = epoch if newest is None else newest
            if epoch != newest:
                break
            self.epoch, self.begins = epoch, first
            if size <= REMEMBERED_BYTES:
                self._reader.seek(first)
                self.head = first - 1
            with contextlib.suppress(FileNotFoundError):
                size += path.stat().st_size

    def follow(self, max_bytes: int = FOLLOW_BYTES) -> bool:
        """Read what was appended, up to *max_bytes*; whether there is more."""
        try:
            records = self._reader.read(max_bytes)
        except Behind:
            return True
        except EpochChanged as change:
            self._topics.clear()
            self.epoch, self.begins, self.head = change.epoch, change.first, change.first - 1
            return True
        if records and self.epoch is None:
            self.epoch = self._reader.epoch
            self.begins = records[0].number
        topics = self._topics
        for number, _, payload in records:
            record = decode_record(payload)
            for offset, published in enumerate(record.messages, number):
                topic = published.topic
                topics.pop(topic, None)
                topics[topic] = _Topic(
                    offset, published, published.connection or record.link, published.received_ns or record.received_ns
                )
            self.head = number + len(record.messages) - 1
        return bool(records) and self._reader.has_more()

    def changed_since(self, offset: int, selection: Selection) -> Iterator[_Topic]:
        """The topics of *selection* with messages behind *offset*, the newest change first."""
        for topic, newest in reversed(self._topics.items()):
            if newest.offset <= offset:
                return
            if topic in selection:
                yield newest


class _Range:
    """One asker's range: reads on as long as there is credit."""

    def __init__(self, directory: Path, ask: AskRange) -> None:
        self.id, self.credit = ask.id, ask.credit
        self._next, self._last = ask.first, ask.last
        self._selection = Selection(ask.prefixes)
        self._reader = Reader(directory, epoch=ask.epoch)
        self._reader.seek(ask.first)
        self._frames = self._read()
        self._first_available = 0

    def _read(self) -> Iterator[bytes]:
        """All frames, and between them an empty one wherever a piece has been read: time for somebody else."""
        while True:
            try:
                records = self._reader.read(PIECE_BYTES)
            except Behind as behind:
                self._first_available = max(behind.first_available, self._next)
                continue
            except EpochChanged:
                return
            if not records:
                return
            for number, _, payload in records:
                if number > self._last:
                    return
                for topic, message in decode_record(payload).frames(number):
                    if self._next <= message.offset <= self._last and topic in self._selection:
                        yield message.encode(topic)
            yield b""

    def piece(self) -> Messages:
        """The next frames, no more than the credit; it says whether the range is complete."""
        frames: list[bytes] = []
        is_end = False
        while len(frames) < min(PIECE_MESSAGES, self.credit):
            frame = next(self._frames, None)
            is_end = frame is None
            if not frame:
                break
            frames.append(frame)
        self.credit -= len(frames)
        first_available, self._first_available = self._first_available, 0
        return Messages(self.id, frames, is_end, first_available)

    def close(self) -> None:
        self._reader.close()


class Replay:
    """Answers requests; ranges are kept per client, one at a time."""

    def __init__(self, socket: "bus.Socket[bytes]", past: Past) -> None:
        self._socket, self._past = socket, past
        self._ranges: dict[bytes, _Range] = {}
        self._unsent: dict[bytes, replaying.Answer] = {}
        self._waiting: dict[bytes, replaying.Ask] = {}  # for the past to be read to its end; one of each client
        self.requests = self.messages = 0

    def receive(self) -> bool:
        """Take one waiting request; whether there was one."""
        frames = bus.receive_nowait(self._socket)
        if frames is None:
            return False
        client = frames[0]
        try:
            ask = replaying.decode_ask(frames[-1])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.warning("a request cannot be read: %s", error)
            return True
        self.requests += 1
        self._take(client, ask)
        return True

    def _take(self, client: bytes, ask: replaying.Ask) -> None:
        if isinstance(ask, AskMore):
            if client in self._ranges and self._ranges[client].id == ask.id:
                self._ranges[client].credit += ask.credit
            return
        if isinstance(ask, AskRange) and ask.epoch == self._past.epoch:
            self._begin(client, ask)
        elif len(self._waiting) < CLIENTS or client in self._waiting:  # the others ask again
            self._waiting[client] = ask

    def _begin(self, client: bytes, ask: AskRange) -> None:
        self._forget(client)
        while len(self._ranges) >= CLIENTS:
            self._forget(next(iter(self._ranges)))
        self._ranges[client] = _Range(self._past.directory, ask)

    @property
    def is_waiting(self) -> bool:
        """Whether somebody wants to know where the topics stand now."""
        return bool(self._waiting)

    def caught_up(self) -> None:
        """All that was published when they asked has been read: answer those who wait."""
        waiting, self._waiting = self._waiting, {}
        for client, ask in waiting.items():
            self._say(client, ask)

    def _say(self, client: bytes, ask: replaying.Ask) -> None:
        if self._past.epoch is None:
            return  # nothing was ever journaled; the asker tries again
        match ask:
            case AskHeads():
                self._answer(client, self._heads(ask, self._past.epoch))
            case AskRange() if ask.epoch != self._past.epoch:
                self._answer(client, WrongEpoch(ask.id, self._past.epoch))
            case AskRange():
                self._begin(client, ask)
            case AskTime(id_, since_ns):
                self._answer(client, Since(id_, self._past.epoch, self._offset_at(since_ns)))

    def _heads(self, ask: AskHeads, epoch: int) -> Heads:
        past = self._past
        changed = list(past.changed_since(ask.since, Selection(ask.prefixes)))
        next_of = {found.newest.topic: found.next_sequence for found in changed}
        values = [found.frame() for found in reversed(changed)] if ask.values else []
        return Heads(ask.id, epoch, past.head, next_of, past.begins, values)

    def _offset_at(self, since_ns: int) -> int:
        reader = Reader(self._past.directory, epoch=self._past.epoch)
        try:
            reader.seek_time(since_ns)
            while True:
                try:
                    records = reader.read(1)
                except (Behind, EpochChanged):
                    continue
                return records[0].number if records else self._past.head + 1
        finally:
            reader.close()

    def stream(self) -> bool:
        """A piece for everybody who has credit; whether somebody is still waiting."""
        busy = False
        for client, wanted in list(self._ranges.items()):
            if client in self._unsent:
                if self._send(client, self._unsent[client]):
                    del self._unsent[client]
                busy = True
            elif wanted.credit > 0:
                piece = wanted.piece()
                self.messages += len(piece.frames)
                if piece.is_end:
                    self._forget(client)
                busy = busy or not piece.is_end
                if piece.frames or piece.is_end or piece.first_available:
                    self._answer(client, piece)
        return busy

    def _answer(self, client: bytes, answer: replaying.Answer) -> None:
        if not self._send(client, answer) and client in self._ranges:
            self._unsent[client] = answer

    def _send(self, client: bytes, answer: replaying.Answer) -> bool:
        """Whether it is off the hands: sent, or the client is gone."""
        sent = bus.send_parts_nowait(self._socket, [client, replaying.encode(answer)])
        if sent is None:
            self._forget(client)
        return sent is not False

    def _forget(self, client: bytes) -> None:
        self._unsent.pop(client, None)
        if (known := self._ranges.pop(client, None)) is not None:
            known.close()


def loop(replay: Replay, past: Past, socket: "bus.Socket[bytes]", channel: runtime.Channel[Down]) -> None:
    """Answer until told to stop."""
    poller = bus.Poller()
    poller.register(socket, 1)  # readable
    poller.register(channel, 1)
    next_report = next_follow = time.monotonic()
    ends_at = gives_up_at = math.inf
    while not channel.closed and (now := time.monotonic()) < min(ends_at, gives_up_at):
        if now >= next_report:
            channel.send(ReplayReport(past.head, replay.requests, replay.messages), replace=True)
            next_report = now + REPORT_S
        asked = replay.requests
        for _ in range(100):
            if not replay.receive():
                break
        busy = False
        if now >= next_follow or replay.is_waiting:
            busy = past.follow()
            next_follow = now if busy else now + FOLLOW_S
            if not busy:
                replay.caught_up()
        busy = replay.stream() or busy
        if ends_at < math.inf and (busy or replay.requests > asked):
            ends_at = time.monotonic() + FAREWELL_S
        ready = dict(poller.poll(0 if busy else max(0, int((next_follow - time.monotonic()) * 1_000))))
        if channel.fileno() in ready and any(isinstance(record, Stop) for record in channel.receive()):
            # The router has ended, and its last word tells subscribers what they have missed: they ask for it now.
            ends_at, gives_up_at = time.monotonic() + FAREWELL_S, time.monotonic() + FAREWELL_LIMIT_S


def main() -> None:
    """Run as a child of the supervisor."""
    channel = runtime.start_child("replay")
    run_dir = Path(runtime.await_settings(channel, ReplaySettings).run_dir)
    context: bus.Context[bus.Socket[bytes]] = bus.Context()
    try:
        socket = bus.replay_server(context, run_dir)
        past = Past(directory_of(run_dir))
        channel.send(Ready())
        loop(Replay(socket, past), past, socket, channel)
    finally:
        context.destroy(linger=0)


if __name__ == "__main__":
    main()
