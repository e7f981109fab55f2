"""The commands that change what a running mcm carries, without a word in the configuration."""

from collections.abc import Mapping
from pathlib import Path

import click

from mcm.cli.options import places, run_dir_of
from mcm.client import Control

__all__ = ["connection", "move", "pause", "rebalance", "resume", "subscribe", "unsubscribe"]


@click.command()
@click.argument("topic", nargs=-1, required=True)
@click.option("--connection", help="That is to carry them; without it, the strategy decides.")
@click.option("--copies", type=click.IntRange(min=1), default=1, show_default=True, help="On so many lines at once.")
@places
def subscribe(
    topic: tuple[str, ...], config: Path | None, run_dir: Path | None, *, connection: str | None, copies: int
) -> None:
    """Carry more topics.

    TOPIC is T.AAPL, or stocks.T.AAPL where several markets have such a channel.  It stays so over restarts, until
    `mcm unsubscribe`; `mcm plan` lists it as what is not in the file.
    """
    with Control(run_dir_of(config, run_dir)) as control:
        unplaced = control.subscribe(topic, connection, copies)
    _say("subscribed", topic, unplaced)


@click.command()
@click.argument("topic", nargs=-1, required=True)
@places
def unsubscribe(topic: tuple[str, ...], config: Path | None, run_dir: Path | None) -> None:
    """Carry these topics no more.

    Also those of the configuration, until `mcm subscribe`.
    """
    with Control(run_dir_of(config, run_dir)) as control:
        leased = control.unsubscribe(topic)
    _say("unsubscribed", topic, dict.fromkeys(leased, "a program still asks for it"))


@click.command()
@click.argument("symbol")
@click.argument("name")
@places
def move(symbol: str, name: str, config: Path | None, run_dir: Path | None) -> None:
    """Pin a symbol to a connection.

    SYMBOL is AAPL, which means all its topics, or one of them, T.AAPL; NAME is the connection.  No tick is missed on
    the way: the old line lets go when the new one has it.
    """
    with Control(run_dir_of(config, run_dir)) as control:
        unplaced = control.move(symbol, name)
    _say(f"moving to {name}:", (symbol,), unplaced)


def _say(what: str, topics: tuple[str, ...], trouble: Mapping[str, str]) -> None:
    click.echo(f"{what} {', '.join(topics)}")
    for topic, reason in trouble.items():
        click.echo(f"mcm: {topic}: {reason}", err=True)
    if trouble:
        raise click.exceptions.Exit(1)


@click.command()
@click.option("--dry-run", is_flag=True, help="Show the moves, make none.")
@places
def rebalance(config: Path | None, run_dir: Path | None, *, dry_run: bool) -> None:
    """Even out the lines.

    By as few moves as possible, by the measured rates.
    """
    with Control(run_dir_of(config, run_dir)) as control:
        moves = control.rebalance(dry_run=dry_run)
    for one in moves:
        click.echo(f"{one.topic:<24} {one.source} → {one.target}")
    verb = "would move" if dry_run else "are moving"
    click.echo(f"{len(moves):,} topics {verb}" if moves else "nothing to move: no line is much busier than the others")


@click.command()
@click.argument("name")
@places
def pause(name: str, config: Path | None, run_dir: Path | None) -> None:
    """Close a connection for now.

    Others carry what it has before it is closed; `mcm resume NAME` brings it back.
    """
    with Control(run_dir_of(config, run_dir)) as control:
        control.pause(name)
    click.echo(f"{name} is being paused")


@click.command()
@click.argument("name")
@places
def resume(name: str, config: Path | None, run_dir: Path | None) -> None:
    """Open a paused connection again."""
    with Control(run_dir_of(config, run_dir)) as control:
        control.resume(name)
    click.echo(f"{name} dials again")


@click.group()
def connection() -> None:
    """Add or remove a connection."""


@connection.command("add")
@click.argument("name")
@click.option("--market", default="stocks", show_default=True)
@click.option("--tier", multiple=True, help="For strategy = priority; may be repeated.")
@click.option("--max-symbols", type=click.IntRange(min=1))
@places
def add(
    name: str, config: Path | None, run_dir: Path | None, *, market: str, tier: tuple[str, ...], max_symbols: int | None
) -> None:
    """Open one more connection, as far as account.max_connections allows."""
    more: dict[str, object] = {"tiers": list(tier)} if tier else {}
    more |= {"max_symbols": max_symbols} if max_symbols is not None else {}
    with Control(run_dir_of(config, run_dir)) as control:
        control.add_connection(name, market, **more)
    click.echo(f"{name} is being started")


@connection.command("remove")
@click.argument("name")
@places
def remove(name: str, config: Path | None, run_dir: Path | None) -> None:
    """End a connection; others carry what it has before it is closed."""
    with Control(run_dir_of(config, run_dir)) as control:
        control.remove_connection(name)
    click.echo(f"{name} is being removed")
