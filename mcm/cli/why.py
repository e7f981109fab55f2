"""``mcm why``: everything about one topic."""

import threading
import time
from pathlib import Path

import click
import msgspec

from mcm.cli.options import places, run_dir_of
from mcm.client import Control
from mcm.core.display import clock
from mcm.core.gaps import GapClosed, GapOpened, GapRecord
from mcm.core.status import TopicStatus
from mcm.subscriber import Subscriber

__all__ = ["why"]

LAST_S = 1.0


@click.command()
@click.argument("topic")
@places
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON document.")
def why(topic: str, config: Path | None, run_dir: Path | None, *, as_json: bool) -> None:
    """Show which line carries a topic, and why.

    TOPIC is T.AAPL, or AAPL for all its topics.
    """
    place = run_dir_of(config, run_dir)
    with Control(place) as control:
        found = control.why(topic)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    for one in found:
        _show(one, _last_ns(place, one.topic))


def _last_ns(run_dir: Path, topic: str) -> int | None:
    """When the last tick of *topic* was received, as far as the journal knows."""
    with Subscriber([topic], run_dir=run_dir, last=True) as subscriber:
        timer = threading.Timer(LAST_S, subscriber.stop)
        timer.start()
        try:
            found = next(subscriber, None)
            return subscriber.current.received_ns if found is not None and subscriber.current is not None else None
        finally:
            timer.cancel()


def _show(one: TopicStatus, last_ns: int | None) -> None:
    click.echo(click.style(one.topic, bold=True))
    for line, since_ns in one.carried_by.items():
        since = f"confirmed since {clock(since_ns)}" if since_ns is not None else "not yet confirmed"
        click.echo(f"  carried by {line}, {since}")
    if not one.carried_by:
        click.echo("  nobody carries it" + ("" if one.is_wanted else f"; `mcm subscribe {one.topic}` changes that"))
    if one.is_wanted:
        click.echo(f"  because {_reason(one)}")
    if one.trouble:
        click.echo(f"  {one.trouble}")
    age = f"{max(0.0, time.time() - last_ns / 1e9):.1f} s ago" if last_ns is not None else "none in the journal"
    rate = f"{one.ticks_per_s:,.1f} ticks/s" if one.ticks_per_s is not None else "rate not yet measured"
    click.echo(f"  {rate}; last tick {age}")
    for move in one.moves[-3:]:
        source, target = ", ".join(move.source) or "nobody", ", ".join(move.target) or "nobody"
        click.echo(f"  {clock(move.at_ns)} {source} → {target}: {move.why}")
    for record in one.gaps[-3:]:
        click.echo(f"  {_of_gap(record)}")
    if one.gap_since_ns is not None:
        click.echo(f"  nobody has received it since {clock(one.gap_since_ns)}")


def _reason(one: TopicStatus) -> str:
    if one.pinned_to is not None:
        words = f"it is pinned to {one.pinned_to}"
    else:
        words = f"{one.strategy} put it on {', '.join(one.home) or 'no line'}"
    if one.carried_by.keys() - set(one.home):
        words += ", which may not carry it now"
    if one.copies > 1:
        words += f"; {one.copies} copies are wanted"
    return words + (f"; tier {one.tier}" if one.tier is not None else "")


def _of_gap(record: GapRecord) -> str:
    match record:
        case GapOpened(_, line, reason, since_ns):
            return f"{clock(since_ns)} gap: {line}, {reason}"
        case GapClosed(_, line, since_ns, until_ns, how):
            return f"{clock(until_ns)} gap of {(until_ns - since_ns) / 1e9:.1f} s closed: {how}, {line}"
        case _:
            return f"{clock(record.until_ns)} gap {record.how}: {record.published:,} ticks"
