"""The governor alone, event by event; then beside a little vendor whose time is stepped; then in any history at all."""

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mcm.core.dialling import (
    AFTER_SILENT_DEATH_S,
    HEALTHY_S,
    MISSING_S,
    PERMIT_S,
    STANDS_S,
    TRIAL_S,
    Governor,
    LineState,
    Reason,
)

ABC = ("a", "b", "c")


def governor(*names: str, max_connections: int = 3) -> Governor:
    """Lines of stocks whose workers are there; a name may bring its market: ``"coins:crypto"``."""
    lines = {name: market or "stocks" for name, _, market in (name.partition(":") for name in names)}
    new = Governor(lines, max_connections, Random(1))
    for name in lines:
        new.present(name)
    return new


def dialled(governed: Governor, *names: str, now: float) -> Governor:
    """All these lines, dialled one after the other and up."""
    for name in names:
        assert governed.next(now=now) == name
        governed.answered(name)
    return governed


def states(governed: Governor) -> list[LineState]:
    return [governed.state(name) for name in governed.lines]


# --- permits ---------------------------------------------------------------------------------------------------------


def test_lines_dial_one_at_a_time_over_all_markets() -> None:
    governed = governor("a", "coins:crypto", "b")

    first = governed.next(now=0.0)

    assert first == "a"
    assert governed.next(now=1.0) is None
    governed.answered("a")
    assert governed.next(now=1.0) == "coins"
    governed.closed("coins", Reason.DIAL_FAILED, "refused", now=1.5, fed_s=0.0)
    assert governed.next(now=1.5) == "b"


def test_a_permit_without_an_answer_ends_after_ten_seconds() -> None:
    governed = governor("a", "b")
    governed.next(now=0.0)

    assert governed.next(now=PERMIT_S - 0.1) is None
    assert governed.next(now=PERMIT_S) == "b"


def test_a_permit_dies_with_its_worker() -> None:
    governed = governor("a", "b")
    governed.next(now=0.0)

    governed.absent("a")

    assert governed.next(now=0.1) == "b"
    assert governed.state("a") is LineState.ABSENT


def test_the_answer_of_a_line_that_lost_its_permit_frees_nobody_elses() -> None:
    governed = governor("a", "b", "c")
    governed.next(now=0.0)
    governed.next(now=PERMIT_S)

    governed.answered("a")

    assert governed.next(now=PERMIT_S + 0.1) is None
    assert states(governed) == [LineState.UP, LineState.DIALLING, LineState.WAITING]


def test_a_line_without_a_worker_does_not_dial() -> None:
    governed = Governor({"a": "stocks", "b": "stocks"}, 3, Random(1))
    governed.present("b")

    assert governed.next(now=0.0) == "b"
    assert governed.state("a") is LineState.ABSENT


def test_a_dark_market_does_not_keep_another_one_from_dialling() -> None:
    governed = governor("a", "b", "c", "coins:crypto")
    now = 0.0

    for _ in range(4):  # every dial of stocks takes its whole eight seconds
        name = governed.next(now=now)
        assert name is not None
        if name == "coins":
            break
        now += 8.0
        governed.closed(name, Reason.DIAL_FAILED, "no answer", now=now, fed_s=0.0)

    assert name == "coins"


def test_more_lines_than_the_account_holds_are_parked_from_the_start() -> None:
    governed = governor("a", "b", "c", max_connections=2)

    dialled(governed, "a", "b", now=0.0)

    assert governed.state("c") is LineState.PARKED
    assert governed.next(now=10_000.0) is None


# --- back-off --------------------------------------------------------------------------------------------------------


def test_failed_dials_back_off_with_full_jitter_from_half_a_second_to_a_minute() -> None:
    waits: list[list[float]] = [[] for _ in range(12)]

    for seed in range(200):
        governed = Governor({"a": "stocks"}, 3, Random(seed))
        governed.present("a")
        now = 0.0
        for attempt in range(12):
            governed.next(now=now)
            governed.closed("a", Reason.DIAL_FAILED, "refused", now=now, fed_s=0.0)
            waits[attempt].append(governed.waits_s("a", now=now))
            now += waits[attempt][-1]
        assert governed.attempts("a") == 12

    assert [max(wait) <= min(60.0, 0.5 * 2**attempt) for attempt, wait in enumerate(waits)] == [True] * 12
    assert [sum(wait) / 200 for wait in waits] == pytest.approx(
        [min(60.0, 0.5 * 2**attempt) / 2 for attempt in range(12)], rel=0.2
    )


