"""The commands that look back: the journal, the gaps, the ledger."""

import datetime as dt
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from mcm.cli.options import places, run_dir_of
from mcm.client import Control
from mcm.core.display import clock
from mcm.core.errors import UsageError
from mcm.core.ledger import take
from mcm.export import Stretch, export, instant
from mcm.journal import directory_of, extents

__all__ = ["gaps", "journal", "ledger"]


@click.group(invoke_without_command=True)
@places
@click.pass_context
def journal(ctx: click.Context, config: Path | None, run_dir: Path | None) -> None:
    """Show what the journal holds, or export it.

    Reads files only: mcm need not run.
    """
    ctx.obj = directory_of(run_dir_of(config, run_dir))
    if ctx.invoked_subcommand is None:
        _show(ctx.obj)


def _show(directory: Path) -> None:
    found = extents(directory)
    if not found:
        raise UsageError(f"there is no journal in {directory}", "name the run directory with --run-dir")
    epochs: dict[int | None, list[Any]] = {}
    for segment in found:
        epochs.setdefault(segment.epoch, []).append(segment)
    for epoch, segments in epochs.items():
        last = next((one for one in reversed(segments) if one.last is not None), None)
        size = sum(one.size for one in segments)
        since = _moment(segments[0].created_ns)
        until = _moment(last.last_stamp_ns) if last is not None else since
        name = f"{epoch:016x}" if epoch is not None else "unreadable"
        click.echo(
            f"epoch {name}  offsets {segments[0].first:,} to {last.last if last else segments[0].first:,}  "
            f"{since} to {until}  {size / 1e6:,.1f} MB in {len(segments)} files"
        )


def _moment(nanoseconds: int | None) -> str:
    if nanoseconds is None:
        return "?"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(nanoseconds / 1e9))


@journal.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--from", "begin", help="From this time on: 14:30, 14:30:05 or 2026-11-25T14:30; default: all.")
@click.option("--to", "end", help="Before this time; default: now.")
@click.option("--topics", default="*", show_default=True, help="Topics parted by commas, as in `mcm tail`.")
@click.pass_obj
def export_command(directory: Path, file: Path, begin: str | None, end: str | None, topics: str) -> None:
    """Write ticks of the journal to FILE.jsonl or FILE.csv.

    With the vendor's keys, and topic, offset, sequence, received_ns and connection before them.
    """
    now = dt.datetime.now().astimezone()
    stretch = Stretch(
        instant(begin, now=now) if begin else 0,
        instant(end, now=now) if end else time.time_ns(),
        tuple(part.strip() for part in topics.split(",")),
    )
    count = export(directory, stretch, file)
    click.echo(f"{count:,} ticks written to {file}")


@click.command()
@places
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON document.")
def gaps(config: Path | None, run_dir: Path | None, *, as_json: bool) -> None:
    """Show what nobody received: open gaps, and the latest that were closed."""
    with Control(run_dir_of(config, run_dir)) as control:
        found = control.ask("gaps", answer=dict[str, list[dict[str, Any]]])
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    for gap in found["open"]:
        click.echo(
            f"open      since {clock(gap['since_ns'])}  {gap['connection']}, {_listed(gap['topics'])}: {gap['reason']}"
        )
    for record in found["recent"]:
        match record["ev"]:
            case "gap_closed":
                seconds = (record["until_ns"] - record["since_ns"]) / 1e9
                click.echo(
                    f"closed    {clock(record['since_ns'])} to {clock(record['until_ns'])} ({seconds:.1f} s)  "
                    f"{_listed(record['topics'])}: {record['how']}, now on {record['connection']}"
                )
            case "gap_repaired":
                click.echo(
                    f"repaired  {record['topic']}: {record['published']:,} of {record['fetched']:,}, {record['how']}"
                )
    if not found["open"]:
        click.echo("no gap is open")


def _listed(topics: list[str]) -> str:
    more = f" and {len(topics) - 3:,} more" if len(topics) > 3 else ""
    return ", ".join(sorted(topics)[:3]) + more


@click.command()
@places
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
def ledger(config: Path | None, run_dir: Path | None, *, as_json: bool) -> None:
    """Show that every tick is accounted for.

    Per hop, each number from its own counter: a worker has appended or rejected what it decoded; the router has
    published, known already, or holds what it received.
    """
    with Control(run_dir_of(config, run_dir)) as control:
        status = control.status()
    router, found = status.router, take(status)
    if as_json:
        lines = {name: {"ticks": line.ticks, "errors": line.errors} for name, line in status.connections.items()}
        document = {"connections": lines, "router": msgspec.to_builtins(router), "balance": found.router.balance}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
        return
    for name, line in found.connections.items():
        click.echo(f"{name:<12} appended {line.appended:,}, rejected {line.rejected:,}")
    click.echo(f"{'router':<12} {found.equation}")
    if router.lost_batches:
        click.echo(f"{'':<12} {router.lost_batches:,} batches are in no file")
