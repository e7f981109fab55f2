"""The common home-made pipeline: ``websockets`` and ``json``, one two-frame ZeroMQ message per event, a second process.

The parent publishes, the child subscribes and makes dicts of what comes.  It has no journal and no numbers.  For the
sake of the comparison it must not lose anything, so its queues are without a bound, which a program would not dare.
"""

import asyncio
import json
import os
import subprocess
import sys

import websockets
import zmq

from tests.bench.peers.counting import ITEMS, Count, arguments, end_with_input


async def _publish(url: str, address: str) -> None:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.bind(address)
    socket.recv()  # the subscription
    async with websockets.connect(f"{url}/stocks", proxy=None) as upstream:
        await upstream.send(json.dumps({"action": "auth", "params": "key"}))
        await upstream.send(json.dumps({"action": "subscribe", "params": ITEMS}))
        async for text in upstream:
            for event in json.loads(text):
                if event["ev"] != "status":
                    socket.send_multipart([f"{event['ev']}.{event['sym']}".encode(), json.dumps(event).encode()])


def _subscribe(address: str, ticks: int) -> None:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.subscribe(b"")
    socket.connect(address)
    count = Count(ticks)
    while True:
        _, body = socket.recv_multipart()
        json.loads(body)
        count.add(1)


def main() -> None:
    """As the parent; as the child with a third argument."""
    place, ticks = arguments()
    end_with_input()
    if len(sys.argv) > 3:
        _subscribe(sys.argv[3], ticks)
        return
    address = f"ipc://@mcm-bench-{os.getpid()}"
    command = [sys.executable, "-m", "tests.bench.peers.home_made", place, str(ticks), address]
    with subprocess.Popen(command):
        asyncio.run(_publish(place, address))


if __name__ == "__main__":
    main()