def test_the_first_redial_after_a_healthy_life_is_immediate() -> None:
    governed = dialled(governor("a"), "a", now=0.0)

    governed.closed("a", Reason.ABORTED, "cut", now=100.0, fed_s=HEALTHY_S)

    assert governed.next(now=100.0) == "a"


def test_a_flapping_line_backs_off_although_its_key_is_accepted_every_time() -> None:
    governed = governor("a")
    now, dials = 0.0, 0

    while now < 3_600.0:
        if governed.next(now=now) is not None:
            dials += 1
            governed.answered("a")
            governed.closed("a", Reason.CLOSED, "code 1001", now=now, fed_s=HEALTHY_S - 0.1)
        now += 0.25

    assert dials < 3_600 / 30 + 30


def test_after_a_silent_death_its_market_waits_for_the_upstream_to_notice() -> None:
    governed = dialled(governor("a", "b", "coins:crypto"), "a", "b", "coins", now=0.0)
    governed.closed("a", Reason.NO_PONG, "no answer to a ping", now=100.0, fed_s=90.0)
    governed.closed("coins", Reason.CLOSED, "code 1001", now=100.0, fed_s=90.0)

    assert governed.next(now=100.0) == "coins"
    governed.answered("coins")
    assert governed.next(now=99.9 + AFTER_SILENT_DEATH_S) is None
    assert governed.next(now=100.0 + AFTER_SILENT_DEATH_S) == "a"


def test_a_line_closed_as_asked_may_dial_at_once_and_is_no_failure() -> None:
    governed = dialled(governor("a"), "a", now=0.0)

    governed.closed("a", Reason.ASKED, "closed as asked", now=5.0, fed_s=1.0)

    assert governed.attempts("a") == 0
    assert governed.next(now=5.0) == "a"


# --- the account's limit ---------------------------------------------------------------------------------------------


def evicted(names: tuple[str, ...] = ABC, *, loser: str = "a", now: float = 0.0) -> Governor:
    """All of *names* up, and *loser* evicted."""
    governed = dialled(governor(*names), *names, now=now)
    governed.closed(loser, Reason.EVICTED, "Maximum number of connections exceeded.", now=now, fed_s=0.0)
    return governed


def test_an_eviction_parks_the_line_and_lowers_the_allowance_to_those_that_stand() -> None:
    governed = evicted()

    assert states(governed) == [LineState.PARKED, LineState.UP, LineState.UP]
    assert (governed.allowed("stocks"), governed.running("stocks")) == (2, 2)
    assert not governed.may_carry("a")
    assert governed.why("a") == (Reason.EVICTED, "Maximum number of connections exceeded.")
    assert governed.next(now=TRIAL_S[0] - 0.1) is None


def test_an_eviction_parks_those_who_wait_as_well() -> None:
    governed = dialled(governor(*ABC), "a", now=0.0)

    governed.closed("a", Reason.EVICTED, "", now=1.0, fed_s=0.0)

    assert states(governed) == [LineState.PARKED] * 3
    assert governed.why("b") == (Reason.EVICTED, "the account allows 0")


def test_an_eviction_concerns_its_own_market_only() -> None:
    governed = dialled(governor("a", "coins:crypto", "b"), "a", "coins", "b", now=0.0)

    governed.closed("a", Reason.EVICTED, "", now=1.0, fed_s=0.0)

    assert (governed.allowed("stocks"), governed.allowed("crypto")) == (1, 1)
    assert governed.trial_in_s("crypto", now=1.0) is None


def test_trials_go_further_and_further_apart() -> None:
    governed = evicted()
    now, pauses = 0.0, []

    for _ in range(8):
        pauses.append(governed.trial_in_s("stocks", now=now) or 0.0)
        now += pauses[-1]
        trying = governed.next(now=now)
        assert trying is not None
        governed.closed(trying, Reason.EVICTED, "", now=now, fed_s=0.0)

    assert pauses == [60.0, 120.0, 240.0, 480.0, 960.0, 1_800.0, 1_800.0, 1_800.0]


def test_evictions_within_ten_seconds_are_one_event() -> None:
    governed = evicted()

    governed.closed("b", Reason.EVICTED, "", now=STANDS_S, fed_s=0.0)

    assert governed.allowed("stocks") == 1
    assert governed.trial_in_s("stocks", now=STANDS_S) == TRIAL_S[0]


