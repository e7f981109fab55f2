"""When a dead child process starts again, as a function of how its earlier lives went.

A sliding window, not a counter, decides about giving up; two windows, because one crash every 11 s passes "5 in 60 s"
for ever.  The delay grows with the crashes since the last healthy life, and the first restart after one is immediate.
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
    """What follows the newest of *lives* (oldest first, at least one); *parkings* counts the parkings so far."""
    now = lives[-1].ended
    for limit, window_s in policy.windows:
        crashes = sum(life.ended > now - window_s for life in lives)
        if crashes >= limit:
            if policy.essential:
                return GiveUp(crashes, window_s)
            first, longest = policy.trial_s
            return Park(now + min(longest, first * 2.0**parkings), crashes, window_s)
    crashes_in_a_row = 0
    for life in reversed(lives):
        if life.healthy_s >= HEALTHY_S:
            break
        crashes_in_a_row += 1
    if crashes_in_a_row == 0:
        return StartAt(now)
    return StartAt(now + full_jitter(crashes_in_a_row - 1, base_s=0.25, cap_s=policy.max_delay_s, rng=rng))
