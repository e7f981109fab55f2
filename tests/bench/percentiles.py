"""What a list of durations says.  Pure."""

from collections.abc import Iterable, Sequence
from statistics import median

__all__ = ["PERCENTILES", "percentile", "percentiles", "spread"]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that *percent* of the *ordered* ones do not exceed (nearest rank): one that was measured."""
    if not ordered:
        raise ValueError("no values")
    rank = -(-len(ordered) * round(percent * 1_000) // 100_000)  # in whole numbers: 99.9 % of 1,000 are 999
    return ordered[max(rank, 1) - 1]


def percentiles(values: Iterable[float]) -> dict[float, float]:
    """Each of PERCENTILES."""
    ordered = sorted(values)
    return {percent: percentile(ordered, percent) for percent in PERCENTILES}


def spread(values: Sequence[float]) -> float:
    """How far the extremes are apart, as a share of the median: how much a figure may be trusted."""
    return (max(values) - min(values)) / median(values) if median(values) else 0.0
