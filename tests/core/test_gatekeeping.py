"""One client's conversation with the gateway, without a socket."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core import gatekeeping
from mcm.core.control import GatewayToken
from mcm.core.gatekeeping import Conversation, End, Gate, Hear, Leave, Say, Step
from mcm.core.topics import allows, is_pattern

ALICE = GatewayToken("alice-secret", "alice", ("stocks.T.*", "stocks.Q.AAPL"))


def say(action: str, params: str) -> str:
    return json.dumps({"action": action, "params": params})


def admitted(market: str = "stocks", gate: Gate | None = None, key: str = "any") -> Conversation:
    conversation = Conversation(market, gate or Gate())
    assert conversation.receive(say("auth", key)) == [Say((gatekeeping.AUTH_SUCCESS,))]
    return conversation


def texts(steps: Sequence[Step]) -> list[str]:
    return [text.decode() for step in steps if isinstance(step, Say | End) for text in step.statuses]


# --- byte for byte as in massive-protocol.md 3.1 and 3.3


def test_a_conversation_goes_byte_for_byte_as_with_the_vendor() -> None:
    conversation = Conversation("stocks", Gate())

    assert gatekeeping.CONNECTED == b'{"ev":"status","status":"connected","message":"Connected Successfully"}'
    assert texts(conversation.receive('{"action":"auth","params":"KEY"}')) == [
        '{"ev":"status","status":"auth_success","message":"authenticated"}'
    ]
    (hear,) = conversation.receive('{"action":"subscribe","params":"T.AAPL,A.AAPL"}')
    assert hear == Hear({"stocks.T.AAPL": "T.AAPL", "stocks.A.AAPL": "A.AAPL"})
    assert texts([conversation.heard(hear.asked, {})]) == [
        '{"ev":"status","status":"success","message":"subscribed to: T.AAPL"}',
        '{"ev":"status","status":"success","message":"subscribed to: A.AAPL"}',
    ]
    leave, told = conversation.receive('{"action":"unsubscribe","params":"A.AAPL"}')
    assert leave == Leave(("stocks.A.AAPL",))
    assert texts([told]) == ['{"ev":"status","status":"success","message":"unsubscribed to: A.AAPL"}']


def test_a_key_that_opens_nothing_ends_the_conversation() -> None:
    for gate, key in ((Gate([ALICE]), "wrong"), (Gate([ALICE]), ""), (Gate(), ""), (Gate(), "  ")):
        (step,) = Conversation("stocks", gate).receive(say("auth", key))

        assert isinstance(step, End)
        assert texts([step]) == ['{"ev":"status","status":"auth_failed","message":"authentication failed"}']


def test_nothing_is_subscribed_before_the_key_was_accepted() -> None:
    conversation = Conversation("stocks", Gate())

    assert '"auth_required"' in texts(conversation.receive(say("subscribe", "T.AAPL")))[0]
    assert conversation.held == {}


def test_what_a_token_does_not_allow_is_refused_in_the_vendors_words_and_the_rest_accepted() -> None:
    conversation = admitted(gate=Gate([ALICE]), key="alice-secret")

    refused, hear = conversation.receive(say("subscribe", "Q.MSFT, T.MSFT,Q.*,Q.AAPL"))

    assert texts([refused]) == ['{"ev":"status","status":"error","message":"not authorized"}'] * 2
    assert hear == Hear({"stocks.T.MSFT": "T.MSFT", "stocks.Q.AAPL": "Q.AAPL"})


def test_a_topic_that_nobody_can_carry_is_named_with_the_reason_and_may_be_asked_for_again() -> None:
    conversation = admitted("options")
    (hear,) = conversation.receive(say("subscribe", "T.O:A,T.O:B"))
    assert isinstance(hear, Hear)

    told = texts([conversation.heard(hear.asked, {"options.T.O:A": "no connection serves options"})])

    assert told == [
        '{"ev":"status","status":"error","message":"T.O:A: no connection serves options"}',
        '{"ev":"status","status":"success","message":"subscribed to: T.O:B"}',
    ]
    assert conversation.receive(say("subscribe", "T.O:A,T.O:B")) == [Hear({"options.T.O:A": "T.O:A"})]


@pytest.mark.parametrize("params", ["ZZ.AAPL", "V.I:SPX", "T", "T.", ".AAPL", "", ",,", "T.A\0", "T." + "A" * 200])
def test_what_the_market_does_not_have_vanishes_without_a_word(params: str) -> None:
    assert admitted().receive(say("subscribe", params)) == []


def test_an_item_that_is_held_is_not_acknowledged_again() -> None:
    conversation = admitted()

    assert conversation.receive(say("subscribe", "T.BRK.B,T.BRK.B")) == [Hear({"stocks.T.BRK.B": "T.BRK.B"})]
    assert conversation.receive(say("subscribe", "T.BRK.B")) == []
    assert conversation.receive(say("unsubscribe", "T.AAPL")) == []


def test_a_pair_may_be_written_with_a_dash_and_is_acknowledged_as_it_was_written() -> None:
    conversation = admitted("forex")

    (hear,) = conversation.receive(say("subscribe", "C.EUR-USD,AM.C:EUR-USD"))

    assert hear == Hear({"forex.C.EUR/USD": "C.EUR-USD", "forex.AM.C:EUR-USD": "AM.C:EUR-USD"})


def test_options_have_no_wildcard_for_quotes() -> None:
    assert admitted("options").receive(say("subscribe", "Q.*,T.*")) == [Hear({"options.T.*": "T.*"})]


def test_a_client_that_holds_too_much_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gatekeeping, "HELD_LIMIT", 2)
    conversation = admitted()

    assert "Subscription limit reached for feed." in texts(conversation.receive(say("subscribe", "T.A,T.B,T.C")))[0]
    assert conversation.held == {}


@pytest.mark.parametrize(
    "message", ["", "[]", "{}", "null", '{"action":"auth"}', '{"action":1,"params":"x"}', b"\xff\xfe", "[" * 100_000]
)
def test_what_is_no_message_is_ignored(message: str | bytes) -> None:
    assert admitted().receive(message) == []


def test_binary_frames_are_read_like_text() -> None:
    assert admitted().receive(say("subscribe", "T.AAPL").encode()) == [Hear({"stocks.T.AAPL": "T.AAPL"})]


def test_a_token_shows_itself_nowhere() -> None:
    assert "alice-secret" not in f"{ALICE} {[ALICE]!r} {ALICE.__rich_repr__()}"


PATTERNS = ["*", "stocks.*", "stocks.T.*", "options.Q.*", "stocks.T.AAPL", "stocks.T.BRK.B"]
NO_PATTERNS = ["", "AAPL", "T.AAPL", "stocks", "stocks.", "stocks.T", "stocks.V.*", "bonds.*", "stocks.T.A,B", "**"]


def test_patterns_are_told_from_other_texts() -> None:
    assert [text for text in [*PATTERNS, *NO_PATTERNS] if is_pattern(text)] == PATTERNS


def test_a_wildcard_is_allowed_only_as_a_whole() -> None:
    assert allows(["stocks.T.*"], "stocks.T.*")
    assert allows(["stocks.T.*"], "stocks.T.BRK.B")
    assert not allows(["stocks.T.AAPL"], "stocks.T.*")
    assert not allows(["stocks.T.*"], "stocks.Q.AAPL")
    assert not allows(["stocks.*"], "options.T.O:A")


# --- for every input

ITEMS = st.sampled_from(["T.AAPL", "T.MSFT", "Q.AAPL", "T.*", " A.AAPL", "ZZ.A", "T.", "V.I:SPX", ""])
MESSAGES = st.tuples(
    st.sampled_from(["subscribe", "unsubscribe", "auth", "sing"]), st.lists(ITEMS, max_size=5).map(",".join)
)


@given(st.lists(st.tuples(MESSAGES, st.booleans())))
def test_every_item_is_acknowledged_once_for_every_time_it_is_taken_and_given_up(
    history: list[tuple[tuple[str, str], bool]],
) -> None:
    conversation = admitted()
    held: set[str] = set()

    for (action, params), is_placed in history:
        for step in conversation.receive(say(action, params)):
            if isinstance(step, Hear):
                assert not held & step.asked.keys()
                unplaced = {} if is_placed else dict.fromkeys(step.asked, "no room")
                answers = texts([conversation.heard(step.asked, unplaced)])
                assert len(answers) == len(step.asked)
                held |= step.asked.keys() - unplaced.keys()
            elif isinstance(step, Leave):
                assert held.issuperset(step.topics)
                held.difference_update(step.topics)
        assert held == set(conversation.held) if conversation.token else not held


@given(st.text() | st.binary())
def test_nothing_that_a_client_sends_raises(message: str | bytes) -> None:
    Conversation("stocks", Gate()).receive(message)
    admitted().receive(message)
    admitted().receive(json.dumps({"action": "subscribe", "params": message if isinstance(message, str) else ""}))