def test_a_line_on_trial_carries_nothing_until_it_has_stood_for_ten_seconds() -> None:
    governed = evicted()
    assert governed.next(now=60.0) == "a"
    governed.answered("a")

    assert governed.next(now=68.0) is None
    assert not governed.may_carry("a")
    assert governed.next(now=68.0 + STANDS_S) is None
    assert governed.may_carry("a")
    assert governed.allowed("stocks") == 3
    assert governed.trial_in_s("stocks", now=80.0) is None


def test_a_trial_that_is_still_dialling_does_not_stand_whatever_its_siblings_do() -> None:
    governed = evicted()
    governed.next(now=60.0)

    governed.next(now=75.0)

    assert governed.state("a") is LineState.DIALLING
    assert not governed.may_carry("a")


@pytest.mark.parametrize("reason", [Reason.DIAL_FAILED, Reason.CLOSED, Reason.ABORTED, Reason.NO_PONG])
def test_a_trial_that_fails_otherwise_takes_no_items_and_is_repeated_after_a_minute(reason: str) -> None:
    governed = evicted()
    governed.next(now=60.0)
    governed.answered("a")

    governed.closed("a", reason, "cut", now=65.0, fed_s=0.0)

    assert governed.state("a") is LineState.PARKED
    assert not governed.may_carry("a")
    assert governed.allowed("stocks") == 2
    assert governed.next(now=119.0) is None
    assert governed.next(now=120.0) == "a"


def test_a_trial_whose_worker_dies_takes_no_items() -> None:
    governed = evicted()
    governed.next(now=60.0)

    governed.absent("a")
    governed.present("a")

    assert governed.state("a") is LineState.PARKED
    assert governed.why("a") == (Reason.WORKER_DIED, "its process ended")
    assert governed.next(now=120.0) == "a"


def test_when_the_trial_takes_the_place_of_another_line_it_keeps_it() -> None:
    governed = evicted(("a", "b"))
    governed.next(now=60.0)
    governed.answered("a")

    governed.closed("b", Reason.EVICTED, "", now=60.1, fed_s=60.0)

    assert states(governed) == [LineState.UP, LineState.PARKED]
    assert governed.may_carry("a")
    assert governed.allowed("stocks") == 1
    assert governed.next(now=179.0) is None


def test_nobody_tries_upwards_while_a_line_has_to_come_back() -> None:
    governed = evicted()
    governed.closed("b", Reason.CLOSED, "code 1001", now=59.0, fed_s=59.0)
    assert governed.next(now=60.0) == "b"

    governed.closed("b", Reason.DIAL_FAILED, "refused", now=60.0, fed_s=0.0)

    waits_s = governed.waits_s("b", now=60.0)
    assert waits_s > 0
    assert governed.next(now=60.0) is None
    assert governed.next(now=60.0 + waits_s) == "b"
    governed.answered("b")
    assert governed.next(now=60.0 + waits_s) == "a"


def test_a_line_that_lost_its_connection_during_a_trial_gets_it_back() -> None:
    governed = evicted()
    assert governed.next(now=60.0) == "a"
    governed.answered("a")

    governed.closed("b", Reason.CLOSED, "code 1001", now=61.0, fed_s=61.0)

    assert governed.next(now=61.0) == "b"
    governed.answered("b")
    assert states(governed) == [LineState.UP] * 3


def test_the_place_of_a_line_whose_worker_does_not_come_back_goes_to_a_parked_one() -> None:
    governed = evicted(("a", "b"))
    governed.absent("b")

    assert governed.next(now=20.0) is None
    assert governed.next(now=19.9 + MISSING_S) is None
    assert governed.next(now=20.0 + MISSING_S) == "a"
    governed.answered("a")
    governed.present("b")
    assert states(governed) == [LineState.UP, LineState.PARKED]
    assert governed.next(now=30.0) is None


def test_a_worker_that_is_back_within_a_second_keeps_the_place_of_its_line() -> None:
    governed = evicted(("a", "b"))
    governed.absent("b")
    governed.next(now=20.0)

    governed.present("b")

    assert governed.next(now=21.0) == "b"


# --- another mcm on this machine -------------------------------------------------------------------------------------


