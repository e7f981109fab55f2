"""The commands that act on a running mcm."""

import os
import select
import sys
from pathlib import Path

import click

import mcm
from mcm.cli.options import places, run_dir_of
from mcm.client import Control
from mcm.core.exits import Exit

__all__ = ["restart", "stop", "version"]

STOP_LIMIT_S = 10.0


@click.command()
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


@click.command()
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


@click.command()
@places
def version(config: Path | None, run_dir: Path | None) -> None:
    """Print the version, also of a running mcm."""
    click.echo(f"mcm {mcm.__version__}")
    if config is not None or run_dir is not None:
        with Control(run_dir_of(config, run_dir)) as control:
            click.echo(f"running: {control.status().version}")
