"""What ``mcm top`` shows, as lines of a terminal of any size: values in, lines out.

What does not fit is left out by its importance, and a line says so; nothing is cut off silently.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mcm.core.display import clock, duration
from mcm.core.ledger import take
from mcm.core.legible import legible
from mcm.core.status import ConnectionStatus, Status

__all__ = ["LEAST_HEIGHT", "LEAST_WIDTH", "Line", "Span", "View", "picture"]

LEAST_WIDTH, LEAST_HEIGHT = 40, 10
_LEAST_NAME = 8
_REASON_LINES = 2
_COLOURS = {"live": "green", "ready": "green", "parked": "yellow", "degraded": "yellow", "paused": "dim", "down": "red"}


class Span(NamedTuple):
    """A piece of a line; *style* is a colour, ``bold``, ``dim``, some of them, or nothing."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


@dataclass(frozen=True)
class View:
    """What there is to show.

    Attributes:
        gaps: the open ones, as the control socket tells them.
        now_ns: wall clock when it was asked.
        problem: why nothing newer than this is known; else empty.
    """

    status: Status
    gaps: Sequence[Mapping[str, Any]] = ()
    now_ns: int = 0
    problem: str = ""


class _Column(NamedTuple):
    head: str
    cell: Callable[[str, ConnectionStatus], str]
    is_number: bool = True


_COLUMNS = (
    _Column("connection", lambda name, _: name, is_number=False),
    _Column("state", lambda _, line: line.state, is_number=False),
    _Column("market", lambda _, line: line.market, is_number=False),
    _Column("topics", lambda _, line: f"{line.confirmed:,}/{line.wanted:,}"),
    _Column("ticks/s", lambda _, line: f"{line.ticks_per_s:,.0f}"),
    _Column("last", lambda _, line: _age(line.last_tick_age_s)),
    _Column("reconn", lambda _, line: f"{line.reconnects:,}"),
    _Column("restart", lambda _, line: f"{line.restarts:,}"),
    _Column("unconf", lambda _, line: f"{len(line.unconfirmed):,}"),
)
_DROPPED_FIRST = ("market", "restart", "reconn", "unconf", "last", "topics")


def picture(view: View, width: int, height: int) -> list[Line]:
    """At most *height* lines of at most *width* characters."""
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        words = f"{width} × {height} is too small; {LEAST_WIDTH} × {LEAST_HEIGHT} at least. q ends"
        return [(Span(part),) for part in textwrap.wrap(words, max(1, width))[: max(1, height)]]
    columns, left_out = _fitting(view.status.connections, width)
    head = _head(view, width)
    foot = [*_foot(view.status), *_gaps(view.gaps)]
    hint = _hint(left_out)
    room = height - len(head) - 1 - 1  # the heads of the columns, and the hint
    rows = _rows(view.status.connections, columns, max(1, room - min(len(foot), 3)))
    spare = room - len(rows) - len(foot)
    if spare < 0:
        keep = max(0, len(foot) + spare - 1)
        foot = [*foot[:keep], (Span(f"… {len(foot) - keep} more lines; a taller window shows them", "dim"),)]
    parts = [head, [columns.heads(), *rows], foot, [hint]]
    blank: Line = (Span(""),)
    lines: list[Line] = []
    for index, part in enumerate(parts):
        if index and spare > 0:
            lines.append(blank)
            spare -= 1
        lines += part
    clipped = [_clipped(line, width) for line in lines[:height]]
    return _dimmed(clipped, after=len(head)) if view.problem else clipped


def _head(view: View, width: int) -> list[Line]:
    status = view.status
    lines = status.connections.values()
    live = sum(line.state == "live" for line in lines)
    left = f"  {live} of {len(lines)} live · {sum(line.ticks_per_s for line in lines):,.0f} ticks/s"
    left += f" · up {duration(status.uptime_s)} · pid {status.pid}"
    now = clock(view.now_ns).partition(".")[0]
    state, colour = (status.state, _COLOURS.get(status.state, "")) if not view.problem else ("no answer", "red")
    used = len(state) + len(left)
    if used + 2 + len(now) <= width:
        left += now.rjust(width - used)
    head: list[Line] = [(Span(state, f"bold {colour}".strip()), Span(left))]
    words = f"{view.problem}; waiting for it" if view.problem else status.reason
    wrapped = textwrap.wrap(legible(words), width, max_lines=_REASON_LINES, placeholder=" …")
    return head + [(Span(part, colour),) for part in wrapped]


# --- the table