def test_a_taken_slot_parks_all_who_wait_with_the_reason_and_asks_every_minute() -> None:
    governed = governor(*ABC)
    detail = "another mcm uses this account (pid 4711)"
    asked, now = [], 0.0

    while now < 600.0:
        if governed.next(now=now) is not None:
            asked.append(now)
            governed.closed("a", Reason.SLOT_TAKEN, detail, now=now, fed_s=0.0)
            assert states(governed) == [LineState.PARKED] * 3
            assert {governed.why(name) for name in ABC} == {(Reason.SLOT_TAKEN, detail)}
            break
        now += 1.0
    while now < 600.0:
        now += 1.0
        if (name := governed.next(now=now)) is not None:
            asked.append(now)
            governed.closed(name, Reason.SLOT_TAKEN, detail, now=now, fed_s=0.0)

    assert asked == [60.0 * minute for minute in range(11)]


def test_a_slot_that_becomes_free_is_used_and_the_others_follow() -> None:
    governed = governor(*ABC)
    governed.next(now=0.0)
    governed.closed("a", Reason.SLOT_TAKEN, "another mcm", now=0.0, fed_s=0.0)

    ups = []
    for now in range(60, 120):
        if (name := governed.next(now=float(now))) is not None:
            governed.answered(name)
            ups.append((now, name))

    assert [name for _, name in ups] == ["b", "c", "a"]
    assert ups[-1][0] < 90


def test_a_taken_slot_does_not_bring_the_trial_after_an_eviction_forward() -> None:
    governed = evicted()
    for now in (60.0, 180.0):
        assert governed.next(now=now) == "a"
        governed.closed("a", Reason.EVICTED, "", now=now, fed_s=0.0)
    governed.closed("b", Reason.CLOSED, "code 1001", now=200.0, fed_s=200.0)

    assert governed.next(now=200.0) == "b"
    governed.closed("b", Reason.SLOT_TAKEN, "another mcm", now=200.0, fed_s=0.0)

    assert governed.trial_in_s("stocks", now=200.0) == 220.0


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_refused_key_stops_its_market_until_a_human_acts() -> None:
    governed = governor("a", "b", "coins:crypto")
    governed.next(now=0.0)
    governed.closed("a", Reason.AUTH_FAILED, "authentication failed", now=0.1, fed_s=0.0)

    assert states(governed) == [LineState.REFUSED, LineState.REFUSED, LineState.WAITING]
    assert governed.next(now=1.0) == "coins"
    governed.answered("coins")
    assert governed.next(now=100_000.0) is None
    assert governed.why("b") == (Reason.AUTH_FAILED, "authentication failed")
    assert not governed.may_carry("b")


def test_a_revived_line_dials_at_once_and_its_success_revives_the_others() -> None:
    governed = governor(*ABC)
    governed.next(now=0.0)
    governed.closed("a", Reason.AUTH_FAILED, "authentication failed", now=0.1, fed_s=0.0)

    governed.revive("b")

    assert governed.next(now=1.0) == "b"
    governed.answered("b")
    assert governed.next(now=1.1) == "c"  # it never had its turn
    governed.answered("c")
    assert governed.next(now=1.2) == "a"


def test_a_refused_key_leaves_a_line_alone_that_is_dialling_or_up() -> None:
    governed = dialled(governor(*ABC), "a", now=0.0)
    governed.next(now=1.0)
    governed.next(now=1.0 + PERMIT_S)

    governed.closed("c", Reason.AUTH_FAILED, "authentication failed", now=12.0, fed_s=0.0)

    assert states(governed) == [LineState.UP, LineState.DIALLING, LineState.REFUSED]


def test_parked_lines_stay_parked_and_try_nothing_while_the_key_is_refused() -> None:
    governed = evicted()
    governed.closed("b", Reason.CLOSED, "code 1001", now=10.0, fed_s=10.0)
    governed.closed("c", Reason.CLOSED, "code 1001", now=10.0, fed_s=10.0)
    trying = governed.next(now=20.0)
    assert trying is not None
    governed.closed(trying, Reason.AUTH_FAILED, "authentication failed", now=20.0, fed_s=0.0)

    assert states(governed) == [LineState.PARKED, LineState.REFUSED, LineState.REFUSED]
    assert governed.next(now=10_000.0) is None
    governed.revive("b")
    assert governed.next(now=10_000.0) == "b"
    governed.answered("b")
    assert governed.next(now=10_000.0) == "c"
    assert governed.state("a") is LineState.PARKED


