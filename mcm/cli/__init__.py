"""The ``mcm`` command.  It decides nothing: it starts the supervisor as a process, asks it, and shows the answers."""

import difflib
import os
import sys
from importlib import import_module

import click

from mcm.core.errors import McmError, NotRunning
from mcm.core.exits import Exit

__all__ = ["main"]

_WHERE = {
    "apply": "reload",
    "check": "offline",
    "connection": "live",
    "doctor": "doctor",
    "gaps": "past",
    "journal": "past",
    "ledger": "past",
    "move": "live",
    "pause": "live",
    "plan": "reload",
    "rebalance": "live",
    "restart": "running",
    "resume": "live",
    "simulator": "offline",
    "start": "starting",
    "status": "showing",
    "stop": "running",
    "subscribe": "live",
    "tail": "ticks",
    "top": "top",
    "unsubscribe": "live",
    "version": "running",
    "why": "why",
}


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

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the help."""
        return sorted(_WHERE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command when it is used: `mcm start` waits for no import that only the others need."""
        if cmd_name not in _WHERE:
            return None
        command: click.Command = getattr(import_module(f"mcm.cli.{_WHERE[cmd_name]}"), cmd_name)
        return command

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
    mcm status                  every connection, its topics, its rate; `mcm top` keeps showing it
    mcm stop                    end it
    mcm doctor                  what keeps it from working

    The configuration is --config FILE, else ./config.toml, else a packaged one.  The run directory, where sockets and
    logs lie and by which commands find a running mcm, is --run-dir DIR, else $MCM_RUN_DIR, else what the configuration
    says (`mcm start`) or ./.mcm (all others).

    Exit status: 0 done, 1 internal error, 2 wrong use or settings, 3 another mcm holds the run directory, 4 a process
    without which nothing works cannot live, 5 no mcm runs on this run directory.
    """  # noqa: D301  # click wants the character itself
