"""``mcm start --detach``: starts the supervisor beside itself, and waits until it is of use."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import click

from mcm import configuration, locks
from mcm.client import Control
from mcm.configuration import Configuration
from mcm.console import hints
from mcm.core.errors import NotRunning
from mcm.core.exits import Exit
from mcm.core.status import Status

__all__ = ["start_detached"]

START_LIMIT_S = 30.0


def start_detached(command: list[str], config: Path | None, run_dir: Path | None) -> None:
    """Run the supervisor's *command* in a session of its own; return once it is ready, leave if it cannot live."""
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
