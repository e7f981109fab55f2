"""How long a thread was ready to run and had no processor, as Linux counts it."""

import os
import threading
from typing import Self

__all__ = ["Waits"]


class Waits:
    """The count of one thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def of_this_thread(cls) -> Self | None:
        """The count of the calling thread; None where the system keeps none."""
        try:
            return cls(os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return None

    def read_ns(self) -> int:
        """Nanoseconds since the thread began."""
        _, waited, _ = os.pread(self._descriptor, 100, 0).split()
        return int(waited)
