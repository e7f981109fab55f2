"""The sending end of three links, no upstream: ``python -m tests.bench.peers.outlets RUN_DIR TICKS TICKS_PER_S``.

Shows what routing takes alone.  A batch holds TICKS_PER_BATCH ticks of as many topics, and is due with its last one;
the message says, as the time when it was read, when its append began.
"""

import json
import sys
import time
from pathlib import Path

from mcm.core.events import EquityTrade
from mcm.core.testing import Testing
from mcm.core.wire import Group, encode_ticks
from mcm.outlet import Outlet
from tests.bench.peers.counting import arguments, wait_for_end
from tests.bench.schedule import Schedule
from tests.bench.tape import FIRST_NUMBER

LINKS = 3
TICKS_PER_BATCH = 4
TOPICS = 300


def _batches(ticks: int) -> list[list[Group]]:
    groups = [
        Group(
            f"stocks.T.P{number % TOPICS}".encode(),
            1,
            encode_ticks(
                [EquityTrade(symbol=f"P{number % TOPICS}", price=12.5, sequence_number=FIRST_NUMBER + number)]
            ),
        )
        for number in range(ticks)
    ]
    return [groups[first : first + TICKS_PER_BATCH] for first in range(0, ticks, TICKS_PER_BATCH)]


def main() -> None:
    """Send on schedule when told to by a line on the standard input."""
    run_dir, ticks = arguments()
    batches = _batches(ticks)
    outlets = [Outlet(Path(run_dir), f"probe{number}", Testing()) for number in range(LINKS)]
    sys.stdin.readline()
    schedule = Schedule(time.monotonic_ns() + 10_000_000, float(sys.argv[3]), TICKS_PER_BATCH)
    for number, groups in enumerate(batches):
        if (wait_s := (schedule.due_ns(number) - time.monotonic_ns()) / 1e9) > 0:
            time.sleep(wait_s)
        outlets[number % LINKS].send(groups, received_ns=time.time_ns(), monotonic_ns=time.monotonic_ns())
    print(json.dumps({"sent": ticks, "begun_ns": schedule.begun_ns}), flush=True)  # noqa: T201
    wait_for_end()
    for outlet in outlets:
        outlet.close()


if __name__ == "__main__":
    main()
