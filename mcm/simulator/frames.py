"""The vendor's words as they stand on the wire, and the WebSocket frames around them (RFC 6455).

The simulator writes frames to the transport itself: aiohttp's writer waits for a full buffer to drain, and one reader
that does not read would hold up everybody else.  Frames from a server are not masked, so there is little to it.
"""

import json
import struct
from collections.abc import Iterable, Iterator

__all__ = [
    "AUTH_FAILED", "AUTH_REQUIRED", "AUTH_SUCCESS", "AUTH_TIMEOUT", "CONNECTED", "FORCE_DISCONNECT", "LIMIT_REACHED",
    "MAX_CONNECTIONS", "NOT_AUTHORIZED", "NOT_IN_PLAN", "SLOW_CONSUMER", "array", "chunks", "close_frame", "pong_frame",
    "subscribed", "text_frame", "unsubscribed",
]  # fmt: skip

_FIN_TEXT, _FIN_CLOSE, _FIN_PONG = 0x81, 0x88, 0x8A


def _status(status: str, message: str) -> str:
    return f'{{"ev":"status","status":"{status}","message":"{message}"}}'


# Texts: massive-protocol 3.3 and 3.4.  Where no capture is known, the text is ours.
CONNECTED = _status("connected", "Connected Successfully")
AUTH_SUCCESS = _status("auth_success", "authenticated")
AUTH_FAILED = _status("auth_failed", "authentication failed")
NOT_IN_PLAN = _status(
    "auth_failed",
    "Your plan doesn't include websocket access. Visit https://massive.com/pricing to upgrade.",
)
AUTH_TIMEOUT = _status("auth_timeout", "No authentication request received.")
AUTH_REQUIRED = _status("auth_required", "authentication required")
NOT_AUTHORIZED = _status("error", "not authorized")
LIMIT_REACHED = _status("error", "Subscription limit reached for feed. Please remove some subscriptions and try again.")
MAX_CONNECTIONS = _status(
    "max_connections",
    "Maximum number of websocket connections exceeded. You have reached the connection limit for your account. "
    "Please contact support at https://polygon.io/contact to increase your limit.",
)
SLOW_CONSUMER = _status("slow_consumer", "slow consumer")
FORCE_DISCONNECT = _status("force_disconnect", "disconnected by the server")


def subscribed(item: str) -> str:
    return _status("success", f"subscribed to: {_escape(item)}")


def unsubscribed(item: str) -> str:
    return _status("success", f"unsubscribed to: {_escape(item)}")  # the vendor's wording


def _escape(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def array(events: Iterable[str]) -> str:
    """The payload of one frame: compact, always an array."""
    return f"[{','.join(events)}]"


def chunks(events: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(events), size):
        yield events[start : start + size]


def text_frame(payload: str) -> bytes:
    return _frame(_FIN_TEXT, payload.encode())


def pong_frame(payload: bytes) -> bytes:
    return _frame(_FIN_PONG, payload)


def close_frame(code: int) -> bytes:
    return _frame(_FIN_CLOSE, struct.pack("!H", code))


def _frame(head: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", head, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", head, 126, size) + payload
    return struct.pack("!BBQ", head, 127, size) + payload
