"""The dashboard as programs see it: plain HTTP, and an mcm with three lines behind it."""

import http.client
import json
import threading
from collections.abc import Generator
from typing import Any, NamedTuple

from mcm.simulator.launch import Simulator
from tests.processes.stack import Mcm

__all__ = ["CONFIGURATION", "KEY", "MARK", "MARKUP", "TOKEN", "Answer", "Board", "Web"]

KEY, TOKEN, MARK = "key-that-nobody-may-see", "token-of-the-dashboard", "environment-that-nobody-may-see"
MARKUP = "<img/src=x/onerror=document.title='hacked'>"
CONFIGURATION = """
[upstream]
feed = "{feed}"
[gateway]
enabled = false
[dashboard]
listen = "127.0.0.1:0"
{more}
[routing]
auto_rebalance = false
failover = false
[[connections]]
name = "primary"
[[connections]]
name = "secondary"
[[connections]]
name = "tertiary"
[[connections]]
name = "spare"
enabled = false
[[watchlists]]
name = "leaders"
channels = ["T", "Q"]
symbols = ["AAPL", "MSFT", "NVDA", "AMZN"]
connection = "primary"
[[watchlists]]
name = "finance"
channels = ["T"]
symbols = ["JPM", "{markup}"]
connection = "secondary"
[[watchlists]]
name = "anywhere"
channels = ["T"]
symbols = ["PLTR", "SHOP", "SOFI", "RIVN", "COIN", "SNOW"]
"""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Web:
    """Requests to one address, each on a connection of its own."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One request; header names with _ for -."""
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            text = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            if text is not None:
                sent.setdefault("Content-Type", "application/json")
            connection.request(method, path, text, sent)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: object = None, **headers: str) -> Answer:
        return self.ask("POST", path, body, **headers)

    def events(self, **headers: str) -> Generator[tuple[str, Any], None, None]:
        """(name, picture) of the stream, until whoever reads it has seen enough."""
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", "/api/stream", headers={k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            while True:
                assert answer.readline() == b"retry: 1000\n"
                name = answer.readline().decode().strip().removeprefix("event: ")
                data = answer.readline().decode().removeprefix("data: ")
                assert answer.readline() == b"\n"
                yield name, json.loads(data)
        finally:
            connection.close()


class Board(NamedTuple):
    """A vendor, an mcm with a dashboard, and requests to that."""

    simulator: Simulator
    mcm: Mcm
    web: Web


def readers(web: Web, count: int, stop: threading.Event) -> list[threading.Thread]:
    """So many open pages."""

    def read() -> None:
        for _ in web.events():
            if stop.is_set():
                return

    threads = [threading.Thread(target=read, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads
