"""When a dead child process starts again, as a function of how its earlier lives went.

A sliding window, not a counter, decides about giving up; two windows, because one crash every 11 s passes "5 in 60 s"
for ever.  The delay grows with the crashes since the last healthy life, and the first restart after one is immediate.
A parked child gets one trial, not a new window: it is parked again, for longer, until it has lived a healthy life.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from mcm.core.backoff import full_jitter

__all__ = ["ROUTER", "SERVICE", "WORKER", "GiveUp", "Life", "Park", "Policy", "StartAt", "decide"]

HEALTHY_S = 60.0


@dataclass(frozen=True)
class Policy:
    """What a kind of child may cost before it is left alone.

    Attributes:
        windows: (crashes, seconds) pairs; reaching any of them ends the restarts.
        max_delay_s: the longest wait between two starts.
        essential: nothing works without this child, so that giving up ends the tree instead of parking.
        trial_s: first and longest pause of a parked child before one more trial.
    """

    windows: tuple[tuple[int, float], ...]
    max_delay_s: float
    essential: bool = False
    trial_s: tuple[float, float] = (300.0, 1_800.0)


WORKER = Policy(windows=((5, 60.0), (20, 900.0)), max_delay_s=30.0)
ROUTER = Policy(windows=((10, 300.0),), max_delay_s=5.0, essential=True)
SERVICE = Policy(windows=((5, 60.0), (20, 900.0)), max_delay_s=30.0)


@dataclass(frozen=True)
class StartAt:
    """Start again at this monotonic time."""

    when: float


@dataclass(frozen=True)
class Park:
    """Leave it alone until this monotonic time, then try once; *crashes* came within *window_s*."""

    until: float
    crashes: int
    window_s: float


@dataclass(frozen=True)
class GiveUp:
    """An essential child cannot live: end the tree, so that whoever started it sees it."""

    crashes: int
    window_s: float


@dataclass(frozen=True)
class Life:
    """One life of a child, over: when it ended, and for how long it was ready and did its work (monotonic seconds)."""

    ended: float
    healthy_s: float


def decide(policy: Policy, lives: Sequence[Life], *, parkings: int, rng: Random) -> StartAt | Park | GiveUp:
    """What follows the newest of *lives* (oldest first, at least one).

    *parkings* counts all parkings so far; those before its last healthy life are forgiven.
    """
    now, full = lives[-1].ended, _full_window(policy, lives)
    if policy.essential:
        if full is not None:
            return GiveUp(*full)
    else:
        # Without a parking there was no trial, and no need to read the history.
        in_a_row = _parkings_in_a_row(policy, lives) if parkings else int(full is not None)
        if in_a_row:
            first, longest = policy.trial_s
            pause_s = min(longest, first * 2.0 ** min(in_a_row - 1, 32))
            return Park(now + pause_s, *(full or _crashes(policy.windows[-1][1], lives)))
    crashes_in_a_row = 0
    for life in reversed(lives):
        if life.healthy_s >= HEALTHY_S:
            break
        crashes_in_a_row += 1
    if crashes_in_a_row == 0:
        return StartAt(now)
    return StartAt(now + full_jitter(crashes_in_a_row - 1, base_s=0.25, cap_s=policy.max_delay_s, rng=rng))


def _crashes(window_s: float, lives: Sequence[Life]) -> tuple[int, float]:
    return sum(life.ended > lives[-1].ended - window_s for life in lives), window_s


def _full_window(policy: Policy, lives: Sequence[Life]) -> tuple[int, float] | None:
    """(crashes, seconds) of the first window that the newest life fills."""
    counted = ((limit, *_crashes(window_s, lives)) for limit, window_s in policy.windows)
    return next(((crashes, window_s) for limit, crashes, window_s in counted if crashes >= limit), None)


def _parkings_in_a_row(policy: Policy, lives: Sequence[Life]) -> int:
    """How often it was parked since its last healthy life, with what follows the newest life."""
    in_a_row = 0
    for count, life in enumerate(lives, start=1):
        if life.healthy_s >= HEALTHY_S:
            in_a_row = 0
        if in_a_row or _full_window(policy, lives[:count]) is not None:
            in_a_row += 1
    return in_a_row
