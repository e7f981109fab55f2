"""One conversation, said and answered by values; then beside a little upstream in any order of events."""

import math
import time
from collections import deque
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.market_hours import Kind
from mcm.core.markets import MARKETS
from mcm.core.rhythm import Trading
from mcm.core.session import (
    ANSWER_LIMIT_S,
    MESSAGE_BYTES,
    MESSAGE_ITEMS,
    Accepted,
    Acknowledged,
    Authenticate,
    Ending,
    Greeting,
    Refused,
    Request,
    Session,
    State,
    Subscribe,
    Unsubscribe,
)

OPTIONS = MARKETS["options"].held_limit
LIMIT = OPTIONS["Q"]
NOT_AUTHORIZED, LIMIT_REACHED = "not authorized", "Subscription limit reached for feed."


def authenticated(*items: str, **held_limit: int) -> Session:
    """A session whose key was accepted; nothing is asked for yet."""
    session = Session(set(items), held_limit)
    session.receive(Greeting())
    assert session.to_send(now=0.0) == [Authenticate()]
    session.receive(Accepted())
    return session


def asked(*items: str, **held_limit: int) -> Session:
    """A session that has asked for all of *items* at 0 s."""
    session = authenticated(*items, **held_limit)
    session.to_send(now=0.0)
    return session


def live(*items: str, **held_limit: int) -> Session:
    """A session all of whose *items* are acknowledged."""
    session = asked(*items, **held_limit)
    acknowledge(session, items)
    assert session.state is State.LIVE
    return session


def acknowledge(session: Session, items: Iterable[str], *, subscribed: bool = True) -> None:
    for item in items:
        session.receive(Acknowledged(item, subscribed))


def contracts(first: int, last: int) -> list[str]:
    return [f"Q.O:{number:04}" for number in range(first, last)]


def named(requests: list[Request], kind: type[Subscribe | Unsubscribe] = Subscribe) -> list[str]:
    """The items of all requests of one kind."""
    return [item for request in requests if isinstance(request, kind) for item in request.items]


# --- the way to live -------------------------------------------------------------------------------------------------


def test_a_session_says_nothing_before_the_greeting_and_offers_the_key_once() -> None:
    session = Session({"T.A"})

    assert session.to_send(now=0.0) == []
    session.receive(Greeting())
    session.receive(Greeting())
    assert session.to_send(now=0.0) == [Authenticate()]
    assert session.to_send(now=0.0) == []
    assert session.state is State.AUTHENTICATING


def test_everything_wanted_is_asked_for_once_the_key_is_accepted() -> None:
    session = authenticated("T.B", "T.A")

    assert session.state is State.SUBSCRIBING
    assert session.to_send(now=0.0) == [Subscribe(("T.A", "T.B"))]
    assert session.to_send(now=0.1) == []


def test_a_session_is_live_when_every_item_is_confirmed() -> None:
    session = asked("T.A", "T.B")

    states = []
    for item in ("T.A", "T.B"):
        session.receive(Acknowledged(item, subscribed=True))
        states.append(session.state)

    assert states == [State.SUBSCRIBING, State.LIVE]
    assert session.confirmed == {"T.A", "T.B"}


def test_a_session_without_wishes_is_live_with_its_key() -> None:
    assert authenticated().state is State.LIVE


def test_a_tick_confirms_what_the_upstream_does_not_acknowledge() -> None:
    session = asked("T.A", "T.B")

    session.proven("T.A")
    session.proven("T.B")

    assert session.state is State.LIVE


def test_what_was_confirmed_twice_or_never_asked_for_changes_nothing() -> None:
    session = live("T.A")

    acknowledge(session, ["T.A", "T.A", "T.STRANGER", "ZZ.A", ""])
    session.proven("T.STRANGER")

    assert session.confirmed == {"T.A"}
    assert (session.unproven, session.unconfirmed) == (set(), {})


def test_a_tick_of_any_symbol_confirms_the_wildcard_of_its_channel() -> None:
    session = asked("T.*", "Q.*")

    session.proven("T.AAPL")

    assert session.confirmed == {"T.*"}


