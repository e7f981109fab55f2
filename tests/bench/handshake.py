"""The server's half of the vendor's conversation, for a feed that does nothing else: upgrade, key, subscriptions.

Pure: fed with bytes, it says what to answer.  It accepts every key and item; to misbehave is the simulator's part.
"""

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Iterator

from mcm.simulator.frames import AUTH_SUCCESS, CONNECTED, array, close_frame, pong_frame, subscribed, text_frame

__all__ = ["Conversation"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_KEY = re.compile(rb"^sec-websocket-key:\s*(\S+)\s*$", re.IGNORECASE | re.MULTILINE)
_TEXT, _CLOSE, _PING = 0x1, 0x8, 0x9
_ACKNOWLEDGED_TOGETHER = 100


class Conversation:
    """One connection.

    Attributes:
        items: what was subscribed.
        is_over: the client has closed.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_upgraded = False
        self.items: set[str] = set()
        self.is_over = False

    def receive(self, data: bytes) -> bytes:
        """Take what has arrived; what to answer."""
        self._buffer += data
        answer = b"" if self._is_upgraded else self._upgrade()
        for kind, payload in self._frames() if self._is_upgraded else ():
            answer += self._answer(kind, payload)
        return answer

    def _upgrade(self) -> bytes:
        head, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not end:
            return b""
        self._buffer[:] = rest
        key = _KEY.search(head)
        if key is None:
            self.is_over = True
            return b"HTTP/1.1 400 Bad Request\r\n\r\n"
        self._is_upgraded = True
        accept = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest())
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + text_frame(array([CONNECTED]))
        )

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """(opcode, payload) of every complete frame; clients mask theirs, and send no fragments."""
        buffer = self._buffer
        while len(buffer) >= 2:
            size, at = buffer[1] & 0x7F, 2
            if size >= 126:
                at = 4 if size == 126 else 10
                if len(buffer) < at:
                    return
                size = int.from_bytes(buffer[2:at], "big")
            if len(buffer) < at + 4 + size:
                return
            mask, payload = bytes(buffer[at : at + 4]), bytes(buffer[at + 4 : at + 4 + size])
            kind = buffer[0] & 0x0F
            del buffer[: at + 4 + size]
            yield kind, _unmasked(payload, mask)

    def _answer(self, kind: int, payload: bytes) -> bytes:
        if kind == _PING:
            return pong_frame(payload)
        if kind == _CLOSE:
            self.is_over = True
            return close_frame(1000)
        if kind != _TEXT:
            return b""
        request = json.loads(payload)
        match request["action"]:
            case "auth":
                return text_frame(array([AUTH_SUCCESS]))
            case "subscribe":
                items = request["params"].split(",")
                self.items.update(items)
                answers = map(subscribed, items)
                return b"".join(
                    text_frame(array(part))
                    for part in iter(lambda: list(itertools.islice(answers, _ACKNOWLEDGED_TOGETHER)), [])
                )
            case _:
                return b""


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    repeated = mask * (len(payload) // 4 + 1)
    whole = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[: len(payload)], "big")
    return whole.to_bytes(len(payload), "big")
