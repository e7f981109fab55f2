"""``MassiveWebSocketClient``: one connection, the same engine."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from mcm.compat.manager import MultiConnectionManager, OnStatus, OnTick
from mcm.core.compat_config import ACCOUNT_CONNECTIONS

__all__ = ["MassiveWebSocketClient"]

_OF_SEVERAL = ("WEBSOCKET_CONNECTION_", "USE_MULTI_", "WEBSOCKET_UNIVERSES")


class MassiveWebSocketClient:
    """One connection with callbacks; nothing is subscribed before subscribe().

    Args:
        api_key: of the account; None for ``MASSIVE_API_KEY`` of *config* or of the environment.
        on_tick_callback, on_status_callback: as for MultiConnectionManager.
        config: the same keys, without those of single connections.
    """

    def __init__(
        self,
        api_key: str | None = None,
        on_tick_callback: OnTick | None = None,
        on_status_callback: OnStatus | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        self.config = config if config is not None else {}
        of_one = _of_one(self.config)
        if api_key:
            of_one["MASSIVE_API_KEY"] = api_key
        self._manager = MultiConnectionManager(of_one, on_tick_callback, on_status_callback, max_connections=1)
        self.api_key = self._manager.api_key

    def connect(self) -> bool:
        """Whether it is connected within 15 s; else nothing is left running."""
        return self._manager.connect()

    def disconnect(self) -> None:
        """Close it; no tick comes after that has returned."""
        self._manager.disconnect()

    def subscribe(self, tickers: list[str] | str) -> bool:
        """Have these carried; ``T.AAPL`` names its channel."""
        return self._manager.subscribe(tickers)

    def unsubscribe(self, tickers: list[str] | str) -> bool:
        """Have these carried no more."""
        return self._manager.unsubscribe(tickers)

    def is_connected(self) -> bool:
        """Whether it is."""
        return self._manager.is_connected()

    def get_subscribed_tickers(self) -> set[str]:
        """All that are wanted."""
        return self._manager.get_subscribed_tickers()

    def check_subscriptions(self) -> bool:
        """Whether all that is wanted is carried and confirmed."""
        return self._manager.check_subscriptions()

    def get_health_status(self) -> dict[str, Any]:
        """As of a MultiConnectionManager with one connection."""
        return self._manager.get_health_status()

    def __enter__(self) -> Self:
        """Connect."""
        self._manager.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        self._manager.__exit__(kind, error, traceback)


def _of_one(config: Mapping[str, Any]) -> dict[str, Any]:
    """The dict for a manager with a single connection; several such clients may share the places of one account."""
    kept = {key: value for key, value in config.items() if not key.startswith(_OF_SEVERAL)}
    return {"WEBSOCKET_CONNECTIONS_MAX": ACCOUNT_CONNECTIONS} | kept | {"WEBSOCKET_CONNECTION_1_ENABLED": True}
