"""``mcm start``: becomes the supervisor."""

import os
import sys
from pathlib import Path

import click

from mcm.cli.options import places

__all__ = ["start"]


@click.command()
@places
@click.option("--detach", is_flag=True, help="Return once it is ready, and leave it running.")
@click.option("--quiet", is_flag=True, help="No summary; warnings only.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Of all processes, in files and on stderr; json: one object per line.",
)
def start(config: Path | None, run_dir: Path | None, *, detach: bool, quiet: bool, log_format: str) -> None:
    """Run mcm until Ctrl-C or `mcm stop`."""
    command = [sys.executable, "-P", "-m", "mcm.supervisor"]
    command += ["--config", str(config)] if config is not None else []
    command += ["--run-dir", str(run_dir)] if run_dir is not None else []
    command += ["--log-format", log_format] if log_format != "text" else []
    if not detach:
        sys.stdout.flush()
        os.execv(command[0], command + ["--quiet"] * quiet)
    from mcm.cli.detaching import start_detached  # noqa: PLC0415  # half of all imports, for this option alone

    start_detached(command, config, run_dir)
