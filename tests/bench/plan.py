"""How much a run of the benchmark does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Plan"]

Found = TypeVar("Found")


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        rounds: runs per figure; those of peers take turns.
        seconds: of each run at a pace.
        say: is told what goes on.
    """

    rounds: int = 3
    seconds: float = 5.0
    say: Callable[[str], object] = lambda _: None

    def repeat(self, what: str, run: Callable[[], Found]) -> list[Found]:
        """What so many runs give."""
        found = []
        for number in range(1, self.rounds + 1):
            self.say(f"{what}, {number} of {self.rounds}")
            found.append(run())
        return found
