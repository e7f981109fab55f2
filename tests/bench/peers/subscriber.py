"""A program that uses mcm: ``mcm.Subscriber`` on a run directory, typed ticks; anything lost ends it.

A third argument names what it subscribes, a fourth how it reads: ``messages`` (lists) or ``ticks`` (one by one).
"""

import sys
import threading

import mcm
from tests.bench.peers.counting import Count, arguments, say_when_joined, wait_for_end


def _receive(subscriber: mcm.Subscriber, ticks: int, way: str) -> None:
    count = Count(ticks)
    if way == "ticks":
        for _ in subscriber:
            count.add(1)
    else:
        for _, found in subscriber.messages():
            count.add(len(found))


def _stop_at_end(subscriber: mcm.Subscriber) -> None:
    wait_for_end()
    subscriber.stop()


def main() -> None:
    """Receive until the standard input ends."""
    run_dir, ticks = arguments()
    topic = sys.argv[3] if len(sys.argv) > 3 else "stocks.*"
    way = sys.argv[4] if len(sys.argv) > 4 else "messages"
    with mcm.Subscriber(topic, run_dir=run_dir) as subscriber:
        say_when_joined(subscriber)
        threading.Thread(target=_stop_at_end, args=[subscriber], daemon=True).start()
        _receive(subscriber, ticks, way)


if __name__ == "__main__":
    main()
