"""What goes out to the clients of the gateway: events as JSON, WebSocket frames, and how far a client is behind.

Events are written once, as *bodies* (JSON without the brackets of an array), and shared by all clients.
"""

import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

__all__ = ["FRAME_BYTES", "Backlog", "bodies", "close_frame", "text_frames"]

FRAME_BYTES = 250_000  # widely used clients refuse frames above 1,000,000 bytes
_TEXT, _CLOSE = 0x81, 0x88
_encode = msgspec.json.Encoder().encode


def bodies(events: Sequence[object]) -> list[bytes]:
    """*events* as JSON parted by commas, in as few parts as fit into a frame each."""
    body = _encode(events)[1:-1]
    if len(body) <= FRAME_BYTES or len(events) < 2:
        return [body]
    half = len(events) // 2
    return bodies(events[:half]) + bodies(events[half:])


def text_frames(parts: Iterable[bytes]) -> bytes:
    """*parts* as arrays in text frames of at most about FRAME_BYTES, one behind the other."""
    return b"".join(_frame(_TEXT, b"[" + payload + b"]") for payload in _joined(parts))


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    together: list[bytes] = []
    size = 0
    for part in parts:
        if together and size + len(part) > FRAME_BYTES:
            yield b",".join(together)
            together, size = [], 0
        together.append(part)
        size += len(part) + 1
    if together:
        yield b",".join(together)


def close_frame(code: int) -> bytes:
    """A close frame of RFC 6455, section 5.5.1."""
    return _frame(_CLOSE, struct.pack("!H", code))


def _frame(head: int, payload: bytes) -> bytes:
    """One unmasked frame (RFC 6455, section 5.2), as servers send it."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", head, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", head, 126, size) + payload
    return struct.pack("!BBQ", head, 127, size) + payload


class Backlog:
    """How old the oldest byte is that a client has not been sent yet.  Times are monotonic seconds."""

    def __init__(self) -> None:
        self._written = 0
        self._marks: deque[tuple[int, float]] = deque()  # (bytes written by then, when)

    def wrote(self, size: int, now: float) -> None:
        """So many more bytes were handed to the transport."""
        self._written += size
        self._marks.append((self._written, now))

    def age_s(self, unsent: int, now: float) -> float:
        """How long the oldest of the last *unsent* bytes have been waiting; 0 where there are none."""
        sent = self._written - unsent
        while self._marks and self._marks[0][0] <= sent:
            self._marks.popleft()
        return now - self._marks[0][1] if self._marks and unsent else 0.0
