"""The vendor's WebSocket protocol: where to dial, what to say, and what its frames mean.

The only place that knows the vendor's words, apart from the shapes in core.events.  Nothing here raises because of
something that an upstream sent: what cannot be read is counted.  Sections are those of massive-protocol.md.
"""

import math
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct, ValidationError, json, structs

from mcm.core import session
from mcm.core.dialling import Reason
from mcm.core.events import EVENTS, Tick, list_of, one_of
from mcm.core.legible import legible

__all__ = [
    "FEEDS",
    "Frame",
    "FrameDecoder",
    "Status",
    "auth_message",
    "line_url",
    "meaning",
    "slot_name",
    "subscribe_message",
    "unknown_keys",
    "unsubscribe_message",
]

# --- where to dial (section 1) ---------------------------------------------------------------------------------------

FEEDS = {
    "real-time": "socket.massive.com",
    "delayed": "delayed.massive.com",
    "business": "business.massive.com",
}
_VENDOR = "massive.com"
_VENDOR_DOMAINS = (_VENDOR, "polygon.io")  # the old name; its hosts serve, and count, the same accounts
_DEFAULT_PORTS = {"ws": 80, "wss": 443}


def line_url(feed: str, market: str) -> str:
    """The address of *market*: on one of FEEDS, or below a base URL such as ``ws://127.0.0.1:9000``.

    ValueError for a feed that is neither.
    """
    if feed in FEEDS:
        return f"wss://{FEEDS[feed]}/{market}"
    _split(feed)
    return f"{feed.rstrip('/')}/{market}"


def slot_name(feed: str) -> str:
    """Who counts the connections of *feed*: the vendor, over all its hosts (section 4.4), or a custom ``host:port``."""
    if feed in FEEDS:
        return _VENDOR
    host, port = _split(feed)
    if any(host == domain or host.endswith("." + domain) for domain in _VENDOR_DOMAINS):
        return _VENDOR
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split(url: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no feed: one of {', '.join(FEEDS)}, or a base URL like ws://127.0.0.1:9000")
    return parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]


# --- what to say (sections 2 and 4.1) --------------------------------------------------------------------------------


def auth_message(key: str) -> str:
    """Offer the API key; the answer is a status."""
    return _message("auth", key)


def subscribe_message(items: Iterable[str]) -> str:
    """Ask for *items* (``T.AAPL``); at most 1 MB of text, which the caller has to see to."""
    return _message("subscribe", ",".join(items))


def unsubscribe_message(items: Iterable[str]) -> str:
    """Give *items* up."""
    return _message("unsubscribe", ",".join(items))


def _message(action: str, params: str) -> str:
    return json.encode({"action": action, "params": params}).decode()


# --- what the upstream says about the conversation (section 3.3) -----------------------------------------------------


class Status(Struct, gc=False, tag_field="ev", tag="status"):
    """A word about the connection itself.  *message* is prose that changes, but for the acknowledgements."""

    status: str
    message: str | None = None


def meaning(status: Status) -> session.Said | None:
    """What *status* means for the conversation; None for what is new to us, which nothing follows from."""
    text = (status.message or "").strip()
    match status.status:
        case "connected":
            return session.Greeting()
        case "auth_success":
            return session.Accepted()
        case "success":
            return _success(text)
        case "error":
            return session.Refused(text or "error")
        case "auth_failed":
            return session.Ending(Reason.AUTH_FAILED, text or "auth_failed")
        case "max_connections":
            return session.Ending(Reason.EVICTED, text or "max_connections")
        case "disconnected" if "max connections" in text.lower():  # how it was said in 2019
            return session.Ending(Reason.EVICTED, text)
        # auth_required: we only subscribe once accepted, so the upstream has lost its mind; only a new line helps.
        case "auth_timeout" | "auth_required" | "slow_consumer" | "force_disconnect" | "disconnected" as word:
            return session.Ending(Reason.CLOSED, f"{word}: {text}" if text else word)
        case _:
            return None


def _success(text: str) -> session.Said | None:
    if text == "authenticated":  # how it was said in 2019
        return session.Accepted()
    verb, _, item = text.partition(" to: ")
    if item and verb in {"subscribed", "unsubscribed"}:
        return session.Acknowledged(item, subscribed=verb == "subscribed")
    return None


# --- frames (sections 2 and 5) ---------------------------------------------------------------------------------------

_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_REASONS = 64  # told apart; beyond them only by kind, because a reason holds words of the upstream
_WORD_CHARACTERS = 16
_PROBLEM_CHARACTERS = 100
_SAMPLE_CHARACTERS = 300
_UNKNOWN_KEYS = 20
_POSITION = re.compile(r" \(byte \d+\)|(?<=\[)\d+(?=\])")


