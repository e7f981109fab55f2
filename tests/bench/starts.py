"""How long things take to begin, or to begin again, and how much memory they hold."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import mcm as client
from mcm import bus
from mcm.core.wire import HEARTBEAT, Message
from mcm.simulator.launch import launch
from tests.bench.costs import memory_bytes
from tests.bench.programs import PATIENCE_S, load
from tests.bench.rig import configuration, mcm_on, pids_of, subscriber_on
from tests.bench.tape import Shape, items_of
from tests.processes.stack import THREE_LINES, Mcm, somewhere

__all__ = ["LONG_TICKS", "failover_s", "long_run", "router_restart_s", "start_up_s"]

CONNECTIONS = 3
TICKS_PER_S = 2_000
PRIMARY = [f"stocks.{channel}.{symbol}\0".encode() for channel in "TQ" for symbol in ("AAPL", "MSFT")]
LONG_TAPE = 200_000
LONG_TICKS = 10_000_000  # more than 1 GiB of journal


def start_up_s(symbols_per_connection: int) -> float:
    """From ``mcm start --detach`` to its return, when every item is confirmed; the command's own start included."""
    shape = Shape(symbols=CONNECTIONS * symbols_per_connection)
    with load() as feed, somewhere() as mcm:
        mcm.config.write_text(configuration(feed.url, shape))
        begun = time.monotonic()
        mcm.command("start", "--detach", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir))
        took_s = time.monotonic() - begun
        feed.wait_for(len(items_of(shape)))
        assert mcm.status().state == "ready"
    return took_s


@contextmanager
def _three_lines() -> Iterator[Mcm]:
    """Three live lines to a simulator."""
    with launch("--ticks-per-s", str(TICKS_PER_S)) as simulator, somewhere() as mcm:
        mcm.config.write_text(THREE_LINES.format(feed=f"ws://127.0.0.1:{simulator.port}"))
        mcm.command("start", "--detach", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir))
        mcm.wait_ready()
        yield mcm


def failover_s() -> float:
    """From a worker's kill to the first tick of one of its topics that another line has read, at a plain SUB socket."""
    with _three_lines() as mcm:
        status = mcm.status()
        return _first_after(
            mcm,
            PRIMARY,
            lambda: mcm.kill(status.connections["primary"].pid),
            lambda message: message.connection != "primary",
        )


def router_restart_s() -> float:
    """From the router's kill to the first tick that a Subscriber hands out and that was read after it."""
    with _three_lines() as mcm, client.Subscriber("stocks.*", run_dir=mcm.run_dir) as subscriber:
        next(subscriber)
        return _restart_s(mcm, subscriber)


def _restart_s(mcm: Mcm, subscriber: client.Subscriber) -> float:
    pid = mcm.status().router.pid
    killed, killed_ns = time.monotonic(), time.time_ns()
    mcm.kill(pid)
    for _ in subscriber.messages():
        assert subscriber.current is not None
        if subscriber.current.received_ns > killed_ns:
            break
    return time.monotonic() - killed


def _first_after(
    mcm: Mcm, prefixes: Iterable[bytes], strike: Callable[[], None], fits: Callable[[Message], bool]
) -> float:
    context: bus.Context[bus.Socket[bytes]] = bus.Context()
    try:
        socket = bus.subscriber(context, bus.endpoint(mcm.run_dir, bus.TICKS), [*prefixes, HEARTBEAT])
        socket.recv()
        begun = time.monotonic()
        strike()
        while time.monotonic() - begun < PATIENCE_S:
            if socket.poll(1_000):
                topic, message = Message.decode(socket.recv())
                if topic != HEARTBEAT and fits(message):
                    return time.monotonic() - begun
    finally:
        context.destroy(linger=0)
    raise RuntimeError(f"no such tick within {PATIENCE_S:.0f} s\n{mcm.logs()}")


def long_run(ticks: int) -> dict[str, float]:
    """What is left of many ticks: memory before and after by role, and a restart on the journal of all of them.

    Returns:
        ``idle ROLE`` and ``after ROLE`` in bytes, ``journal`` in bytes, ``recovery`` in seconds (router's kill to the
        first new tick at a Subscriber).
    """
    shape = Shape(events_per_frame=20)
    found: dict[str, float] = {}
    with load() as feed:
        feed.render(shape, LONG_TAPE)
        with mcm_on(feed, shape) as mcm:
            pids = pids_of(mcm)
            found |= {f"idle {name}": memory_bytes(pid) for name, pid in pids.items()}
            with subscriber_on(mcm, ticks) as (reader,):
                feed.flood(ticks // LONG_TAPE)
                feed.sent()
                reader.hear(within_s=20 * PATIENCE_S)
            found |= {f"after {name}": memory_bytes(pid) for name, pid in pids.items()}
            found["journal"] = sum(path.stat().st_size for path in (mcm.run_dir / "journal").glob("*.seg"))
            with client.Subscriber("stocks.*", run_dir=mcm.run_dir) as subscriber:
                feed.pace(TICKS_PER_S)
                next(subscriber)
                found["recovery"] = _restart_s(mcm, subscriber)
    return found