def test_wishes_before_the_key_is_accepted_wait_and_may_be_taken_back() -> None:
    session = Session({"T.A"})
    session.want(add=["T.B", "T.C"])
    session.want(remove=["T.B"])

    session.receive(Greeting())
    session.receive(Accepted())

    assert session.to_send(now=0.0) == [Authenticate(), Subscribe(("T.A", "T.C"))]


def test_a_new_session_with_the_same_wishes_asks_for_all_of_them_again() -> None:
    session = live("T.A", "T.B")
    session.receive(Ending("closed", "force_disconnect"))

    again = authenticated(*session.wanted)

    assert again.to_send(now=0.0) == [Subscribe(("T.A", "T.B"))]


# --- the end ---------------------------------------------------------------------------------------------------------


def test_the_first_reason_for_the_end_is_kept_and_nothing_is_sent_any_more() -> None:
    session = Session({"T.A"})
    session.receive(Greeting())
    session.receive(Ending("max_connections", "Maximum number of connections exceeded."))

    session.receive(Ending("closed", "disconnected"))
    session.receive(Accepted())

    assert session.ending == Ending("max_connections", "Maximum number of connections exceeded.")
    assert session.state is State.ENDED
    assert session.to_send(now=0.0) == []


def test_a_closed_socket_ends_the_session() -> None:
    session = live("T.A")

    session.end()
    session.want(add=["T.B"])

    assert session.to_send(now=0.0) == []
    assert not session.is_authenticated


# --- answers that do not come ----------------------------------------------------------------------------------------


def test_what_is_not_answered_is_asked_once_more_and_then_named() -> None:
    session = asked("T.A", "T.B")
    session.receive(Acknowledged("T.A", subscribed=True))

    assert session.to_send(now=ANSWER_LIMIT_S - 0.1) == []
    assert session.to_send(now=ANSWER_LIMIT_S) == [Subscribe(("T.B",))]
    assert session.to_send(now=2 * ANSWER_LIMIT_S) == []
    assert session.unconfirmed == {"T.B": "no answer"}
    assert session.state is State.LIVE
    assert session.to_send(now=1_000.0) == []


def test_an_answer_that_comes_too_late_is_still_taken() -> None:
    session = asked("T.A", "T.B")
    session.to_send(now=ANSWER_LIMIT_S)

    session.receive(Acknowledged("T.A", subscribed=True))
    session.to_send(now=2 * ANSWER_LIMIT_S)
    session.receive(Acknowledged("T.B", subscribed=True))

    assert session.confirmed == {"T.A", "T.B"}
    assert session.unconfirmed == {}


def test_an_unconfirmed_item_is_confirmed_by_its_first_tick() -> None:
    session = asked("T.A")
    for now in (ANSWER_LIMIT_S, 2 * ANSWER_LIMIT_S):
        session.to_send(now=now)

    session.proven("T.A")

    assert (session.confirmed, session.unconfirmed) == ({"T.A"}, {})


# --- complaints ------------------------------------------------------------------------------------------------------


def test_a_complaint_before_the_acknowledgements_of_the_other_items_names_those_left_over() -> None:
    session = asked("T.A", "T.B", "T.C")

    session.receive(Refused(NOT_AUTHORIZED))
    acknowledge(session, ["T.A", "T.C"])
    for now in (ANSWER_LIMIT_S, 2 * ANSWER_LIMIT_S):
        session.to_send(now=now)
        session.receive(Refused(NOT_AUTHORIZED))

    assert session.confirmed == {"T.A", "T.C"}
    assert session.unconfirmed == {"T.B": NOT_AUTHORIZED}


def test_every_channel_has_a_message_of_its_own_so_that_what_one_is_refused_for_costs_no_other() -> None:
    session = authenticated("T.A", "T.B", "Q.A", "AM.A")

    assert session.to_send(now=0.0) == [Subscribe(("AM.A",)), Subscribe(("Q.A",)), Subscribe(("T.A", "T.B"))]


def test_a_complaint_belongs_to_the_oldest_open_request() -> None:
    session = asked("Q.A", "T.A")

    session.receive(Refused(NOT_AUTHORIZED))
    for now in (ANSWER_LIMIT_S, 2 * ANSWER_LIMIT_S):
        session.to_send(now=now)

    assert session.unconfirmed == {"Q.A": "no answer", "T.A": "no answer"}  # asked again, and nobody complained

    session = asked("Q.A", "T.A")
    session.to_send(now=ANSWER_LIMIT_S)
    session.receive(Refused(NOT_AUTHORIZED))
    session.to_send(now=2 * ANSWER_LIMIT_S)

    assert session.unconfirmed == {"Q.A": NOT_AUTHORIZED, "T.A": "no answer"}


