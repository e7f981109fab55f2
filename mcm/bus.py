"""The only module that opens ZeroMQ sockets; every option that matters is set here, with its reason.

ZMTP heartbeats (``HEARTBEAT_IVL``) are never set: with them a slow receiver aborts its own process (libzmq #3596).
``LINGER`` is always set: its default lets a process hang for ever at exit.  One thread per socket.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from mcm.core.errors import UsageError

if TYPE_CHECKING:
    import zmq.asyncio

__all__ = [
    "CONTROL",
    "DONTWAIT",
    "INLET",
    "REPLAY",
    "TICKS",
    "Again",
    "Context",
    "Poller",
    "Socket",
    "control_client",
    "control_server",
    "disconnects",
    "endpoint",
    "publisher",
    "pull",
    "push",
    "receive_nowait",
    "replay_client",
    "replay_server",
    "send_nowait",
    "send_parts_nowait",
    "subscriber",
]

Again = zmq.Again
DONTWAIT = zmq.DONTWAIT
Context = zmq.Context
Poller = zmq.Poller
Socket = zmq.Socket

TICKS, INLET, CONTROL, REPLAY = "ticks", "inlet", "control", "replay"
IPC_PATH_LIMIT = 107
MAX_BATCH_BYTES = 16 * 1024 * 1024


def endpoint(run_dir: Path, name: str) -> str:
    """The ipc address of one of mcm's sockets; raises UsageError where the kernel's limit on its length is exceeded."""
    path = run_dir / name
    if len(os.fsencode(path)) > IPC_PATH_LIMIT:
        raise UsageError(f"the path {path} is longer than {IPC_PATH_LIMIT} bytes", "choose a shorter run_dir")
    return f"ipc://{path}"


def push(context: "Context[Socket[bytes]]", run_dir: Path, *, high_water_mark: int = 1_000) -> "Socket[bytes]":
    """A worker's outlet to the router.

    It connects, because the side that binds loses its whole queue with its peer; ``IMMEDIATE`` stays 0 for the same
    reason.  Beyond so many waiting batches :func:`send_nowait` says no: the link file has them.
    """
    socket = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.SNDHWM, high_water_mark)
    socket.setsockopt(zmq.RECONNECT_IVL, 10)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 0)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint(run_dir, INLET))
    return socket


def pull(context: "Context[Socket[bytes]]", run_dir: Path) -> "Socket[bytes]":
    """The router's inlet."""
    socket = context.socket(zmq.PULL)
    socket.setsockopt(zmq.RCVHWM, 1_000)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_BATCH_BYTES)
    socket.bind(endpoint(run_dir, INLET))
    return socket


def publisher(context: "Context[Socket[bytes]]", run_dir: Path, endpoints: Iterable[str] = ()) -> "Socket[bytes]":
    """The router's outlet to all subscribers.

    ``XPUB_NODROP`` stays 0: with it, one stopped subscriber stops every subscriber.  So a slow one loses what exceeds
    20,000 messages, and sees it by the jump in the sequence.  With 2,000, a flood on two cores made a Subscriber miss
    so much that the replay process worked as hard as the router.  At 500 bytes a message one that is stuck costs 10 MB.
    """
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.SNDHWM, 20_000)
    socket.setsockopt(zmq.LINGER, 200)
    socket.setsockopt(zmq.MAXMSGSIZE, 4_096)  # only subscriptions come in
    for address in (endpoint(run_dir, TICKS), *endpoints):
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            raise UsageError(f"cannot publish on {address}: {error.strerror}", "see [publish] endpoints") from error
    return socket


def subscriber(
    context: "Context[Socket[bytes]]", address: str, prefixes: Iterable[bytes], *, high_water_mark: int = 10_000
) -> "Socket[bytes]":
    """A SUB socket; it must be polled always, or it does not subscribe again after a router restart.

    ``SNDHWM`` 0 before connecting: with the default, libzmq silently drops every subscription beyond 1,000.
    """
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, high_water_mark)
    socket.setsockopt(zmq.RECONNECT_IVL, 10 if address.startswith("ipc:") else 100)
    socket.setsockopt(zmq.LINGER, 0)
    for prefix in prefixes:
        socket.subscribe(prefix)
    socket.connect(address)
    return socket


def disconnects(socket: "Socket[bytes]") -> "Socket[bytes]":
    """A socket that is readable when *socket* has lost its peer; :func:`receive_nowait` until it is empty."""
    return socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)


def control_server(run_dir: Path) -> "zmq.asyncio.Socket":
    """The supervisor's control socket, for asyncio."""
    import zmq.asyncio  # noqa: PLC0415  # asyncio costs every other process 30 ms

    socket = zmq.asyncio.Context.instance().socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 200)
    socket.setsockopt(zmq.SNDHWM, 100)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_BATCH_BYTES)
    socket.bind(endpoint(run_dir, CONTROL))
    return socket


def control_client(context: "Context[Socket[bytes]]", run_dir: Path) -> "Socket[bytes]":
    """The asking side of the control socket; one request at a time."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint(run_dir, CONTROL))
    return socket


def replay_server(context: "Context[Socket[bytes]]", run_dir: Path) -> "Socket[bytes]":
    """Where subscribers ask for what they missed.  Whoever does not read gets nothing beyond 100 answers."""
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a peer that is gone is an error to catch, not silence
    socket.setsockopt(zmq.SNDHWM, 100)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_BATCH_BYTES)
    socket.bind(endpoint(run_dir, REPLAY))
    return socket


def replay_client(context: "Context[Socket[bytes]]", run_dir: Path) -> "Socket[bytes]":
    """The asking side of the replay process; thrown away and opened anew when an answer does not come."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.RECONNECT_IVL, 10)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint(run_dir, REPLAY))
    return socket


def send_nowait(socket: "Socket[bytes]", frame: bytes) -> bool:
    """Send without waiting; False when the socket is full."""
    try:
        socket.send(frame, zmq.DONTWAIT)
    except zmq.Again:
        return False
    return True


def send_parts_nowait(socket: "Socket[bytes]", parts: list[bytes]) -> bool | None:
    """Send to the client named in the first part without waiting; False when it is full, None when it is gone."""
    try:
        socket.send_multipart(parts, zmq.DONTWAIT)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno == zmq.EHOSTUNREACH:
            return None
        raise
    return True


def receive_nowait(socket: "Socket[bytes]") -> list[bytes] | None:
    """The frames of the next message, or None when nothing is there."""
    try:
        return socket.recv_multipart(zmq.DONTWAIT)
    except zmq.Again:
        return None
