"""A subscriber's stream has no holes and no repetitions, whatever the SUB socket drops."""

from collections.abc import Collection, Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.follow import Cursor, Delivery, Follower, Lost, Reset, WantHeads, WantRange, ticks_in
from mcm.core.wire import Message, encode_ticks

TOPICS = (b"stocks.T.A", b"stocks.T.B", b"stocks.Q.A")


class Journal:
    """What a router publishes and a replay process knows, as plain lists."""

    def __init__(self, mine: Collection[bytes] = (), epoch: int = 1) -> None:
        self.epoch, self._mine = epoch, mine  # what the subscriber has asked for; nothing stands for everything
        self.messages: list[tuple[bytes, Message]] = []
        self.next_of: dict[bytes, int] = {}
        self.retained_from = 1

    def is_wanted(self, topic: bytes) -> bool:
        return not self._mine or topic in self._mine

    def publish(self, topic: bytes, ticks: int = 1) -> tuple[bytes, Message]:
        sequence = self.next_of.get(topic, 1)
        self.next_of[topic] = sequence + ticks
        numbers = [f"{topic.decode()} {number}" for number in range(sequence, sequence + ticks)]
        offset = len(self.messages) + 1
        self.messages.append((topic, Message(offset, sequence, 0, "line", msgspec.Raw(encode_ticks(numbers)))))
        return self.messages[-1]

    def heads(self, since: int) -> dict[bytes, int]:
        changed = {topic for topic, message in self.messages if message.offset > since}
        return {topic: self.next_of[topic] for topic in changed if self.is_wanted(topic)}


class Reader:
    """A follower, and the ticks that came out of it."""

    def __init__(self, journal: Journal, cursor: Cursor | None = None, *, is_taken: bool = True) -> None:
        self.journal, self.follower = journal, Follower(cursor)
        self.is_taken = is_taken  # whether the program is done with a message before the next one comes
        self.ticks: list[str] = []
        self.events: list[Lost | Reset] = []
        self.requests = self.replayed = 0

    def take(self, events: Sequence[Lost | Reset | Delivery]) -> None:
        for event in events:
            if isinstance(event, Delivery):
                self.ticks += msgspec.msgpack.decode(event.message.ticks, type=list[str])[event.skip :]
            else:
                self.events.append(event)

    def see(self, topic: bytes, message: Message) -> None:
        if self.is_taken:
            self.follower.taken()
        if not self.journal.is_wanted(topic):
            return
        delivery = self.follower.live(topic, message)
        self.take([delivery] if delivery is not None else [])
        self.catch_up()

    def catch_up(self) -> None:
        while self.follower.wanted is not None:
            self.requests += 1
            match self.follower.wanted:
                case WantHeads(since):
                    journal = self.journal
                    self.take(self.follower.heads(journal.epoch, len(journal.messages), journal.heads(since)))
                case WantRange(first, last):
                    start = max(first, self.journal.retained_from)
                    lost = self.follower.behind(start)
                    self.take([lost] if lost is not None else [])
                    for topic, message in self.journal.messages[start - 1 : last]:
                        self.replayed += 1
                        if self.journal.is_wanted(topic):
                            self.take(self.follower.replayed(topic, message))
                    self.take(self.follower.range_ended())


def all_ticks(journal: Journal, topic: bytes, first: int = 1) -> list[str]:
    return [f"{topic.decode()} {number}" for number in range(first, journal.next_of.get(topic, 1))]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "deliver", "deliver", "drop", "repeat", "reconnect", "restart", "heartbeat"]),
        st.sampled_from(TOPICS),
        st.integers(1, 20),
    ),
    max_size=80,
)


