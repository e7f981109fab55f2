"""``mcm plan`` and ``mcm apply``: an edited configuration, looked at and put in force."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from mcm.cli.options import places, run_dir_of
from mcm.client import Control, Preview

__all__ = ["apply", "plan"]

SHOWN = 10


@click.command()
@places
def plan(config: Path | None, run_dir: Path | None) -> None:
    """Show what the edited configuration would change.

    Changes nothing; `mcm apply` does it.  What was changed by hand is listed as well.
    """
    with Control(run_dir_of(config, run_dir)) as control:
        found = control.preview()
    _show(found)
    click.echo("nothing would change" if found.is_empty else "`mcm apply` does it")


@click.command()
@places
def apply(config: Path | None, run_dir: Path | None) -> None:
    """Put the edited configuration in force.

    No topic that both configurations want misses a tick.  A file with a mistake changes nothing.
    """
    with Control(run_dir_of(config, run_dir)) as control:
        found = control.apply()
    _show(found)
    click.echo("nothing has changed" if found.is_empty else f"{found.file} is in force")


def _show(found: Preview) -> None:
    for what, names in (("start", found.started), ("stop", found.stopped)):
        if names:
            click.echo(f"{what} {', '.join(names)}")
    _list("add", {topic: f"on {', '.join(lines)}" for topic, lines in found.added.items()})
    _list("remove", {topic: f"from {', '.join(lines)}" for topic, lines in found.removed.items()})
    _list("move", {topic: f"{', '.join(old)} → {', '.join(new)}" for topic, (old, new) in found.moved.items()})
    _list("nobody could carry", found.unplaced)
    _lines("live, not in the file:", found.live)
    if found.needs_restart:
        click.echo(f"only with a new start: {', '.join(found.needs_restart)}")


def _list(what: str, topics: Mapping[str, str]) -> None:
    _lines(
        f"{what} {len(topics):,} topics" if topics else "", [f"{topic:<24} {words}" for topic, words in topics.items()]
    )


def _lines(head: str, lines: Sequence[str]) -> None:
    if lines:
        click.echo(head)
    for line in lines[:SHOWN]:
        click.echo(f"  {line}")
    if len(lines) > SHOWN:
        click.echo(f"  and {len(lines) - SHOWN:,} more")
