"""Checks that the addresses on which mcm listens are free, or its own."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from mcm.core.diagnosis import Finding, ok, problem
from mcm.core.settings import Settings
from mcm.core.settings_values import SIMULATOR
from mcm.doctor import Patient

__all__ = ["ports"]

_LISTENING = "0A"  # its state in /proc/net/tcp


class _Place(NamedTuple):
    what: str  # the key of the configuration
    host: str
    port: int


def ports(patient: Patient) -> Iterator[Finding]:
    """Every port of the configuration that is not 0."""
    if patient.configuration is None:
        return
    places = list(_places(patient.configuration.settings))
    supervisor = patient.status.pid if patient.status is not None else None
    taken: dict[int, str] = {}
    free = []
    for place in places:
        if place.port in taken:
            words = f"{place.what} and {taken[place.port]} want the same port, {place.port}"
            yield problem("ports", words, "give one of them another")
            continue
        taken[place.port] = place.what
        if (finding := _look(place, supervisor)) is not None:
            yield finding
        else:
            free.append(f"{place.port} ({place.what})")
    yield ok("ports", f"free or ours: {', '.join(free)}" if free else "none other is fixed")


def _places(settings: Settings) -> Iterator[_Place]:
    addresses = [(f"publish.endpoints[{index}]", one) for index, one in enumerate(settings.publish.endpoints)]
    if settings.dashboard.enabled:
        addresses.append(("dashboard.listen", f"//{settings.dashboard.listen}"))
    if settings.gateway.enabled:
        addresses.append(("gateway.listen", f"//{settings.gateway.listen}"))
    if settings.upstream.feed == SIMULATOR:
        for key in ("port", "orders_port"):
            addresses.append((f"simulator.{key}", f"//127.0.0.1:{getattr(settings.simulator, key)}"))
    for what, address in addresses:
        parts = urlsplit(address)
        if parts.port:
            yield _Place(what, parts.hostname or "", parts.port)


def _look(place: _Place, supervisor: int | None) -> Finding | None:
    """What is wrong with a place; None where it is free, or held by a child of the *supervisor*."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
            one.listen(1)
    except OSError as error:
        name = f"{place.host}:{place.port}"
        if error.errno != errno.EADDRINUSE:
            words = f"{place.what}: {name} cannot be listened on: {error.strerror}"
            return problem("ports", words, "write another address")
        holder = _holder(place.port)
        if holder is not None and supervisor is not None and supervisor in {holder.pid, holder.parent}:
            return None
        who = f"{holder.name}, pid {holder.pid}" if holder is not None else "another program"
        return problem("ports", f"{place.what}: {name} is taken by {who}", f"end that, or write another {place.what}")
    return None


class _Process(NamedTuple):
    pid: int
    parent: int
    name: str  # as the kernel has it; never its arguments, in which others keep their secrets


def _holder(port: int) -> _Process | None:
    """Who listens on *port*, as far as we may know."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if any(os.readlink(one) in sockets for one in (entry / "fd").iterdir()):
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
                return _Process(int(entry.name), int(rest.split()[1]), name)
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
    return None


def _inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]
