"""How much a run of the benchmark does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.bench.programs import TickLost

__all__ = ["Plan"]

TRIES = 3
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
            found.append(self._whole(run))
        return found

    def _whole(self, run: Callable[[], Found]) -> Found:
        """What a run without a loss gives; a plain SUB socket may lose on a busy machine, and then it runs again."""
        for _ in range(TRIES - 1):
            try:
                return run()
            except TickLost as error:
                self.say(f"again, because of {error}")
        return run()
