"""A limit: libzmq alone, one publisher and one subscriber in two processes, with messages of the size that mcm's have.

``python -m tests.bench.peers.libzmq_limit BYTES MESSAGES``; prints when it begins, and when all have come.
"""

import json
import os
import subprocess
import sys
import time

import zmq

from tests.bench.peers.counting import Count, arguments, end_with_input


def _publish(address: str, size: int, messages: int) -> None:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.bind(address)
    socket.recv()  # the subscription
    print(json.dumps({"begun_ns": time.monotonic_ns()}), flush=True)  # noqa: T201
    send, message = socket.send, b"stocks.T.ABCD\0".ljust(size, b".")
    for _ in range(messages):
        send(message)


def _subscribe(address: str, messages: int) -> None:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.subscribe(b"")
    socket.connect(address)
    count, receive = Count(messages), socket.recv
    while True:
        receive()
        count.add(1)


def main() -> None:
    """As the parent, which publishes; as the child with a third argument."""
    size, messages = arguments()
    end_with_input()
    if len(sys.argv) > 3:
        _subscribe(sys.argv[3], messages)
        return
    address = f"ipc://@mcm-bench-{os.getpid()}"
    command = [sys.executable, "-m", "tests.bench.peers.libzmq_limit", size, str(messages), address]
    with subprocess.Popen(command) as child:
        _publish(address, int(size), messages)
        child.wait()


if __name__ == "__main__":
    main()
