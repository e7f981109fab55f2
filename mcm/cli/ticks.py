"""``mcm tail``."""

import contextlib
import difflib
import itertools
from pathlib import Path

import click
import msgspec

from mcm.cli.options import places, run_dir_of
from mcm.client import Control, carried
from mcm.core import topics
from mcm.core.display import clock, describe
from mcm.core.events import Tick
from mcm.subscriber import Current, Subscriber

__all__ = ["tail"]


@click.command()
@click.argument("topic", nargs=-1, required=True)
@places
@click.option("--json", "as_json", is_flag=True, help="One JSON object per tick.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many ticks.")
def tail(
    topic: tuple[str, ...], config: Path | None, run_dir: Path | None, *, as_json: bool, count: int | None
) -> None:
    """Print ticks as they come.

    \b
    TOPIC is a symbol              AAPL
    or a channel of it             T.AAPL
    or with its market             stocks.T.AAPL
    or all symbols of a channel    stocks.T.*
    or everything                  '*'
    """  # noqa: D301
    place = run_dir_of(config, run_dir)
    _warn_of_silence(place, topic)
    complain = lambda problem: click.echo(f"mcm: {problem}", err=True)  # noqa: E731
    with contextlib.suppress(KeyboardInterrupt), Subscriber(topic, run_dir=place, on_gap=complain) as subscriber:
        show = _as_json if as_json else _as_text
        for tick in itertools.islice(subscriber, count):
            assert subscriber.current is not None
            click.echo(show(subscriber.current, tick))


def _warn_of_silence(run_dir: Path, wanted: tuple[str, ...]) -> None:
    """Say which of the topics nobody carries, so that nobody waits for them in vain."""
    with Control(run_dir) as control:
        lines = control.status().connections
        plan = control.ask("plan", answer=dict[str, list[str]])
    held = [f"{lines[name].market}.{item}" for name, items in plan.items() for item in items]
    symbols = {item.partition(".")[2] for items in plan.values() for item in items}
    for text in wanted:
        prefixes = list(topics.prefixes([text]))
        if not any(prefix.startswith(b"mcm.") or carried(prefix, held) for prefix in prefixes):
            near = difflib.get_close_matches(text.rpartition(".")[2].upper(), symbols, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            click.echo(f"mcm: no connection carries {text}; {hint}Waiting for it, Ctrl-C ends", err=True)


def _as_text(current: Current, tick: Tick) -> str:
    return f"{clock(current.received_ns)}  {current.topic:<16}  {describe(tick)}"


def _as_json(current: Current, tick: Tick) -> str:
    head = {
        "topic": current.topic,
        "connection": current.connection,
        "received_ns": current.received_ns,
        "sequence": current.sequence,
        "tick": tick,
    }
    return msgspec.json.encode(head).decode()