def test_a_complaint_behind_an_acknowledgement_belongs_to_no_earlier_request() -> None:
    session = asked("AM.ZZ", "Q.A", "T.A")
    session.to_send(now=ANSWER_LIMIT_S)

    session.receive(Acknowledged("Q.A", subscribed=True))  # so AM.ZZ was passed over in silence
    session.receive(Refused(NOT_AUTHORIZED))
    session.to_send(now=2 * ANSWER_LIMIT_S)

    assert session.unconfirmed == {"AM.ZZ": "no answer", "T.A": NOT_AUTHORIZED}


def test_a_complaint_in_other_words_belongs_to_the_next_request() -> None:
    session = asked("Q.A", "Q.B", "T.A")
    session.to_send(now=ANSWER_LIMIT_S)

    for message in (LIMIT_REACHED, LIMIT_REACHED, NOT_AUTHORIZED):
        session.receive(Refused(message))
    session.to_send(now=2 * ANSWER_LIMIT_S)

    assert session.unconfirmed == {"Q.A": LIMIT_REACHED, "Q.B": LIMIT_REACHED, "T.A": NOT_AUTHORIZED}


def test_a_complaint_about_nothing_is_ignored() -> None:
    session = live("T.A")

    session.receive(Refused(NOT_AUTHORIZED))

    assert session.confirmed == {"T.A"}
    assert session.state is State.LIVE


# --- wishes that change ----------------------------------------------------------------------------------------------


def test_only_the_difference_is_sent_and_what_leaves_goes_first() -> None:
    session = live("T.A", "T.B")

    session.want(add=["T.B", "T.C"], remove=["T.A", "T.STRANGER"])

    assert session.to_send(now=1.0) == [Unsubscribe(("T.A",)), Subscribe(("T.C",))]
    assert session.wanted == {"T.B", "T.C"}
    assert session.state is State.SUBSCRIBING


def test_what_was_not_yet_asked_for_is_not_given_up_either() -> None:
    session = live("T.A")
    session.want(add=["T.B"])

    session.want(remove=["T.B", "T.B"])

    assert session.to_send(now=1.0) == []
    assert session.state is State.LIVE


def test_removed_and_added_again_before_anything_was_sent_is_no_change() -> None:
    session = live("T.A")

    session.want(remove=["T.A"])
    session.want(add=["T.A"])

    assert session.to_send(now=1.0) == []
    assert session.confirmed == {"T.A"}


def test_what_is_given_up_while_its_answer_is_on_the_way_stays_given_up() -> None:
    session = asked("T.A", "T.B")
    session.want(remove=["T.A"])

    assert session.to_send(now=0.1) == [Unsubscribe(("T.A",))]
    acknowledge(session, ["T.A", "T.B"])
    session.proven("T.A")
    acknowledge(session, ["T.A"], subscribed=False)

    assert session.confirmed == {"T.B"}
    assert session.state is State.LIVE
    assert session.to_send(now=60.0) == []


def test_the_late_acknowledgement_of_a_symbol_does_not_confirm_the_wildcard_that_replaced_it() -> None:
    session = asked("T.A")
    session.want(add=["T.*"], remove=["T.A"])
    session.to_send(now=0.1)

    session.receive(Acknowledged("T.A", subscribed=True))

    assert session.unproven == {"T.*"}


def test_the_last_ticks_of_a_symbol_do_not_confirm_the_wildcard_that_replaced_it() -> None:
    session = live("T.A")
    session.want(add=["T.*"], remove=["T.A"])
    session.to_send(now=1.0)

    session.proven("T.A")
    assert session.unproven == {"T.*"}
    session.proven("T.B")
    assert session.confirmed == {"T.*"}


def test_the_last_ticks_of_a_wildcard_do_not_confirm_the_symbols_that_replaced_it() -> None:
    session = live("T.*")
    session.want(add=["T.A", "T.B"], remove=["T.*"])
    session.to_send(now=1.0)

    session.proven("T.A")
    assert session.unproven == {"T.A", "T.B"}
    session.receive(Acknowledged("T.*", subscribed=False))
    session.proven("T.B")
    assert session.unproven == {"T.A"}


