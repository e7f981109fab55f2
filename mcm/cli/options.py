"""What every command has in common: where the mcm is that it is about."""

import os
from pathlib import Path
from typing import Any

import click

__all__ = ["places", "run_dir_of"]


def places(command: Any) -> Any:
    """The two options that every command has."""
    for option in (
        click.option("--run-dir", type=click.Path(path_type=Path), help="Its sockets and logs; see `mcm --help`."),
        click.option("--config", type=click.Path(path_type=Path), help="Configuration file; see `mcm --help`."),
    ):
        command = option(command)
    return command


def run_dir_of(config: Path | None, run_dir: Path | None) -> Path:
    """Which mcm a client command is about."""
    from mcm import configuration  # noqa: PLC0415  # `mcm start` imports this module, and needs neither
    from mcm.client import find_run_dir  # noqa: PLC0415

    if run_dir is not None:
        return run_dir.expanduser().absolute()
    return configuration.load(config, os.environ).run_dir if config is not None else find_run_dir()
