"""A figure: what was measured several times, what it should be, and how a table shows it.  Pure."""

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from tests.bench.percentiles import spread

__all__ = ["Figure", "Target", "ratio"]


class Target(msgspec.Struct, frozen=True):
    """A bound: *most* or *least*, in the figure's unit."""

    most: float | None = None
    least: float | None = None

    def is_met_by(self, value: float) -> bool:
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    def __str__(self) -> str:
        return f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}"


class Figure(msgspec.Struct, frozen=True):
    """Attributes:
    section: of the benchmark; name: what it is of, in words.
    unit: of the values; empty for a ratio.
    values: one per run.
    target: None where none is set.
    detail: parts of it in the same unit, such as processor time by role (medians).
    """

    section: str
    name: str
    unit: str
    values: tuple[float, ...]
    target: Target | None = None
    detail: Mapping[str, float] = {}

    @property
    def value(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def is_met(self) -> bool:
        return self.target is None or self.target.is_met_by(self.value)

    def cells(self) -> tuple[str, str, str, str]:
        """As a row: name, value, spread of the runs, target."""
        verdict = "" if self.target is None else f"{self.target} {'✓' if self.is_met else '✗'}"
        runs = f"± {spread(self.values) / 2:.0%}" if len(self.values) > 1 else ""
        return self.name, f"{_shown(self.value)} {self.unit}".strip(), runs, verdict


def ratio(
    section: str, name: str, ours: Sequence[float], theirs: Sequence[float], target: Target | None = None
) -> Figure:
    """Ours by theirs, run by run: what both had at about the same time, so that a busy machine weighs on both."""
    return Figure(section, name, "", tuple(one / other for one, other in zip(ours, theirs, strict=True)), target)


def _shown(value: float) -> str:
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.3g}"
