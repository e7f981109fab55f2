"""A thread with ``websocket-client`` and ``json``, and a small record per event: how many begin."""

import json
import threading
from dataclasses import dataclass

import websocket

from tests.bench.peers.counting import ITEMS, Count, arguments, wait_for_end


@dataclass(slots=True)
class Record:
    """What such programs keep of an event."""

    kind: str
    symbol: str
    price: float
    size: float
    time_ms: int


def _receive(url: str, ticks: int) -> None:
    count = Count(ticks)

    def take(event: dict[str, object]) -> None:
        kind = event["ev"]
        if kind == "T":
            Record("T", event["sym"], event["p"], event["s"], event["t"])  # type: ignore[arg-type]
        elif kind == "Q":
            Record("Q", event["sym"], event["bp"], event["bs"], event["t"])  # type: ignore[arg-type]
        else:
            return
        count.add(1)

    def on_message(_: websocket.WebSocketApp, text: str) -> None:
        for event in json.loads(text):
            take(event)

    def on_open(app: websocket.WebSocketApp) -> None:
        app.send(json.dumps({"action": "auth", "params": "key"}))
        app.send(json.dumps({"action": "subscribe", "params": ITEMS}))

    websocket.WebSocketApp(f"{url}/stocks", on_open=on_open, on_message=on_message).run_forever()


def main() -> None:
    """Receive in a thread."""
    threading.Thread(target=_receive, args=arguments(), daemon=True).start()
    wait_for_end()


if __name__ == "__main__":
    main()
