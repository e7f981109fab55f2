"""The vendor's own client, typed callback; a third argument makes it ``orjson`` (as its JSON module) or ``raw``.

Raw hands over text: to know how many ticks came, it counts the ``"ev":`` in it, which is next to nothing.
"""

import asyncio
import sys
from typing import Any

from massive import WebSocketClient
from massive.websocket.models import Market

from tests.bench.peers.counting import ITEMS, Count, arguments, end_with_input


async def _receive(variant: str) -> None:
    address, ticks = arguments()
    count = Count(ticks)
    options: dict[str, Any] = {}
    if variant == "orjson":
        import orjson

        # As its manual shows; orjson writes bytes, which would go out as a binary frame.
        options["custom_json"] = type(
            "Orjson",
            (),
            {"loads": staticmethod(orjson.loads), "dumps": staticmethod(lambda it: orjson.dumps(it).decode())},
        )
    client = WebSocketClient(
        api_key="key",
        feed=address.removeprefix("ws://"),
        market=Market.Stocks,
        secure=False,
        subscriptions=ITEMS.split(","),
        raw=variant == "raw",
        **options,
    )

    async def take(messages: list[Any]) -> None:
        count.add(len(messages))

    async def take_raw(text: str) -> None:
        if (found := text.count('"ev":')) and not text.startswith('[{"ev":"status"'):
            count.add(found)

    await client.connect(take_raw if variant == "raw" else take, proxy=None)


def main() -> None:
    """Receive until the load ends the connection."""
    end_with_input()
    asyncio.run(_receive(sys.argv[3] if len(sys.argv) > 3 else "json"))


if __name__ == "__main__":
    main()