def test_a_tick_of_a_confirmed_symbol_does_not_confirm_a_wildcard() -> None:
    session = live("T.A")
    session.want(add=["T.*"])
    session.to_send(now=1.0)

    session.proven("T.A")

    assert session.unproven == {"T.*"}


def test_where_nothing_is_acknowledged_what_ticked_after_a_change_gets_the_benefit_of_the_doubt() -> None:
    session = live("T.*")
    session.want(add=["T.A", "T.B"], remove=["T.*"])
    session.to_send(now=1.0)

    session.proven("T.A")  # each tick is told once
    session.to_send(now=1.0 + ANSWER_LIMIT_S)

    assert session.confirmed == {"T.A"}
    assert session.unproven == {"T.B"}


# --- places ----------------------------------------------------------------------------------------------------------


def test_what_is_over_the_limit_is_named_and_not_asked_for() -> None:
    session = authenticated(*contracts(0, LIMIT + 2), "T.O:1", **OPTIONS)

    sent = named(session.to_send(now=0.0))

    assert sent == [*contracts(0, LIMIT), "T.O:1"]
    assert session.unconfirmed == dict.fromkeys(
        contracts(LIMIT, LIMIT + 2), "over the limit of 1,000 Q items per connection"
    )


def test_a_freed_place_is_taken_by_the_one_that_waits_longest() -> None:
    session = live("Q.A", "Q.B", Q=2)
    session.want(add=["Q.D"])
    session.want(add=["Q.C"])
    assert session.to_send(now=1.0) == []

    session.want(remove=["Q.A"])

    assert session.to_send(now=2.0) == [Unsubscribe(("Q.A",)), Subscribe(("Q.D",))]
    assert session.unconfirmed == {"Q.C": "over the limit of 2 Q items per connection"}
    assert session.state is State.SUBSCRIBING


def test_a_full_line_can_exchange_all_its_items_in_one_go() -> None:
    session = live(*contracts(0, LIMIT), **OPTIONS)

    session.want(add=contracts(LIMIT, 2 * LIMIT), remove=contracts(0, LIMIT))
    requests = session.to_send(now=1.0)

    assert named(requests, Unsubscribe) == contracts(0, LIMIT)
    assert named(requests) == contracts(LIMIT, 2 * LIMIT)
    assert session.unconfirmed == {}


def test_what_waits_for_a_place_and_is_no_longer_wanted_is_forgotten_without_a_word() -> None:
    session = live("Q.A", Q=1)
    session.want(add=["Q.B"])
    session.to_send(now=1.0)

    session.want(remove=["Q.B"])
    assert session.to_send(now=1.0) == []
    session.want(remove=["Q.A"])

    assert session.to_send(now=2.0) == [Unsubscribe(("Q.A",))]
    assert session.unconfirmed == {}


def test_what_was_never_answered_keeps_its_place_because_the_upstream_may_hold_it() -> None:
    session = asked("Q.A", Q=1)
    for now in (ANSWER_LIMIT_S, 2 * ANSWER_LIMIT_S):
        session.to_send(now=now)

    session.want(add=["Q.B"])

    assert session.to_send(now=20.0) == []


def refused(*items: str) -> Session:
    """A session whose upstream takes ``Q.A`` and ``Q.B`` and says of *items*, twice, that the limit is reached."""
    session = live("Q.A", "Q.B", Q=10)
    session.want(add=items)
    for now in (0.0, ANSWER_LIMIT_S, 2 * ANSWER_LIMIT_S):
        session.to_send(now=now)
        session.receive(Refused(LIMIT_REACHED))
    assert session.unconfirmed == dict.fromkeys(items, LIMIT_REACHED)
    return session


def test_what_the_upstream_refused_is_tried_again_when_places_become_free_as_many_as_did() -> None:
    session = refused("Q.C", "Q.D")
    assert session.to_send(now=1_000.0) == []

    session.want(remove=["Q.A"])

    assert session.to_send(now=1_001.0) == [Unsubscribe(("Q.A",)), Subscribe(("Q.C",))]
    acknowledge(session, ["Q.C"])
    assert session.unconfirmed == {"Q.D": LIMIT_REACHED}


