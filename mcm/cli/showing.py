"""``mcm status``."""

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from mcm.cli.options import places, run_dir_of
from mcm.client import Control
from mcm.core.display import duration
from mcm.core.status import ConnectionStatus, Status

__all__ = ["status"]

_STATE_COLOURS = {"live": "green", "ready": "green", "parked": "yellow", "down": "red", "degraded": "yellow"}


@click.command()
@places
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON document.")
def status(config: Path | None, run_dir: Path | None, *, as_json: bool) -> None:
    """Show every connection.

    Its state, topics and rate, and why it is not live if it is not.
    """
    with Control(run_dir_of(config, run_dir)) as control:
        state = control.status()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(state), indent=2).decode())
    else:
        _show(state)


def _show(state: Status) -> None:
    from rich.console import Console  # noqa: PLC0415  # 30 ms that scripts with --json need not pay
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("connection", "state", "market"):
        table.add_column(name, no_wrap=True)
    for name in ("topics", "ticks/s", "last tick", "ticks"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, line in state.connections.items():
        colour = _STATE_COLOURS.get(line.state, "")
        age = f"{line.last_tick_age_s:.1f} s" if line.last_tick_age_s is not None else "-"
        held = f"{line.confirmed:,}" + (f" of {line.wanted:,}" if line.confirmed != line.wanted else "")
        table.add_row(
            name, Text(line.state, colour), line.market, held, f"{line.ticks_per_s:,.0f}", age, f"{line.ticks:,}"
        )
    console = Console(highlight=False, markup=False, emoji=False)
    head = Text.assemble((state.state, f"bold {_STATE_COLOURS.get(state.state, '')}"))
    head.append(f"   pid {state.pid}, up {duration(state.uptime_s)}, {state.run_dir}")
    console.print(head)
    console.print(table)
    console.print(Text(f"router {state.router.state}: {state.router.published:,} ticks published"))
    for remark in _remarks(state):
        console.print(Text(remark))


def _remarks(state: Status) -> Iterator[str]:
    """What is worth saying beside the table, and nothing when all is well."""
    for market, account in state.account.items():
        configured = sum(line.market == market for line in state.connections.values())
        if account.allowed < configured:
            yield f"account: {market} allows {account.allowed}, {account.running} of {configured} running"
    for name, line in state.connections.items():
        yield from _remarks_on(name, line)
    if state.router.lost_batches or state.router.rejected:
        yield f"router: {state.router.lost_batches:,} batches lost on the way, {state.router.rejected:,} were none"
    if state.router.is_crowded:
        used, limit = state.router.descriptors, state.router.descriptor_limit
        yield f"router: {used:,} of {limit:,} file descriptors are used, one by each subscriber; beyond, it restarts"
    if state.gateway is not None and state.gateway.problem:
        yield f"gateway: {state.gateway.problem}"
    if state.gateway is not None and state.gateway.lost:
        yield f"gateway: {state.gateway.lost:,} ticks that its clients should have had are not in the journal any more"
    if state.dashboard is not None and state.dashboard.problem:
        yield f"dashboard: {state.dashboard.problem}"
    for topic, reason in list(state.short.items())[:5]:
        yield f"{topic}: redundancy {reason}"
    if state.live:
        yield f"live, not in the file: {'; '.join(state.live[:5])}" + (", …" if len(state.live) > 5 else "")
    for topic, reason in list(state.unplaced.items())[:5]:
        yield f"{topic}: {reason}"
    if len(state.unplaced) > 5:
        yield f"and {len(state.unplaced) - 5:,} more topics that no connection can carry; --json names them"


def _remarks_on(name: str, line: ConnectionStatus) -> Iterator[str]:
    for words in filter(None, (line.reason, line.note)):
        yield f"{name}: {words}"
    if line.unconfirmed:
        more = f" and {len(line.unconfirmed) - 5:,} more" if len(line.unconfirmed) > 5 else ""
        yield f"{name}: unconfirmed {', '.join(line.unconfirmed[:5])}{more}"
    for count, what in ((line.reconnects, "reconnected"), (line.restarts, "restarted")):
        if count:
            yield f"{name}: {what} {'once' if count == 1 else f'{count:,} times'}"
    if line.errors:
        yield f"{name}: " + ", ".join(f"{count:,} × {reason}" for reason, count in line.errors.items())