@dataclass(frozen=True)
class _Fitting:
    """Columns with their widths, and the spaces between two of them."""

    columns: Sequence[tuple[_Column, int]]
    apart: int

    def line(self, cells: Sequence[str], styles: Sequence[str]) -> Line:
        spans = []
        for (column, size), text, style in zip(self.columns, cells, styles, strict=True):
            short = text if len(text) <= size else text[: size - 1] + "…"
            spans += [Span(short.rjust(size) if column.is_number else short.ljust(size), style)]
            spans += [Span(" " * self.apart)]
        return tuple(spans[:-1])

    def heads(self) -> Line:
        return self.line([column.head for column, _ in self.columns], ["dim"] * len(self.columns))

    def row(self, name: str, line: ConnectionStatus) -> Line:
        styles = [_COLOURS.get(line.state, "") if column.head == "state" else "" for column, _ in self.columns]
        return self.line([column.cell(name, line) for column, _ in self.columns], styles)


def _fitting(connections: Mapping[str, ConnectionStatus], width: int) -> tuple[_Fitting, list[str]]:
    """The columns that fit, and the heads of those that do not."""
    columns = [
        (column, max([len(column.head), *(len(column.cell(name, line)) for name, line in connections.items())]))
        for column in _COLUMNS
    ]
    left_out = []
    for head in ("", *_DROPPED_FIRST):
        if head:
            columns = [(column, size) for column, size in columns if column.head != head]
            left_out.append(head)
        for apart in (2, 1):
            (name, size), *others = columns
            room = width - sum(other + apart for _, other in others)
            if room >= min(size, len(name.head)):
                return _Fitting([(name, min(size, room)), *others], apart), left_out
    (name, _), *others = columns
    return _Fitting([(name, _LEAST_NAME), *others], 1), left_out


def _rows(connections: Mapping[str, ConnectionStatus], columns: _Fitting, room: int) -> list[Line]:
    """One per connection; where there is no room for all, those that are not live come first."""
    chosen = list(connections.items())
    more: list[Line] = []
    if len(chosen) > room:
        chosen.sort(key=lambda item: item[1].state == "live")
        hidden, chosen = chosen[room - 1 :], chosen[: room - 1]
        ill = sum(line.state != "live" for _, line in hidden)
        words = f"… {len(hidden)} more, {f'{ill} of them not live' if ill else 'all live'}; a taller window shows them"
        more = [(Span(words, "yellow" if ill else "dim"),)]
    return [columns.row(name, line) for name, line in chosen] + more


# --- below it


def _foot(status: Status) -> list[Line]:
    router = status.router
    processes = [Span(f"router {router.state}", _ill(router.state)), Span(f", {router.published:,} published")]
    processes += [Span(" · "), Span(f"replay {status.replay.state}", _ill(status.replay.state))]
    lines: list[Line] = []
    if (gateway := status.gateway) is not None:
        words = f"gateway {gateway.state}, {gateway.address or 'no address yet'}, {gateway.clients:,} clients"
        lines = [(Span(words, _ill(gateway.state)),)]
        if gateway.problem:
            lines = [(Span(f"gateway {legible(gateway.problem)}", "red"),)]
    entry = take(status).router
    alarm = f"{entry.balance:,} UNACCOUNTED; " if entry.balance else ""
    alarm += f"{router.lost_batches:,} batches in no file; " if router.lost_batches else ""
    alarm += "disk full; " if router.not_durable_since is not None else ""
    return [tuple(processes), *lines, (Span("ledger  "), Span(alarm, "red"), Span(entry.equation))]


def _ill(state: str) -> str:
    return "" if state == "ready" else "yellow"


def _gaps(gaps: Sequence[Mapping[str, Any]]) -> list[Line]:
    if not gaps:
        return [(Span("gaps    none open"),)]
    topics = sum(len(gap["topics"]) for gap in gaps)
    lines: list[Line] = [(Span(f"gaps    nobody receives {topics:,} topics", "yellow"),)]
    for gap in sorted(gaps, key=lambda one: int(one["since_ns"])):
        names = sorted(gap["topics"])
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        since = clock(gap["since_ns"]).partition(".")[0]
        lines.append((Span(legible(f"  {since}  {gap['connection']}, {names[0]}{more}: {gap['reason']}")),))
    return lines


def _hint(left_out: Sequence[str]) -> Line:
    words = "q ends"
    return (Span(words + (f" · no room for {', '.join(left_out)}; widen the window" if left_out else ""), "dim"),)


# --- text


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:,.0f} h"


def _clipped(line: Line, width: int) -> Line:
    spans, room = [], width
    for index, span in enumerate(line):
        rest = sum(len(other.text) for other in line[index + 1 :])
        if len(span.text) + rest > room and len(span.text) >= room:
            spans.append(Span(span.text[: room - 1] + "…", span.style))
            break
        spans.append(span)
        room -= len(span.text)
    return tuple(spans)


def _dimmed(lines: list[Line], after: int) -> list[Line]:
    return lines[:after] + [tuple(Span(span.text, "dim") for span in line) for line in lines[after:]]
