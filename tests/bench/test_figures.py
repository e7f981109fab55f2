"""The calculating parts of the benchmark: a figure is only as good as what counts it."""

import json
from collections import Counter

import msgspec
import pytest

from tests.bench import guard, report
from tests.bench.figures import Figure, Target, ratio
from tests.bench.guard import MARGINS
from tests.bench.handshake import Conversation
from tests.bench.percentiles import percentile, percentiles, spread
from tests.bench.schedule import Schedule
from tests.bench.tape import FIRST_NUMBER, Shape, counts, items_of, render, symbols_of

# --- the tape ---------------------------------------------------------------------------------------------------------


def events_of(frame: bytes) -> list[dict[str, object]]:
    events: list[dict[str, object]] = json.loads(frame[frame.index(b"[{") :])
    return events


@pytest.mark.parametrize("events_per_frame", [1, 4, 20, 100])
def test_the_tape_numbers_every_event_and_packs_as_many_as_asked_for_into_a_frame(events_per_frame: int) -> None:
    frames = list(render(Shape(events_per_frame=events_per_frame), 250))

    packed = [events_of(frame) for frame in frames]
    assert {len(events) for events in packed[:-1]} <= {events_per_frame}
    assert [event["q"] for events in packed for event in events] == list(range(FIRST_NUMBER, FIRST_NUMBER + 250))
    assert {event["ev"] for events in packed for event in events} == {"T", "Q"}


def test_a_frame_holds_symbols_of_one_share_only_and_the_shares_take_turns() -> None:
    shape = Shape(events_per_frame=4, symbols=30, shares=3)
    shares = [set(symbols_of(shape, share)) for share in range(3)]

    frames = list(render(shape, 120))

    for number, frame in enumerate(frames):
        assert {event["sym"] for event in events_of(frame)} <= shares[number % 3]
    assert set.union(*shares) == set(symbols_of(shape))
    assert len(items_of(shape)) == 60


def test_the_same_shape_gives_the_same_bytes() -> None:
    shape = Shape(events_per_frame=4)

    assert list(render(shape, 200)) == list(render(shape, 200))


def test_it_is_known_how_often_each_item_ticks() -> None:
    shape = Shape(events_per_frame=4, symbols=10)

    sent = Counter(f"{event['ev']}.{event['sym']}" for frame in render(shape, 300) for event in events_of(frame))

    assert counts(shape, 300) == sent


# --- the hand-shake ---------------------------------------------------------------------------------------------------


def masked(text: str) -> bytes:
    payload, mask = text.encode(), b"\x01\x02\x03\x04"
    body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([0x81, 0xFE]) + len(payload).to_bytes(2, "big") + mask + body


def test_the_feed_answers_the_hand_shake_in_whatever_pieces_it_comes() -> None:
    conversation = Conversation()
    # The key and its answer are those of RFC 6455, 1.3.
    request = b"GET /stocks HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    subscribe = masked('{"action":"subscribe","params":"T.AAPL,Q.AAPL"}'.ljust(130))
    said = request + masked('{"action":"auth","params":"key"}'.ljust(130)) + subscribe

    answer = b"".join(conversation.receive(said[at : at + 7]) for at in range(0, len(said), 7))

    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
    assert [answer.index(word) for word in (b"connected", b"auth_success", b"subscribed to: T.AAPL")] == sorted(
        answer.index(word) for word in (b"connected", b"auth_success", b"subscribed to: Q.AAPL"[:15])
    )
    assert conversation.items == {"T.AAPL", "Q.AAPL"}


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_tick_is_due_with_the_last_one_of_its_frame() -> None:
    schedule = Schedule(begun_ns=1_000, ticks_per_s=1_000, events_per_frame=4)

    assert [schedule.due_of(FIRST_NUMBER + number) for number in (0, 3, 4)] == [4_001_000, 4_001_000, 8_001_000]
    assert schedule.due_ns(1) == schedule.due_of(FIRST_NUMBER + 4)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 99.9, 5.0),
        ([1.0, 2.0], 50.0, 1.0),
        (range(1, 1_001), 50.0, 500),
        (range(1, 1_001), 99.0, 990),
        (range(1, 1_001), 99.9, 999),
        (range(1, 101), 99.9, 100),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_percentiles_do_not_depend_on_the_order_and_need_a_value() -> None:
    assert percentiles([3.0, 1.0, 2.0]) == percentiles([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50.0)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_a_figure_is_the_median_of_its_runs_and_knows_its_target() -> None:
    figure = Figure("s", "n", "µs", (3.0, 1.0, 2.0), Target(most=2))

    assert (figure.value, figure.is_met, spread(figure.values)) == (2.0, True, 1.0)
    assert figure.cells() == ("n", "2 µs", "± 50%", "≤ 2 ✓")
    assert not Figure("s", "n", "/s", (3.0,), Target(least=4)).is_met


def test_a_ratio_is_taken_run_by_run() -> None:
    assert ratio("s", "n", [1.0, 10.0], [2.0, 10.0]).values == (0.5, 1.0)


def test_the_document_holds_machine_values_and_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    report.show([Figure("s", "n", "µs", (3.0, 1.0, 2.0), Target(most=1))], as_json=True)

    document = msgspec.json.decode(capsys.readouterr().out)
    assert {"machine", "system", "versions", "command"} <= set(document["on"])
    (figure,) = document["figures"]
    assert (figure["value"], figure["is_met"], figure["target"]) == (2.0, False, {"most": 1.0, "least": None})


# --- the guard --------------------------------------------------------------------------------------------------------


def measured(*beyond: guard.Margin) -> dict[guard.Margin, list[float]]:
    """Three runs of everything, where only the median of *beyond* is out of its margin."""
    return {margin: [0.0, margin.most + (0.1 if margin in beyond else -0.1), 99.0] for margin in MARGINS}


def test_a_ratio_within_its_margin_is_not_measured_again() -> None:
    def again() -> dict[guard.Margin, list[float]]:
        raise AssertionError("measured again")

    assert guard.outside(measured(), again) == []


def test_a_ratio_that_is_outside_twice_is_named_and_one_that_was_outside_once_is_not() -> None:
    first, second = MARGINS[0], MARGINS[1]

    problems = guard.outside(measured(first, second), lambda: measured(second))

    assert len(problems) == 1
    assert str(second) in problems[0]
