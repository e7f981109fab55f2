"""How long to wait before trying again: exponential with full jitter, so that many waiters never move in step."""

from random import Random

__all__ = ["full_jitter"]


def full_jitter(attempt: int, *, base_s: float, cap_s: float, rng: Random) -> float:
    """Seconds to wait before *attempt* (0 = the first retry), evenly spread over [0, min(cap, base · 2^attempt)]."""
    return rng.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt, 32)))