def test_a_revived_parked_line_tries_at_once_and_takes_no_place_from_the_others() -> None:
    governed = evicted()

    governed.revive("a")

    assert governed.next(now=1.0) == "a"
    governed.answered("a")
    assert states(governed) == [LineState.UP] * 3
    assert governed.allowed("stocks") == 3


def test_reviving_forgets_the_back_off() -> None:
    governed = governor("a")
    for _ in range(8):
        governed.closed("a", Reason.DIAL_FAILED, "refused", now=0.0, fed_s=0.0)

    governed.revive("a")

    assert governed.attempts("a") == 0
    assert governed.next(now=0.0) == "a"


# --- beside a vendor -------------------------------------------------------------------------------------------------


class World:
    """A governor, its workers and a vendor that counts connections; reports of different lines overtake each other.

    Attributes:
        cap: connections that the vendor allows; *evicts_oldest*: or the newest.
        up: those that the vendor counts, oldest first; None stands for a foreign or dead one.
        dials: (time, name).
    """

    STEP_S, QUIET_STEP_S, QUIET_S = 0.25, 3.0, 15.0

    def __init__(self, *names: str, cap: int, evicts_oldest: bool, seed: int = 1) -> None:
        self.governor = governor(*names, max_connections=len(names))
        self.governor.rng = self.random = Random(seed)
        self.cap, self.evicts_oldest = cap, evicts_oldest
        self.up: list[str | None] = []
        self.since: dict[str, float] = {}
        self.dials: list[tuple[float, str]] = []
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._reported: dict[str, float] = {}
        self._busy_until = self.QUIET_S

    def later(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), event))

    def _report(self, name: str, event: Callable[[], None]) -> None:
        """Reports of one worker stay in order."""
        at = max(self.now + self.random.uniform(0.0, 0.3), self._reported.get(name, 0.0))
        self._reported[name] = at
        self.later(at - self.now, event)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += self.STEP_S if self._events or self.now < self._busy_until else self.QUIET_STEP_S
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
                self._busy_until = self.now + self.QUIET_S
            if (name := self.governor.next(now=self.now)) is not None:
                self.dials.append((self.now, name))
                self.later(self.random.uniform(0.05, 1.0), lambda name=name: self._connect(name))  # type: ignore[misc]
            assert self.governor.running("stocks") <= self.governor.allowed("stocks")

    def _connect(self, name: str) -> None:
        self.since[name] = self.now
        self._report(name, lambda: self.governor.answered(name))
        self.join(name)

    def join(self, name: str | None) -> None:
        """One more connection, of ours or not; the vendor lets it in and then closes one too many."""
        self.up.append(name)
        while len(self.up) > self.cap:
            loser = self.up[0 if self.evicts_oldest else -1]
            self.up.remove(loser)
            if loser is not None:
                self._close(loser, Reason.EVICTED)

    def drop(self, name: str, reason: str = Reason.ABORTED) -> None:
        if name in self.up:
            self.up.remove(name)
            self._close(name, reason)

    def die(self, name: str, *, reaped_after_s: float) -> None:
        """A line dies without a sign: we notice at once, the vendor later."""
        if name in self.up:
            self.up[self.up.index(name)] = None
            self._close(name, Reason.NO_PONG)
            self.later(reaped_after_s, lambda: self.up.remove(None) if None in self.up else None)

    def _close(self, name: str, reason: str) -> None:
        fed_s = self.now - self.since[name]
        self._report(name, lambda: self.governor.closed(name, reason, reason, now=self.now, fed_s=fed_s))

    def dials_within(self, start: float, end: float) -> int:
        return sum(start <= when < end for when, _ in self.dials)

    def most_dials_per_minute(self, since: float) -> int:
        times = [when for when, _ in self.dials if when >= since]
        return max((sum(start <= when < start + 60.0 for when in times) for start in times), default=0)


VENDOR = {"evicts_oldest": st.booleans(), "seed": st.integers(0, 2**32)}
few = settings(max_examples=25)


