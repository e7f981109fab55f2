"""Figures as tables for people, or as one JSON document."""

from collections.abc import Iterable
from itertools import groupby

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench import machine
from tests.bench.figures import Figure

__all__ = ["show"]


def show(figures: Iterable[Figure], *, as_json: bool) -> None:
    """Print them on the standard output."""
    if as_json:
        print(_document(figures).decode())  # noqa: T201
        return
    console = Console()
    for section, group in groupby(figures, key=lambda figure: figure.section):
        console.print(_table(section, group))


def _document(figures: Iterable[Figure]) -> bytes:
    rows = [{**msgspec.structs.asdict(figure), "value": figure.value, "is_met": figure.is_met} for figure in figures]
    return msgspec.json.format(msgspec.json.encode({"on": machine.facts(), "figures": rows}))


def _table(section: str, figures: Iterable[Figure]) -> Table:
    table = Table(title=section, title_justify="left", title_style="bold")
    table.add_column("what", overflow="fold")
    for heading in ("median", "runs", "target"):
        table.add_column(heading, justify="right", no_wrap=True)
    for figure in figures:
        table.add_row(*figure.cells())
        if figure.detail:
            parts = ", ".join(f"{name} {value:.3g}" for name, value in figure.detail.items() if value >= 0.005)
            table.add_row(f"[dim]  {parts}[/]")
    return table
