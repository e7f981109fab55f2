"""When each tick came: ``python -m tests.bench.peers.probe RUN_DIR TICKS FILE WAY``.

WAY is ``subscriber`` (mcm.Subscriber) or ``plain`` (a bare SUB socket, which shows when the router had published, and
ends when a line on the standard input says that all is published).  FILE
gets three 64-bit numbers per tick: its ``q``, when its worker had read it, and when it was here, both CLOCK_MONOTONIC.
"""

import contextlib
import json
import select
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mcm
from mcm import bus
from mcm.core.events import tick_decoder
from mcm.core.wire import HEARTBEAT, Message
from tests.bench.peers.counting import arguments, say_joined, say_when_joined, wait_for_end

_PREFIX = b"stocks."
_QUIET_MS = 500


def _by_subscriber(run_dir: str) -> Iterator[tuple[int, int, list[Any]]]:
    with mcm.Subscriber("stocks.*", run_dir=run_dir) as subscriber:
        say_when_joined(subscriber)
        for _, ticks in subscriber.messages():
            now = time.monotonic_ns()
            assert subscriber.current is not None
            yield subscriber.current.received_ns, now, ticks


def _by_plain_socket(run_dir: str) -> Iterator[tuple[int, int, list[Any]]]:
    """Ends when it was told on the standard input that all is published, and nothing comes any more."""
    context: bus.Context[bus.Socket[bytes]] = bus.Context()
    address = bus.endpoint(Path(run_dir), bus.TICKS)
    socket = bus.subscriber(context, address, [_PREFIX, HEARTBEAT], high_water_mark=0)
    decode = tick_decoder("stocks").decode
    socket.recv()  # a heartbeat: the subscriptions are in force
    say_joined()
    while socket.poll(_QUIET_MS) or not select.select([sys.stdin], [], [], 0)[0]:
        with contextlib.suppress(bus.Again):
            frame = socket.recv(bus.DONTWAIT)
            now = time.monotonic_ns()
            topic, message = Message.decode(frame)
            if topic != HEARTBEAT:
                yield message.received_ns, now, decode(message.ticks)
            elif select.select([sys.stdin], [], [], 0)[0]:
                return
    context.destroy(linger=0)


def main() -> None:
    """Receive, write, say how many, wait to be ended."""
    run_dir, expected = arguments()
    path, way = sys.argv[3:5]
    received, found = 0, array("q")
    wall_ns = time.time_ns() - time.monotonic_ns()
    for read_ns, now, ticks in _by_plain_socket(run_dir) if way == "plain" else _by_subscriber(run_dir):
        for tick in ticks:
            found.extend((tick.sequence_number, read_ns - wall_ns, now))
        received += len(ticks)
        if way != "plain" and received >= expected:
            break
    Path(path).write_bytes(found.tobytes())
    print(json.dumps({"received": received}), flush=True)  # noqa: T201
    wait_for_end()


if __name__ == "__main__":
    main()
