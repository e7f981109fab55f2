"""The ``mcm`` command.  It decides nothing: it starts the supervisor as a process, asks it, and shows the answers."""

import contextlib
import difflib
import itertools
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

import click
import msgspec

import mcm
from mcm import configuration, locks
from mcm.cli_past import gaps, journal, ledger, places, run_dir_of
from mcm.client import Control, carried
from mcm.configuration import Configuration
from mcm.console import hints
from mcm.core import assignment, topics
from mcm.core.display import clock, describe
from mcm.core.errors import McmError, NotRunning
from mcm.core.events import Tick
from mcm.core.exits import Exit
from mcm.core.status import ConnectionStatus, Status
from mcm.subscriber import Current, Subscriber

__all__ = ["main"]

START_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0
_STATE_COLOURS = {"live": "green", "ready": "green", "parked": "yellow", "down": "red", "degraded": "yellow"}

Command = TypeVar("Command", bound=Callable[..., Any])


class Commands(click.Group):
    """The group of all commands: names the likely meant one, and shows our errors in a line or two."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with a proposal where there is no such command."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1, cutoff=0.5)
            hint = f"; did you mean `mcm {near[0]}`?" if near else "; `mcm --help` lists them"
            raise click.UsageError(f"there is no command {args[0]!r}{hint}") from error

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; what mcm raises on purpose is for people, and needs no traceback."""
        try:
            return super().invoke(ctx)
        except McmError as error:
            click.echo(f"mcm: {error}", err=True)
            ctx.exit(Exit.NOT_RUNNING if isinstance(error, NotRunning) else Exit.USAGE)
        except BrokenPipeError:  # the reader, `head` for instance, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(Exit.OK)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Hold an account's few market-data connections once, and share the merged stream with any number of programs.

    \b
    mcm start                   run it; without an account it runs on the built-in simulator
    mcm tail AAPL --count 5     (in another terminal) look at ticks
    mcm status                  every connection, its topics, its rate
    mcm stop                    end it

    The configuration is --config FILE, else ./config.toml, else a packaged one.  The run directory, where sockets and
    logs lie and by which commands find a running mcm, is --run-dir DIR, else $MCM_RUN_DIR, else what the configuration
    says (`mcm start`) or ./.mcm (all others).

    Exit status: 0 done, 1 internal error, 2 wrong use or settings, 3 another mcm holds the run directory, 4 a process
    without which nothing works cannot live, 5 no mcm runs on this run directory.
    """  # noqa: D301  # click wants the character itself


@main.command()
@places
@click.option("--detach", is_flag=True, help="Return once it is ready, and leave it running.")
@click.option("--quiet", is_flag=True, help="No summary; warnings only.")
def start(config: Path | None, run_dir: Path | None, *, detach: bool, quiet: bool) -> None:
    """Run mcm until Ctrl-C or `mcm stop`."""
    command = [sys.executable, "-P", "-m", "mcm.supervisor"]
    command += ["--config", str(config)] if config is not None else []
    command += ["--run-dir", str(run_dir)] if run_dir is not None else []
    if not detach:
        sys.stdout.flush()
        os.execv(command[0], command + ["--quiet"] * quiet)
    settings = configuration.load(config, os.environ, run_dir=run_dir)
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            [*command, "--quiet"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            start_new_session=True,
        )
        status = _await_start(process, settings, complaints)
    live = sum(line.state == "live" for line in status.connections.values())
    click.echo(f"mcm runs, pid {process.pid}, with {live} of {len(status.connections)} connections live")
    for hint, effect in hints(settings):
        click.echo(f"  {hint}   {effect}")
    if not live:
        click.echo(f"mcm: it runs, but {status.reason}", err=True)
        sys.exit(Exit.INTERNAL)


def _await_start(process: "subprocess.Popen[bytes]", settings: Configuration, complaints: IO[str]) -> Status:
    """Its status once it is ready, or has had half a minute for it; leaves with its complaints if it does not live."""
    deadline = time.monotonic() + START_LIMIT_S
    status: Status | None = None
    while status is None or not (_is_settled(status) or time.monotonic() > deadline):
        if process.poll() is not None:
            complaints.seek(0)
            click.echo(complaints.read().rstrip() or f"mcm: it ended; see {settings.run_dir}/logs", err=True)
            sys.exit(process.returncode)
        with contextlib.suppress(NotRunning):
            status = _status_of(settings.run_dir, process.pid) or status
        time.sleep(0.05)
    return status


def _is_settled(status: Status) -> bool:
    """Whether nothing more comes of waiting."""
    return status.is_started or {line.state for line in status.connections.values()} <= {"live", "parked", "down"}


def _status_of(run_dir: Path, pid: int) -> Status | None:
    """What the supervisor *pid* says; None while another one has the run directory."""
    holder = locks.holder(run_dir)
    if holder is None or not holder.startswith(f"pid {pid},") or not (run_dir / "control").exists():
        return None
    with Control(run_dir) as control:
        return control.status()


@main.command()
@places
def stop(config: Path | None, run_dir: Path | None) -> None:
    """Stop a running mcm in order.

    Lines are closed, what they sent is published, then the processes end.
    """
    place = run_dir_of(config, run_dir)
    with Control(place) as control:
        pid = control.ask("stop", answer=dict[str, int])["pid"]
    if not _ended(pid, STOP_LIMIT_S):
        click.echo(f"mcm: pid {pid} is still there after {STOP_LIMIT_S:.0f} s; see {place}/logs", err=True)
        sys.exit(Exit.INTERNAL)
    click.echo("stopped")


def _ended(pid: int, within_s: float) -> bool:
    """Whether the process *pid* ends in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


@main.command()
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
    head.append(f"   pid {state.pid}, up {_duration(state.uptime_s)}, {state.run_dir}")
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


def _duration(seconds: float) -> str:
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3_600 % 24, whole // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (whole % 60, "s")]
    return " ".join(f"{value} {unit}" for value, unit in parts if value)[:20] or "0 s"


@main.command()
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


@main.command()
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


@main.command()
@click.argument("name")
@places
def restart(name: str, config: Path | None, run_dir: Path | None) -> None:
    """Restart a connection, the router, …

    NAME is a connection, `router`, `replay` or `simulator`; the others go on.  A connection that was parked, or
    whose key was refused, tries again at once.
    """
    with Control(run_dir_of(config, run_dir)) as control:
        control.ask("restart", {"name": name}, answer=dict[str, str])
    click.echo(f"{name} is being restarted")


@main.command(
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


@main.command()
@places
def version(config: Path | None, run_dir: Path | None) -> None:
    """Print the version, also of a running mcm."""
    click.echo(f"mcm {mcm.__version__}")
    if config is not None or run_dir is not None:
        with Control(run_dir_of(config, run_dir)) as control:
            click.echo(f"running: {control.status().version}")


for _command in (gaps, journal, ledger):
    main.add_command(_command)
