"""The commands that need no running mcm."""

import os
import sys
from collections import Counter
from pathlib import Path
from typing import NoReturn

import click

from mcm import configuration
from mcm.cli.options import places
from mcm.core import assignment
from mcm.core.exits import Exit

__all__ = ["check", "simulator"]


@click.command()
@places
def check(config: Path | None, run_dir: Path | None) -> None:
    """Check a configuration, show its plan.

    Starts nothing; the plan says which connection would carry what.
    """
    settings = configuration.load(config, os.environ, run_dir=run_dir)
    values = settings.settings
    plan = assignment.plan(values.connections, assignment.wishes(values), strategy=values.routing.strategy)
    click.echo(f"{os.path.relpath(settings.path)}: good; feed {values.upstream.feed}, run directory {settings.run_dir}")
    for connection in values.connections:
        items = plan.carries.get(connection.name)
        if items is None:
            click.echo(f"  {connection.name:<12} disabled")
        else:
            click.echo(f"  {connection.name:<12} {connection.market}: {_in_words(items)}")
    for topic, reason in plan.unplaced.items():
        click.echo(f"  nobody carries {topic}: {reason}")
    if plan.unplaced:
        sys.exit(Exit.USAGE)


def _in_words(items: tuple[str, ...], shown: int = 8) -> str:
    """``20 topics (10 Q, 10 T): AAPL, AMD, …``."""
    if not items:
        return "nothing"
    channels = Counter(item.partition(".")[0] for item in items)
    symbols = list(dict.fromkeys(item.partition(".")[2] for item in items))
    more = f", … {len(symbols) - shown:,} more" if len(symbols) > shown else ""
    kinds = ", ".join(f"{count:,} {channel}" for channel, count in channels.items())
    return f"{len(items):,} topics ({kinds}) of {', '.join(symbols[:shown])}{more}"


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.option("--config", type=click.Path(path_type=Path))
@click.option("--run-dir", type=click.Path(path_type=Path))
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def simulator(config: Path | None, run_dir: Path | None, options: tuple[str, ...]) -> NoReturn:
    """Run the stand-in vendor alone.

    To test programs against; `mcm simulator --help` has its options.  With --config, those that the command line leaves
    out come from the [simulator] section.
    """
    given: list[str] = []
    if config is not None:
        section = configuration.load(config, os.environ, run_dir=run_dir).settings.simulator
        for name in ("seed", "ticks_per_s", "port", "orders_port", "cap"):
            given += [f"--{name.replace('_', '-')}", str(getattr(section, name))]
    os.execv(sys.executable, [sys.executable, "-P", "-m", "mcm.simulator", *given, *options])