@given(st.integers(0, 5), STEPS, st.sets(st.sampled_from(TOPICS), min_size=1), st.booleans())
def test_every_tick_comes_once_and_in_order_whatever_is_dropped(
    before: int, steps: list[tuple[str, bytes, int]], mine: set[bytes], is_taken: bool
) -> None:
    journal = Journal(mine)
    for _ in range(before):
        journal.publish(TOPICS[0])
    reader = Reader(journal, is_taken=is_taken)
    reader.catch_up()
    clock = 0.0

    for what, topic, ticks in steps:
        clock += 0.3
        match what:
            case "deliver":
                reader.see(*journal.publish(topic, ticks))
            case "drop":
                journal.publish(topic, ticks)
            case "repeat" if journal.messages:
                reader.see(*journal.messages[-1])
            case "reconnect":
                reader.follower.doubt()
                reader.catch_up()
            case "heartbeat":
                if is_taken:
                    reader.follower.taken()
                reader.follower.heartbeat(1, len(journal.messages), now=clock)
                reader.catch_up()
            case "restart":  # the process dies and goes on from its cursor
                place = reader.follower.place()
                assert place is not None
                ticks_so_far = reader.ticks
                reader = Reader(journal, Cursor.decode(bytes(place)), is_taken=is_taken)
                reader.ticks = ticks_so_far
                reader.catch_up()
    reader.follower.heartbeat(1, len(journal.messages), now=clock + 10)
    reader.catch_up()

    assert reader.events == []
    for topic in TOPICS:
        first = before + 1 if topic == TOPICS[0] else 1
        got = [tick for tick in reader.ticks if tick.startswith(topic.decode() + " ")]
        assert got == (all_ticks(journal, topic, first) if topic in mine else [])


def test_who_sees_every_message_has_only_the_dropped_ones_replayed_and_nothing_to_ask_at_a_heartbeat() -> None:
    journal = Journal()
    reader = Reader(journal)
    reader.catch_up()
    requests = reader.requests

    for _ in range(100):
        reader.see(*journal.publish(TOPICS[0]))
    reader.follower.taken()
    reader.follower.heartbeat(1, 100, now=10.0)

    assert reader.follower.wanted is None
    for _ in range(3):
        journal.publish(TOPICS[0])
    reader.see(*journal.publish(TOPICS[0]))
    assert (reader.requests - requests, reader.replayed) == (2, 4)  # heads, then a range: those three, and the fourth
    assert reader.ticks == all_ticks(journal, TOPICS[0])


def test_a_hole_in_the_offsets_leaves_everything_behind_it_to_the_heads() -> None:
    journal = Journal(mine={TOPICS[0]})
    reader = Reader(journal)
    reader.catch_up()

    reader.see(*journal.publish(TOPICS[0]))
    journal.publish(TOPICS[1])
    reader.see(*journal.publish(TOPICS[0]))
    reader.follower.taken()

    place = reader.follower.place()
    assert place is not None
    assert (place.offset, place.recent) == (1, {TOPICS[0]: 3})


