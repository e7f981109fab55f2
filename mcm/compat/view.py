"""One connection of several, as if it were a client of its own: ``connections["connection_1"].client``."""

from collections.abc import Iterable
from typing import Protocol

__all__ = ["ConnectionView"]


class _Manager(Protocol):
    """What a view needs of its manager."""

    def subscribe_tickers(self, tickers: Iterable[str], connection_id: str | None = None) -> bool: ...
    def unsubscribe(self, tickers: Iterable[str]) -> bool: ...
    def get_connection_tickers(self, connection_id: str) -> set[str]: ...
    def is_connection_connected(self, connection_id: str) -> bool: ...
    def pause_connection(self, connection_id: str) -> bool: ...
    def resume_connection(self, connection_id: str) -> bool: ...
    def check_subscriptions(self) -> bool: ...


class ConnectionView:
    """Has the methods of a MassiveWebSocketClient, and acts on one connection."""

    def __init__(self, manager: _Manager, connection_id: str) -> None:
        self._manager, self.connection_id = manager, connection_id

    def connect(self) -> bool:
        """Let it dial again after disconnect()."""
        return self._manager.resume_connection(self.connection_id)

    def disconnect(self) -> None:
        """Close this connection; others carry what it has."""
        self._manager.pause_connection(self.connection_id)

    def subscribe(self, tickers: list[str] | str) -> bool:
        """Have these carried by this connection."""
        return self._manager.subscribe_tickers(tickers, self.connection_id)

    def unsubscribe(self, tickers: list[str] | str) -> bool:
        """Have these carried no more."""
        return self._manager.unsubscribe(tickers)

    def is_connected(self) -> bool:
        """Whether this one is."""
        return self._manager.is_connection_connected(self.connection_id)

    def get_subscribed_tickers(self) -> set[str]:
        """What it carries."""
        return self._manager.get_connection_tickers(self.connection_id)

    def check_subscriptions(self) -> bool:
        """Whether all that is wanted is carried and confirmed, on whatever connection."""
        return self._manager.check_subscriptions()
