"""``python -m mcm.simulator``: the stand-in vendor, alone with the options below, or as a child of the supervisor."""

import argparse
import os
import sys

from mcm import runtime

__all__ = ["main"]


def main() -> int:
    """Run as what this process was started as, and return the exit code."""
    is_child = runtime.PARENT_VARIABLE in os.environ
    runtime.die_with_parent()  # before the heavy imports: a child whose parent dies meanwhile would live on
    from mcm.simulator.process import run_child, run_standalone  # noqa: PLC0415

    if is_child:
        return run_child()
    from mcm.simulator import SimulatorSettings  # noqa: PLC0415

    parser = _parser()
    options = vars(parser.parse_args())
    try:
        settings = SimulatorSettings(**{name: value for name, value in options.items() if value is not None})
    except ValueError as error:
        parser.error(str(error))
    return run_standalone(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mcm simulator", description="A stand-in for Massive's servers.")
    add = parser.add_argument
    add("--port", type=int, help="of the WebSocket server; default 0: a free one")
    add("--orders-port", type=int, help="of orders, reports and REST; default 0: a free one")
    add("--seed", type=int, help="other seed, other tape; default 1")
    add("--ticks-per-s", type=float, help="over all topics together, bars not counted; default 1000")
    add("--cap", type=int, help="connections per key and market, 0 for any number; default 3")
    add("--cap-mode", choices=["evict-oldest", "refuse-newest"], help="default evict-oldest")
    add(
        "--key",
        action="append",
        dest="keys",
        help="an accepted key, repeatable; default: all that do not start with bad",
    )
    add("--max-events-per-frame", type=int, help="1 to 1000; default 50")
    add("--turn-ms", type=float, help="what is due within that time shares frames; default 2")
    add("--minute-bars-every-s", type=float, help="below 60 the minute bars run ahead of the clock; default 60")
    add("--auth-timeout-s", type=float, help="after which who has not authenticated is closed; default 10")
    add("--send-buffer-bytes", type=int, help="unread by a client, beyond which it is cut; default 16777216")
    return parser


if __name__ == "__main__":
    sys.exit(main())