@given(st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(1, 3)), min_size=1, max_size=30), st.data())
def test_a_place_inside_a_message_is_gone_on_from_exactly(
    published: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    journal = Journal()
    reader = Reader(journal)
    reader.catch_up()
    for topic, ticks in published:
        reader.see(*journal.publish(topic, ticks))
    topic, message = journal.messages[-1]
    untaken = data.draw(st.integers(0, ticks_in(message)))

    place = reader.follower.place((topic, message.sequence + ticks_in(message) - untaken))
    assert place is not None
    again = Reader(journal, place)
    again.catch_up()

    assert again.ticks == (all_ticks(journal, topic)[-untaken:] if untaken else [])


def test_a_quiet_topic_costs_no_request_when_it_first_ticks() -> None:
    journal = Journal()
    reader = Reader(journal)
    reader.catch_up()

    for topic in TOPICS:
        reader.see(*journal.publish(topic))

    assert reader.requests == 1


def test_old_topics_cost_one_catch_up_in_all_after_a_restart_with_a_cursor() -> None:
    journal = Journal()
    for number in range(100):
        journal.publish(b"stocks.T.S%d" % number)
    reader = Reader(journal, Cursor(1, 100, {}))
    reader.catch_up()
    for number in range(100):
        reader.see(*journal.publish(b"stocks.T.S%d" % number))

    assert len(reader.ticks) == 100
    assert reader.requests <= 3


def test_what_retention_has_deleted_is_named_by_topic_and_sequence() -> None:
    journal = Journal()
    reader = Reader(journal)
    reader.catch_up()
    reader.see(*journal.publish(TOPICS[0]))
    for _ in range(10):
        journal.publish(TOPICS[0], 2)
    journal.retained_from = 8

    reader.follower.doubt()
    reader.catch_up()

    (lost,) = reader.events
    assert isinstance(lost, Lost)
    assert (lost.topic, lost.first, lost.last, lost.count) == ("stocks.T.A", 2, 13, 12)
    assert reader.ticks == [*all_ticks(journal, TOPICS[0])[:1], *all_ticks(journal, TOPICS[0])[13:]]


def test_a_cursor_behind_retention_is_named_by_offsets() -> None:
    journal = Journal()
    for _ in range(10):
        journal.publish(TOPICS[0])
    journal.retained_from = 6

    reader = Reader(journal, Cursor(1, 2, {}))
    reader.catch_up()

    (lost,) = reader.events
    assert isinstance(lost, Lost)
    assert (lost.topic, lost.first, lost.last) == (None, 3, 5)
    assert len(reader.ticks) == 5


def test_a_new_epoch_is_a_loud_reset_and_its_ticks_follow_from_the_beginning() -> None:
    reader = Reader(Journal(epoch=1))
    reader.catch_up()
    reader.see(*reader.journal.publish(TOPICS[0]))
    reader.journal = Journal(epoch=2)
    reader.journal.publish(TOPICS[0])
    reader.journal.publish(TOPICS[1])

    reader.follower.heartbeat(2, 2, now=0.0)
    reader.catch_up()

    (reset,) = reader.events
    assert isinstance(reset, Reset)
    assert (reset.before, reset.now) == (1, 2)
    assert reader.ticks == ["stocks.T.A 1", "stocks.T.A 1", "stocks.T.B 1"]


def test_what_was_published_but_never_journaled_is_delivered_and_the_hole_before_it_named() -> None:
    journal = Journal()
    reader = Reader(journal)
    reader.catch_up()
    reader.see(*journal.publish(TOPICS[0]))
    ahead = Journal()
    for _ in range(4):
        ahead.publish(TOPICS[0])

    reader.see(*ahead.messages[3])

    (lost,) = reader.events
    assert isinstance(lost, Lost)
    assert (lost.first, lost.last) == (2, 3)
    assert reader.ticks == ["stocks.T.A 1", "stocks.T.A 4"]


def test_what_is_still_on_its_way_is_neither_repaired_nor_lost() -> None:
    """The journal is faster than the socket, and lacks what was published while its disk was full."""
    journal = Journal()
    reader = Reader(journal)
    reader.catch_up()
    reader.see(*journal.publish(TOPICS[0]))
    on_their_way = [journal.publish(TOPICS[0]) for _ in range(3)]
    reader.follower.heartbeat(1, 1, now=10.0)
    requests = reader.requests
    reader.catch_up()

    for topic, message in on_their_way:
        reader.see(topic, message)
    reader.follower.heartbeat(1, 4, now=10.3)
    reader.catch_up()

    assert reader.requests == requests + 1  # the heads, and no range
    assert reader.follower.repaired == reader.follower.duplicates == 0
    assert reader.ticks == all_ticks(journal, TOPICS[0])
    place = reader.follower.place()
    assert place is not None
    assert place.offset == 4


def test_what_never_comes_is_repaired_once_a_heartbeat_has_passed_it() -> None:
    journal = Journal()
    reader = Reader(journal)
    reader.catch_up()
    reader.see(*journal.publish(TOPICS[0]))
    journal.publish(TOPICS[1])
    reader.follower.heartbeat(1, 1, now=10.0)
    reader.catch_up()
    assert reader.follower.repaired == 0

    reader.follower.heartbeat(1, 2, now=10.3)
    reader.catch_up()

    assert reader.follower.repaired == 1
    assert reader.ticks == all_ticks(journal, TOPICS[0]) + all_ticks(journal, TOPICS[1])


def test_the_number_of_ticks_is_read_from_their_head() -> None:
    for count in (0, 1, 15, 16, 65_535, 65_536):
        assert ticks_in(Message(1, 1, 0, "", msgspec.Raw(encode_ticks([1] * count)))) == count