@few
@given(**VENDOR)
def test_three_lines_on_an_account_for_one_end_with_one_line_and_no_ping_pong(evicts_oldest: bool, seed: int) -> None:
    world = World(*ABC, cap=1, evicts_oldest=evicts_oldest, seed=seed)

    world.run(10.0)

    assert world.governor.running("stocks") == world.governor.allowed("stocks") == len(world.up) == 1
    assert Counter(states(world.governor)) == {LineState.UP: 1, LineState.PARKED: 2}
    assert len(world.dials) <= 3
    world.run(3 * 3_600.0)
    assert len(world.up) == world.governor.running("stocks") == 1
    assert world.most_dials_per_minute(since=10.0) <= 2
    assert world.dials_within(3_600.0, math.inf) <= 5  # half an hour apart


@few
@given(cap=st.integers(1, 4), **VENDOR)
def test_the_lines_that_the_account_allows_stand_within_seconds(cap: int, evicts_oldest: bool, seed: int) -> None:
    world = World(*ABC, cap=cap, evicts_oldest=evicts_oldest, seed=seed)

    world.run(15.0)

    assert world.governor.running("stocks") == len(world.up) == min(3, cap)


@few
@given(hours=st.integers(0, 3), **VENDOR)
def test_when_the_vendor_raises_its_cap_all_lines_are_back_within_half_an_hour_and_a_little(
    hours: int, evicts_oldest: bool, seed: int
) -> None:
    world = World(*ABC, cap=1, evicts_oldest=evicts_oldest, seed=seed)
    world.run(10.0 + hours * 3_600.0)

    world.cap = 3
    world.run(TRIAL_S[1] + 3 * (STANDS_S + 5.0))

    assert world.governor.running("stocks") == 3
    assert states(world.governor) == [LineState.UP] * 3
    assert all(map(world.governor.may_carry, ABC))


@few
@given(VENDOR["seed"])
def test_a_second_program_with_the_same_key_is_not_fought(seed: int) -> None:
    world = World("a", cap=1, evicts_oldest=True, seed=seed)
    world.run(100.0)

    for _ in range(2 * 60):  # it insists, every half minute, for an hour
        while None in world.up:
            world.up.remove(None)
        world.join(None)
        world.run(30.0)

    assert world.most_dials_per_minute(since=100.0) <= 2
    assert len(world.dials) <= 8


@few
@given(reaped_after_s=st.floats(0.0, 40.0), victims=st.sampled_from(["a", "b", "c", "ab", "abc"]), **VENDOR)
def test_half_open_lines_that_still_count_cost_no_musical_chairs(
    reaped_after_s: float, victims: str, evicts_oldest: bool, seed: int
) -> None:
    world = World(*ABC, cap=3, evicts_oldest=evicts_oldest, seed=seed)
    world.run(200.0)
    before = len(world.dials)

    for victim in victims:
        world.die(victim, reaped_after_s=reaped_after_s)
    world.run(300.0)

    assert world.governor.running("stocks") == 3
    assert len(world.dials) - before <= 2 * len(victims) + 1


@few
@given(history=st.lists(st.tuples(st.sampled_from(ABC), st.floats(0.0, 90.0)), max_size=15), **VENDOR)
def test_whatever_drops_everything_allowed_is_up_again_and_everything_else_parked(
    history: list[tuple[str, float]], evicts_oldest: bool, seed: int
) -> None:
    world = World(*ABC, cap=2, evicts_oldest=evicts_oldest, seed=seed)

    for name, pause_s in history:
        world.drop(name)
        world.run(pause_s)
    world.run(TRIAL_S[1] + 130.0)

    assert len(world.up) == world.governor.running("stocks") == 2
    assert Counter(states(world.governor)) == {LineState.UP: 2, LineState.PARKED: 1}


# --- in any history --------------------------------------------------------------------------------------------------

LINES = {"a": "stocks", "b": "stocks", "c": "stocks", "coins": "crypto", "more": "crypto"}
LINE = st.sampled_from(list(LINES))
BUSY = {LineState.DIALLING, LineState.UP}


