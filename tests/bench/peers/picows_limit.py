"""A limit: ``picows`` and msgspec's typed decoding in one process, and nothing else is done with the ticks."""

import asyncio
import json

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from mcm.core.massive import FrameDecoder
from tests.bench.peers.counting import ITEMS, Count, arguments, end_with_input


class _Listener(WSListener):  # type: ignore[misc]  # picows is not typed
    def __init__(self, ticks: int) -> None:
        self._count, self._decode = Count(ticks), FrameDecoder("stocks").decode

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, json.dumps({"action": "auth", "params": "key"}).encode())
        transport.send(WSMsgType.TEXT, json.dumps({"action": "subscribe", "params": ITEMS}).encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT and (ticks := self._decode(frame.get_payload_as_bytes()).ticks):
            self._count.add(len(ticks))


async def _receive() -> None:
    url, ticks = arguments()
    transport, _ = await ws_connect(lambda: _Listener(ticks), f"{url}/stocks")
    await transport.wait_disconnected()


def main() -> None:
    """Receive until the load ends the connection."""
    end_with_input()
    asyncio.run(_receive())


if __name__ == "__main__":
    main()