def test_a_refused_item_that_is_given_up_frees_no_place() -> None:
    session = refused("Q.C", "Q.D")

    session.want(remove=["Q.C"])

    assert session.to_send(now=1_000.0) == [Unsubscribe(("Q.C",))]


def test_a_refused_item_that_ticks_has_a_place_after_all() -> None:
    session = refused("Q.C", "Q.D")
    session.proven("Q.C")

    session.want(remove=["Q.C"])

    assert session.to_send(now=1_000.0) == [Unsubscribe(("Q.C",)), Subscribe(("Q.D",))]


# --- many items ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 3_000), unique=True, max_size=300))
def test_no_message_is_longer_than_the_upstream_takes_and_none_is_forgotten(sizes: list[int]) -> None:
    items = [f"T.{'😀' * size}" for size in sizes]
    session = authenticated(*items)

    subscribed = session.to_send(now=0.0)
    session.want(remove=items)
    unsubscribed = session.to_send(now=0.0)

    assert sorted(named(subscribed)) == sorted(named(unsubscribed, Unsubscribe)) == sorted(items)
    for request in (*subscribed, *unsubscribed):
        assert not isinstance(request, Authenticate)
        assert len(request.items) <= MESSAGE_ITEMS
        assert len(",".join(request.items).encode()) < MESSAGE_BYTES