class AnyHistory(RuleBasedStateMachine):
    """Whatever workers and vendor do, in whatever order."""

    @initialize(seed=st.integers(0, 2**32), most=st.integers(1, 3))
    def start(self, seed: int, most: int) -> None:
        self.governor = Governor(LINES, most, Random(seed))
        self.now = 0.0
        self.working: set[str] = set()
        self.permit: tuple[str, float] | None = None
        self.lines = dict(LINES)

    def turn(self) -> None:
        name = self.governor.next(now=self.now)
        if name is None:
            return
        if self.permit is not None:
            assert self.now - self.permit[1] >= PERMIT_S, "there are two permits"
        assert name in self.working
        self.permit = name, self.now

    def release(self, name: str) -> None:
        if self.permit is not None and self.permit[0] == name:
            self.permit = None

    def those(self, *states: LineState) -> list[str]:
        return [name for name in self.lines if self.governor.state(name) in states]

    @rule(seconds=st.sampled_from([0.05, 0.25, 1.0, 3.0, 10.0, 61.0, 700.0]), times=st.integers(1, 20))
    def wait(self, seconds: float, times: int) -> None:
        for _ in range(times):
            self.now += seconds
            self.turn()

    @rule(name=LINE)
    def start_worker(self, name: str) -> None:
        if name in self.lines and name not in self.working:
            self.working.add(name)
            self.governor.present(name)
            self.turn()

    @rule(name=LINE)
    def kill_worker(self, name: str) -> None:
        if name in self.working:
            self.working.discard(name)
            self.release(name)
            self.governor.absent(name)

    @precondition(lambda self: self.those(LineState.DIALLING))
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.those(LineState.DIALLING)))
        self.release(name)
        self.governor.answered(name)
        self.turn()

    @precondition(lambda self: self.those(*BUSY))
    @rule(
        data=st.data(),
        reason=st.sampled_from(
            [Reason.ASKED, Reason.AUTH_FAILED, Reason.DIAL_FAILED, Reason.CLOSED, Reason.NO_PONG, Reason.SLOT_TAKEN]
            + [Reason.EVICTED] * 3
        ),
        fed_s=st.sampled_from([0.0, 1.0, 60.0]),
    )
    def close(self, data: st.DataObject, reason: str, fed_s: float) -> None:
        name = data.draw(st.sampled_from(self.those(*BUSY)))
        self.release(name)
        self.governor.closed(name, reason, "as the history has it", now=self.now, fed_s=fed_s)
        self.turn()

    @rule(name=LINE)
    def revive(self, name: str) -> None:
        if name in self.lines:
            self.governor.revive(name)
            self.turn()

    @rule(name=LINE)
    def pause(self, name: str) -> None:
        if name in self.lines:
            self.release(name)
            self.governor.pause(name)
            self.turn()

    @rule(name=LINE)
    def resume(self, name: str) -> None:
        if name in self.lines:
            self.governor.resume(name)
            self.turn()

    @rule(name=LINE)
    def remove(self, name: str) -> None:
        if name in self.lines and len(self.lines) > 1:
            self.release(name)
            self.working.discard(name)
            self.governor.remove(name)
            del self.lines[name]
            self.turn()

    @rule(name=LINE)
    def add(self, name: str) -> None:
        if name not in self.lines:
            self.governor.add(name, LINES[name])
            self.lines[name] = LINES[name]
            self.turn()

    @invariant()
    def no_market_has_more_lines_than_allowed_nor_a_line_that_waits_without_a_place(self) -> None:
        for market in set(self.lines.values()):
            lines = [self.governor.state(name) for name in self.lines if LINES[name] == market]
            busy = sum(state in BUSY for state in lines)
            waiting = sum(state in {LineState.WAITING, LineState.ABSENT} for state in lines)
            assert busy + waiting <= self.governor.allowed(market) <= min(len(lines), self.governor.max_connections)

    @invariant()
    def who_has_no_place_carries_nothing_and_says_why(self) -> None:
        for name in self.those(LineState.PARKED, LineState.REFUSED):
            assert not self.governor.may_carry(name)
            assert self.governor.why(name)[1]
        assert not any(map(self.governor.may_carry, self.those(LineState.PAUSED)))

    def teardown(self) -> None:
        """Once all workers are there and the vendor is kind, every line that the account holds comes up."""
        if not hasattr(self, "governor"):
            return
        for name in LINES:
            self.add(name)
            self.resume(name)
            self.start_worker(name)
            if self.governor.state(name) is LineState.REFUSED:
                self.governor.revive(name)
        deadline = self.now + TRIAL_S[1] + 60.0 + 5 * (PERMIT_S + STANDS_S)
        while self.now < deadline:
            for name in self.those(LineState.DIALLING):
                self.release(name)
                self.governor.answered(name)
            self.now += 5.0
            self.turn()
        for market, number in Counter(LINES.values()).items():
            assert self.governor.running(market) == min(number, self.governor.max_connections)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40)