class Frame(Struct, gc=False):
    """What one WebSocket message held, each list in the order in which it was sent."""

    ticks: list[Tick]
    statuses: list[Status] = []


class _Kind(Struct, gc=False):
    ev: str


_split_array = json.Decoder(list[Raw]).decode
_decode_kind = json.Decoder(_Kind).decode
_decode_untyped = json.Decoder(list[dict[str, Any]]).decode


class FrameDecoder:
    """Reads the frames of one line of *market*.

    The whole frame is decoded strictly, at once.  Only if that fails, every event alone and leniently (``12.0`` and
    ``"12"`` for an integer), so that a broken one costs none of its neighbours.

    Attributes:
        rejects: reason → how many events, or whole frames, could not be read.  The number of reasons is bounded.
    """

    def __init__(self, market: str) -> None:
        self._kinds = _kinds_of(market)
        self._decode = json.Decoder(list_of(self._kinds.values())).decode
        self._decode_leniently = json.Decoder(one_of(self._kinds.values()), strict=False).decode
        self._samples: dict[str, bytes] = {}
        self.rejects: Counter[str] = Counter()

    def decode(self, frame: bytes) -> Frame:
        """Everything in *frame* that can be read.  Never raises."""
        try:
            events = self._decode(frame)
        except _BROKEN:
            events = self._salvage(frame)
        # Cheaper than to look for the word "status" in the text, and it cannot be fooled.
        if Status not in map(type, events):
            return Frame(events)
        statuses = [event for event in events if type(event) is Status]
        return Frame([event for event in events if type(event) is not Status], statuses)

    def _salvage(self, frame: bytes) -> list[Any]:
        try:
            parts = _split_array(frame)
        except ValidationError:
            self._reject("not an array", "not an array", frame)
            return []
        except _BROKEN:
            self._reject("not JSON", "not JSON", frame)
            return []
        events = []
        for part in parts:
            try:
                event = self._decode_leniently(part)
            except _BROKEN as problem:
                self._reject(*self._reasons(part, _problem(problem)), part)
                continue
            if _is_finite(structs.astuple(event)):
                events.append(event)
            else:  # read leniently, "nan" is a number
                self._reject(*self._reasons(part, "not a finite number"), part)
        return events

    def _reasons(self, event: Raw, problem: str) -> tuple[str, str]:
        """Why *event* cannot be read, in detail and in one of few ways."""
        try:
            kind = _decode_kind(event).ev
        except _BROKEN:
            return "no kind", "no kind"
        if kind not in self._kinds:
            return f"unknown kind {legible(kind[:_WORD_CHARACTERS])}", "unknown kind"
        return f"broken {kind}: {problem}", f"broken {kind}"

    def _reject(self, reason: str, coarse_reason: str, text: bytes | Raw) -> None:
        if reason not in self.rejects and len(self.rejects) >= _REASONS:
            reason = coarse_reason
        self.rejects[reason] += 1
        # A copy, cut short (a character has up to four bytes): a Raw would keep its whole frame alive.
        self._samples[reason] = bytes(memoryview(text)[: 4 * _SAMPLE_CHARACTERS])

    def take_samples(self) -> dict[str, str]:
        """The newest reject of each reason since the last call, as up to 300 printable characters."""
        samples, self._samples = self._samples, {}
        return {reason: legible(text.decode(errors="replace")[:_SAMPLE_CHARACTERS]) for reason, text in samples.items()}


def unknown_keys(market: str, frame: bytes) -> set[str]:
    """Keys in *frame* that the records do not know and therefore drop, as ``"T.foo"``; at most 20 of them.

    Costs several times as much as to decode the frame: meant for one frame now and then, so that a new field of the
    vendor is noticed.  Empty for a frame that cannot be read; FrameDecoder counts those.
    """
    try:
        events = _decode_untyped(frame)
    except _BROKEN:
        return set()
    known = {tag: {"ev", *kind.__struct_encode_fields__} for tag, kind in _kinds_of(market).items()}
    found = {
        f"{kind}.{legible(key[:_WORD_CHARACTERS])}"
        for event in events
        if isinstance(kind := event.get("ev"), str) and kind in known
        for key in event.keys() - known[kind]
    }
    return set(sorted(found)[:_UNKNOWN_KEYS])


def _kinds_of(market: str) -> dict[str, type[Struct]]:
    """What may stand in a frame, by its ``ev``."""
    return {"status": Status} | {kind.event_type: kind for kind in EVENTS[market]}


def _problem(problem: Exception) -> str:
    """The decoder's words for *problem*, without the positions that make each one different."""
    if isinstance(problem, msgspec.DecodeError):
        return legible(_POSITION.sub("", str(problem))[:_PROBLEM_CHARACTERS])
    return "nested too deeply" if isinstance(problem, RecursionError) else "invalid UTF-8"


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, list | tuple) or all(map(_is_finite, value))