def seconds_for(count: int, *, answers: bool) -> float:
    """Processor time for *count* items: asked for, answered (or asked twice in vain), ticked, given up."""
    items = [f"{channel}.O:{number}" for channel in ("Q", "T") for number in range(count // 2)]
    started = time.process_time()
    session = authenticated(*items, Q=count // 4)
    session.to_send(now=0.0)
    if answers:
        acknowledge(session, reversed(items))
    for now in (ANSWER_LIMIT_S, 2 * ANSWER_LIMIT_S):
        session.to_send(now=now)
        session.receive(Refused(LIMIT_REACHED))
    for item in reversed(items):
        session.proven(item)
    for item in items:
        session.want(remove=[item])
    session.to_send(now=20.0)
    if answers:
        acknowledge(session, items, subscribed=False)
    assert session.to_send(now=30.0) == []
    assert (session.confirmed, session.unproven, session.unconfirmed) == (set(), set(), {})
    return time.process_time() - started


@pytest.mark.parametrize("answers", [True, False])
def test_thirty_thousand_items_cost_less_than_two_seconds_whatever_the_upstream_answers(answers: bool) -> None:
    assert seconds_for(30_000, answers=answers) < 2.0


# --- silence ---------------------------------------------------------------------------------------------------------


def speaks(session: Session, *, since: float, until: float, every_s: float, ticks: int = 1) -> float:
    """Ticks at a steady pace; none of the silences between is taken for death.  Returns when the last one came."""
    now = since
    while now <= until:
        assert not session.is_stale(now=now)
        session.ticked(ticks, now=now)
        last, now = now, now + every_s
    return last


def test_a_line_that_never_ticked_is_not_stale_because_it_may_be_night() -> None:
    session = live("T.A")

    assert not session.is_stale(now=1e6)
    assert session.quiet_limit_s() is None
    assert session.tick_age_s(now=5.0) is None
    assert session.fed_s(now=5.0) == 0.0


def test_a_busy_line_is_stale_after_ten_seconds() -> None:
    session = live("T.A")

    last = speaks(session, since=100.0, until=400.0, every_s=0.01)

    assert not session.is_stale(now=last + 9.9)
    assert session.is_stale(now=last + 10.5)
    assert session.tick_age_s(now=last + 3.0) == pytest.approx(3.0)
    assert session.fed_s(now=last) == pytest.approx(300.0)


def test_a_line_that_fell_silent_soon_after_its_start_is_stale_in_the_end() -> None:
    session = live("T.A")

    last = speaks(session, since=0.0, until=3.0, every_s=0.01)

    assert not session.is_stale(now=last + 119.0)
    assert session.is_stale(now=last + 121.0)


@pytest.mark.parametrize("every_s", [1.0, 2.0, 2.8])
def test_a_slow_line_is_given_time_for_twenty_of_its_pauses(every_s: float) -> None:
    session = live("T.A")

    last = speaks(session, since=0.0, until=600.0, every_s=every_s)

    assert not session.is_stale(now=last + 19 * every_s)
    assert session.is_stale(now=last + 21 * every_s)


def test_a_line_that_hardly_speaks_is_never_stale() -> None:
    session = live("T.A")

    last = speaks(session, since=0.0, until=3_600.0, every_s=45.0)

    assert not session.is_stale(now=last + 1e6)


@given(
    channel=st.sampled_from(["AM", "CA", "XA"]),
    start_s=st.floats(0.0, 60.0),
    burst_s=st.floats(0.0, 25.0),
    frames=st.integers(1, 80),
    late_s=st.lists(st.floats(0.0, 5.0), min_size=8, max_size=8),
)
def test_a_line_of_minute_bars_is_not_stale_between_its_bursts(
    channel: str, start_s: float, burst_s: float, frames: int, late_s: list[float]
) -> None:
    session = live(f"{channel}.*")
    ticks = [
        60.0 * minute + late_s[minute] + burst_s * frame / frames for minute in range(8) for frame in range(frames)
    ]

    for now in (now for now in ticks if now >= start_s):
        assert not session.is_stale(now=now)
        session.ticked(100, now=now)


def test_a_line_of_minute_bars_that_misses_two_minutes_is_stale() -> None:
    session = live("AM.*")
    for now in (60.0 * minute + second / 2 for minute in range(5) for second in range(20)):
        session.ticked(100, now=now)

    assert not session.is_stale(now=300.0)
    assert session.is_stale(now=370.0)


def test_a_burst_of_trades_of_a_rare_symbol_makes_no_habit() -> None:
    session = live("T.RARE")

    for frame in range(40):
        session.ticked(1, now=100.0 + frame / 40)

    assert not session.is_stale(now=160.0)


def test_a_line_that_also_carries_minute_bars_is_judged_by_its_trades_once_they_are_known() -> None:
    session = live("AM.*", "T.*")

    last = speaks(session, since=0.0, until=300.0, every_s=0.05)

    assert session.is_stale(now=last + 10.5)


def test_after_an_hour_of_silence_a_line_learns_anew() -> None:
    session = live("T.A")
    speaks(session, since=0.0, until=300.0, every_s=0.1)
    session.ticked(1, now=4_000.0)

    assert not session.is_stale(now=5_000.0)


def test_a_line_whose_busy_items_were_moved_away_is_not_stale() -> None:
    session = live("T.BUSY", "T.RARE")
    last = speaks(session, since=0.0, until=100.0, every_s=0.1)

    session.want(remove=["T.BUSY"])
    session.to_send(now=last)
    session.ticked(3, now=last + 0.1)  # they were on their way

    assert not session.is_stale(now=last + 1_000.0)
    assert session.fed_s(now=last) == pytest.approx(100.0)


# --- beside an upstream ----------------------------------------------------------------------------------------------

ITEMS = ["T.A", "T.B", "T.*", "Q.A", "Q.B", "Q.C", "Q.D", "N.A", "Z.A"]  # N is outside the plan, Z nobody knows
SINGLES = {"T.A", "T.B"}
SYMBOLS = [item for item in ITEMS if item != "T.*"]
Said = Acknowledged | Refused | str  # a text stands for a tick of that item


class Upstream:
    """Answers in order, sends ticks in between, and what it has said takes its time to arrive.

    Attributes:
        held: what it carries.
        line: what it has said and we have not yet heard.
        swallows: whether acknowledgements get lost.
    """

    def __init__(self, session: Session, limit: int) -> None:
        self.session, self.limit = session, limit
        self.held: set[str] = set()
        self.line: deque[Said] = deque()
        self.swallows = False

    def take(self, requests: list[Request]) -> None:
        for request in requests:
            match request:
                case Subscribe(items):
                    self._subscribe(items)
                case Unsubscribe(items):
                    for item in self.held.intersection(items):
                        self.held.discard(item)
                        self._acknowledge(item, subscribed=False)

    def _subscribe(self, items: tuple[str, ...]) -> None:
        quotes = {item for item in (*items, *self.held) if item.startswith("Q.")}
        if len(quotes) > self.limit and any(item.startswith("Q.") for item in items):
            self.line.extend([Refused(LIMIT_REACHED)] * (len(quotes) - self.limit))
            return
        self.line.extend(Refused(NOT_AUTHORIZED) for item in items if item.startswith("N."))
        for item in items:
            if item[0] in "TQ" and item not in self.held:
                self.held.add(item)
                self._acknowledge(item, subscribed=True)

    def _acknowledge(self, item: str, *, subscribed: bool) -> None:
        if not self.swallows:
            self.line.append(Acknowledged(item, subscribed))

    def tick(self, item: str) -> None:
        if item in self.held or item[0] + ".*" in self.held:
            self.line.append(item)

    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.line))):
            said = self.line.popleft()
            if isinstance(said, str):
                self.session.proven(said)
            else:
                self.session.receive(said)


