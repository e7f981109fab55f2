"""mcm as a whole, fed by the load generator, and the programs that receive from it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.bench.programs import Load, Program, program
from tests.bench.tape import Shape, items_of, symbols_of
from tests.processes.stack import NO_FACES, Mcm, somewhere

__all__ = ["configuration", "mcm_on", "pids_of", "subscriber_on"]


def configuration(url: str, shape: Shape) -> str:
    """One connection per share of the tape, journal and link files as they are by default."""
    text = f'{NO_FACES}[upstream]\nfeed = "{url}"\n[account]\nmax_connections = {shape.shares}\n'
    for share in range(shape.shares):
        symbols = ", ".join(f'"{symbol}"' for symbol in symbols_of(shape, share))
        text += (
            f'[[connections]]\nname = "line{share}"\n'
            f'[[watchlists]]\nname = "share{share}"\nchannels = ["T", "Q"]\nconnection = "line{share}"\n'
            f"symbols = [{symbols}]\n"
        )
    return text


@contextmanager
def mcm_on(load: Load, shape: Shape) -> Iterator[Mcm]:
    """A running mcm with every item subscribed at the load generator; whatever runs there ends with the block."""
    with somewhere() as mcm:
        mcm.config.write_text(configuration(load.url, shape))
        started = mcm.command("start", "--detach", "--config", str(mcm.config), "--run-dir", str(mcm.run_dir))
        if started.returncode:
            raise RuntimeError(f"mcm did not start: {started.stderr or started.stdout}")
        load.wait_for(len(items_of(shape)))
        yield mcm


def pids_of(mcm: Mcm) -> dict[str, int]:
    """Role → process, of everything that belongs to it."""
    status = mcm.status()
    found = {name: line.pid for name, line in status.connections.items()}
    found |= {"supervisor": status.pid, "router": status.router.pid, "replay": status.replay.pid}
    return {name: pid for name, pid in found.items() if pid is not None}


@contextmanager
def subscriber_on(
    mcm: Mcm, ticks: int, *topics: str, way: str = "messages", number: int = 1
) -> Iterator[list[Program]]:
    """Subscribers in processes of their own, joined; each expects *ticks*."""
    with ExitStack() as stack:
        topic = topics[0] if topics else "stocks.*"
        readers = [
            stack.enter_context(program("tests.bench.peers.subscriber", str(mcm.run_dir), str(ticks), topic, way))
            for _ in range(number)
        ]
        for reader in readers:
            reader.hear()
        yield readers
