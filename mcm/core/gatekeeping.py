"""One client's conversation with the gateway: the vendor's side of the protocol, as values in and values out.

Beside core.massive the only module that knows the vendor's words, here those that the vendor says.  Section numbers
are those of massive-protocol.md; where no capture is known, the text is ours.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import json

from mcm.core.control import GatewayToken
from mcm.core.errors import BadTopic
from mcm.core.massive import Status
from mcm.core.topics import allows, parse_item

__all__ = [
    "AUTH_TIMEOUT",
    "CONNECTED",
    "PATHS",
    "SLOW_CONSUMER",
    "Conversation",
    "End",
    "Gate",
    "Hear",
    "Leave",
    "Say",
    "Step",
]

# Path → market (section 1.2); the venues of futures cannot be told apart by their symbols, and share one stream.
PATHS = {f"/{market}": market for market in ("stocks", "options", "indices", "forex", "crypto", "futures")} | {
    f"/futures/{venue}": "futures" for venue in ("cme", "cbot", "nymex", "comex")
}

ITEM_CHARACTERS = 100  # longer ones are no symbol; an acknowledgement has to fit into a frame
HELD_LIMIT = 100_000  # items of one client

# --- what the gateway says (sections 3.1, 3.3, 4.3) -----------------------------------------------------------------


def _status(status: str, message: str) -> bytes:
    return json.encode(Status(status, message))


CONNECTED = _status("connected", "Connected Successfully")
AUTH_SUCCESS = _status("auth_success", "authenticated")
AUTH_FAILED = _status("auth_failed", "authentication failed")
AUTH_TIMEOUT = _status("auth_timeout", "No authentication request received.")
AUTH_REQUIRED = _status("auth_required", "authentication required")
NOT_AUTHORIZED = _status("error", "not authorized")
LIMIT_REACHED = _status("error", "Subscription limit reached for feed. Please remove some subscriptions and try again.")
SLOW_CONSUMER = _status("slow_consumer", "slow consumer")


def _subscribed(item: str) -> bytes:
    return _status("success", f"subscribed to: {item}")


def _unsubscribed(item: str) -> bytes:
    return _status("success", f"unsubscribed to: {item}")  # the vendor's wording


# --- who may come in ------------------------------------------------------------------------------------------------

ANYBODY = GatewayToken("", "anybody", ("*",))


class Gate:
    """The local tokens; without any, every key is accepted that is not empty."""

    def __init__(self, tokens: Sequence[GatewayToken] = ()) -> None:
        # By digest, so that the time of a look-up tells nothing about a token.
        self._known = {_digest(one.token): one for one in tokens}

    def admit(self, key: str) -> GatewayToken | None:
        """What comes with this *key*; None where it opens nothing."""
        if not key:
            return None
        return self._known.get(_digest(key)) if self._known else ANYBODY


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


# --- the conversation -----------------------------------------------------------------------------------------------


class Say(NamedTuple):
    """Send these statuses now."""

    statuses: tuple[bytes, ...]


class Hear(NamedTuple):
    """Have these topics carried, tell the conversation the outcome (``heard``), and let their events follow.

    Attributes:
        asked: topic → the item as the client wrote it.
    """

    asked: dict[str, str]


class Leave(NamedTuple):
    """Send no more events of these topics."""

    topics: tuple[str, ...]


class End(NamedTuple):
    """Send these statuses, then close without a close frame, as the vendor does."""

    statuses: tuple[bytes, ...]


Step = Say | Hear | Leave | End


class _ClientMessage(msgspec.Struct):
    action: str
    params: str


_decode = json.Decoder(_ClientMessage).decode


class Conversation:
    """What one client has said and holds; each message gives steps, which are to be taken in their order.

    Attributes:
        market: that its path names.
        token: what it was admitted with; None before.
        held: topic → the item as the client wrote it; what it hears, or is about to.
    """

    def __init__(self, market: str, gate: Gate) -> None:
        self.market, self._gate = market, gate
        self.token: GatewayToken | None = None
        self.held: dict[str, str] = {}

    def receive(self, message: str | bytes) -> list[Step]:
        """Take one message, text or binary; what cannot be understood is ignored, as far as anybody knows."""
        try:
            said = _decode(message)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return []
        match said.action:
            case "auth":
                return [self._authenticate(said.params.strip())]
            case "subscribe" | "unsubscribe" if self.token is None:
                return [Say((AUTH_REQUIRED,))]
            case "subscribe":
                return list(self._subscribe(said.params))
            case "unsubscribe":
                return list(self._unsubscribe(said.params))
            case _:
                return []

    def _authenticate(self, key: str) -> Step:
        admitted = self._gate.admit(key)
        if admitted is None:
            return End((AUTH_FAILED,))
        self.token = self.token or admitted
        return Say((AUTH_SUCCESS,))

    def _subscribe(self, params: str) -> Iterator[Step]:
        assert self.token is not None
        wanted = {topic: item for topic, item in self._items(params) if topic not in self.held}
        allowed = {topic: item for topic, item in wanted.items() if allows(self.token.topics, topic)}
        if len(self.held) + len(allowed) > HELD_LIMIT:
            yield Say((LIMIT_REACHED,))
            return
        if refused := len(wanted) - len(allowed):
            yield Say((NOT_AUTHORIZED,) * refused)
        if allowed:
            self.held |= allowed
            yield Hear(allowed)

    def heard(self, asked: Mapping[str, str], unplaced: Mapping[str, str]) -> Say:
        """The answer to a Hear, once it is known which of its topics nobody can carry, and why."""
        for topic in unplaced:
            self.held.pop(topic, None)
        errors = [_status("error", f"{item}: {unplaced[topic]}") for topic, item in asked.items() if topic in unplaced]
        return Say((*errors, *(_subscribed(item) for topic, item in asked.items() if topic not in unplaced)))

    def _unsubscribe(self, params: str) -> Iterator[Step]:
        released = {topic: item for topic, item in self._items(params) if self.held.pop(topic, None) is not None}
        if released:
            yield Leave(tuple(released))
            yield Say(tuple(map(_unsubscribed, released.values())))

    def _items(self, params: str) -> Iterator[tuple[str, str]]:
        """(topic, item as written), each once; an unknown prefix vanishes without a word (section 4.3)."""
        seen: set[str] = set()
        for written in params.split(","):
            item = written.strip()
            if len(item) > ITEM_CHARACTERS:
                continue
            channel, _, symbol = item.partition(".")
            if self.market == "forex" and ":" not in symbol:
                symbol = symbol.replace("-", "/")  # EUR-USD is accepted, events say EUR/USD
            try:
                topic = str(parse_item(self.market, f"{channel}.{symbol}"))
            except BadTopic:
                continue
            if topic not in seen:
                seen.add(topic)
                yield topic, item