def change(session: Session, item: str, *, add: bool) -> None:
    """One wish more or less; a plan never wants a wildcard and its singles of one line."""
    if add:
        rivals = SINGLES if item == "T.*" else {"T.*"} if item in SINGLES else set()
        session.want(add=[item], remove=sorted(rivals))
    else:
        session.want(remove=[item])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["add", "remove"]), st.sampled_from(ITEMS)),
        st.tuples(st.just("tick"), st.sampled_from(SYMBOLS)),
        st.tuples(st.just("send"), st.floats(0.0, 4.0)),
        st.tuples(st.just("deliver"), st.integers(1, 8)),
    ),
    max_size=40,
)


def play(steps: list[tuple[str, object]], session: Session, upstream: Upstream) -> float:
    now = 0.0
    for verb, what in steps:
        match verb, what:
            case "add" | "remove", str(item):
                change(session, item, add=verb == "add")
            case "tick", str(item):
                upstream.tick(item)
            case "send", float(seconds):
                now += seconds
                upstream.take(session.to_send(now=now))
            case "deliver", int(count):
                upstream.deliver(count)
    return now


def calm_down(session: Session, upstream: Upstream, now: float) -> None:
    """Everything is said, heard, asked again and heard."""
    for turn in range(8):
        upstream.take(session.to_send(now=now + turn * ANSWER_LIMIT_S))
        upstream.deliver(1_000)


@given(STEPS)
def test_in_the_end_the_upstream_holds_what_is_wanted_and_the_session_knows_it(
    steps: list[tuple[str, object]],
) -> None:
    session = authenticated(Q=3)
    upstream = Upstream(session, limit=3)

    calm_down(session, upstream, play(steps, session, upstream))

    assert session.state is State.LIVE
    assert session.confirmed == upstream.held
    assert session.wanted == session.confirmed | session.unconfirmed.keys()
    assert not session.confirmed & session.unconfirmed.keys()
    quotes = {item for item in session.wanted if item.startswith("Q.")}
    assert len({item for item in upstream.held if item.startswith("Q.")}) == min(3, len(quotes))
    assert {item for item in session.wanted if item.startswith("T.")} <= session.confirmed
    # Which of two unanswered requests was refused cannot be known, when the other was passed over in silence.
    over = "over the limit of 3 Q items per connection"
    assert {*session.unconfirmed.values()} <= {NOT_AUTHORIZED, "no answer", over}


@given(STEPS)
def test_nothing_is_ever_confirmed_that_the_upstream_does_not_hold_once_all_is_heard(
    steps: list[tuple[str, object]],
) -> None:
    session = authenticated(Q=3)
    upstream = Upstream(session, limit=3)

    for index, step in enumerate(steps):
        play([step], session, upstream)
        if index % 5 == 0:
            upstream.take(session.to_send(now=0.0))
            upstream.deliver(1_000)
            assert session.confirmed <= upstream.held


@given(STEPS)
def test_an_upstream_that_has_fewer_places_than_known_is_understood_all_the_same(
    steps: list[tuple[str, object]],
) -> None:
    session = authenticated("Q.A", "Q.B", Q=3)
    upstream = Upstream(session, limit=2)

    calm_down(session, upstream, play(steps, session, upstream))

    assert session.state is State.LIVE
    assert session.confirmed == upstream.held
    assert session.wanted == session.confirmed | session.unconfirmed.keys()


