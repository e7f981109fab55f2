"""Is a child process alive?  Judged by the heartbeats of its main loop alone, on the monotonic clock.

Before *ready* only the start-up grace counts: importing takes ten times as long on a loaded machine.  When the judge
itself slept (suspended laptop, stopped process), everybody gets a fresh limit instead of a death sentence.
"""

from dataclasses import dataclass

__all__ = ["GRACE_S", "LIMIT_S", "Liveness"]

GRACE_S = 20.0
LIMIT_S = 5.0
_JUDGE_SLEPT_S = 2.0


@dataclass
class Liveness:
    """The clock of one child, from its start at *heard*; ``judge`` has to be called at least once a second."""

    heard: float
    ready: bool = False
    judged: float | None = None

    def beat(self, now: float) -> None:
        """The child's main loop has turned."""
        self.heard = max(self.heard, now)

    def judge(self, now: float) -> float | None:
        """For how many seconds nothing was heard, when that is longer than allowed; None while it is in time."""
        if self.judged is not None and now - self.judged > _JUDGE_SLEPT_S:
            self.heard = now
        self.judged = now
        silent = now - self.heard
        return silent if silent > (LIMIT_S if self.ready else GRACE_S) else None
