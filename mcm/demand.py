"""What a Subscriber asks for beyond the configuration: a lease, renewed by a thread for as long as it lives."""

import contextlib
import itertools
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from mcm.client import Control
from mcm.core.errors import McmError, UsageError

__all__ = ["Demand"]

RENEW_S = 10.0
_number = itertools.count(1)


class Demand:
    """A lease of *topics*; raises UsageError where nobody can carry one of them, NotRunning where no mcm runs."""

    def __init__(self, run_dir: Path, topics: Sequence[str]) -> None:
        self._run_dir, self._topics = run_dir, list(topics)
        self._holder = f"subscriber {os.getpid()}-{next(_number)}"
        self._ending = threading.Event()
        unplaced = self._lease()
        if unplaced:
            self._release()
            topic, reason = next(iter(unplaced.items()))
            raise UsageError(f"nobody can carry {topic}: {reason}", "`mcm status` shows the connections")
        self._thread = threading.Thread(target=self._renew, name="mcm:demand", daemon=True)
        self._thread.start()

    def _lease(self) -> dict[str, str]:
        with Control(self._run_dir) as control:
            return control.lease(self._holder, self._topics)

    def _release(self) -> None:
        with contextlib.suppress(McmError), Control(self._run_dir) as control:
            control.release(self._holder)

    def _renew(self) -> None:
        while not self._ending.wait(RENEW_S):
            with contextlib.suppress(McmError):  # it will be back, or the Subscriber itself says that it is gone
                self._lease()

    def close(self) -> None:
        """Want nothing any more."""
        self._ending.set()
        self._thread.join()
        self._release()