@given(STEPS)
def test_ticks_alone_confirm_everything_that_ticks(steps: list[tuple[str, object]]) -> None:
    session = authenticated(Q=3)
    upstream = Upstream(session, limit=3)
    upstream.swallows = True

    calm_down(session, upstream, play(steps, session, upstream))
    for item in SYMBOLS:
        upstream.tick(item)
    upstream.deliver(1_000)

    assert session.state is State.LIVE
    assert session.confirmed == upstream.held


# --- silence, and the hours of the market ----------------------------------------------------------------------------


def test_a_busy_line_that_falls_silent_soon_after_its_start_is_noticed_within_half_a_minute_in_an_open_market() -> None:
    session = live("T.A")
    session.trades(Trading(Kind.OPEN, 0.0))

    last = speaks(session, since=10.0, until=15.0, every_s=0.01)

    assert not session.is_stale(now=last + 29.0)
    assert session.is_stale(now=last + 31.0)


def test_a_burst_of_a_rare_symbol_makes_no_habit_in_an_open_market_either() -> None:
    session = live("T.RARE")
    session.trades(Trading(Kind.OPEN, 0.0))
    for frame in range(80):
        session.ticked(1, now=100.0 + frame / 20)

    assert not session.is_stale(now=220.0)


def test_minute_bars_have_their_minute_in_an_open_market_too() -> None:
    session = live("AM.*")
    session.trades(Trading(Kind.OPEN, 0.0))
    for frame in range(40):
        session.ticked(100, now=100.0 + frame / 10)

    assert not session.is_stale(now=170.0)


def test_a_night_of_silence_is_no_alarm_and_neither_is_its_end() -> None:
    session = live("T.A")
    session.trades(Trading(Kind.THIN, 0.0))
    last = speaks(session, since=10.0, until=600.0, every_s=0.05)

    session.trades(Trading(Kind.CLOSED, 605.0))
    assert session.quiet_limit_s() is None
    assert not session.is_stale(now=last + 30_000.0)
    session.trades(Trading(Kind.THIN, 30_000.0))
    assert not session.is_stale(now=36_000.0)
    session.trades(Trading(Kind.OPEN, 37_000.0))
    assert not session.is_stale(now=37_001.0)


def test_where_ticks_flow_in_a_market_that_should_be_closed_the_learned_rate_rules() -> None:
    session = live("T.A")
    session.trades(Trading(Kind.CLOSED, 0.0))

    last = speaks(session, since=10.0, until=590.0, every_s=0.05)
    assert not session.is_stale(now=last + 1_000.0)
    last = speaks(session, since=last, until=620.0, every_s=0.05)

    assert session.is_stale(now=last + 11.5)


def test_outside_the_regular_session_a_line_has_two_minutes() -> None:
    session = live("T.A")
    session.trades(Trading(Kind.THIN, 0.0))

    last = speaks(session, since=10.0, until=600.0, every_s=0.05)

    assert not session.is_stale(now=last + 119.0)
    assert session.is_stale(now=last + 121.0)


def test_silence_before_the_opening_does_not_count_after_it() -> None:
    session = live("T.A")
    session.trades(Trading(Kind.THIN, 0.0))
    last = speaks(session, since=10.0, until=600.0, every_s=0.05)

    session.trades(Trading(Kind.OPEN, last + 60.0))

    assert not session.is_stale(now=last + 69.0)
    assert session.is_stale(now=last + 71.0)


@given(
    pauses=st.lists(st.floats(0.0, 60.0), min_size=1, max_size=80),
    count=st.integers(1, 100),
    channel=st.sampled_from(["T", "AM"]),
    since=st.floats(-2_000.0, 500.0),
)
def test_an_open_market_only_shortens_patience_and_any_other_only_lengthens_it(
    pauses: list[float], count: int, channel: str, since: float
) -> None:
    def limit(kind: Kind | None) -> float:
        session = live(f"{channel}.A")
        if kind is not None:
            session.trades(Trading(kind, since))
        now = 0.0
        for pause in pauses:
            now += pause
            session.ticked(count, now=now)
        found = session.quiet_limit_s()
        return found if found is not None else math.inf

    own = limit(None)
    assert limit(Kind.OPEN) <= own
    assert limit(Kind.THIN) >= own
    assert limit(Kind.CLOSED) >= own
