"""The drop-in classes: programs written for one WebSocket per object use a supervised mcm without a change.

``MultiConnectionManager`` and ``MassiveWebSocketClient`` start an mcm of their own in a private directory (or attach to
a running one) and call back.  Light to import, because the process that they start comes through here, too.
"""

from typing import TYPE_CHECKING

from mcm.lazily import attributes

if TYPE_CHECKING:
    from mcm.compat.client import MassiveWebSocketClient
    from mcm.compat.connections import ConnectionInfo
    from mcm.compat.manager import MultiConnectionManager
    from mcm.core.compat_ticks import TickData

__all__ = ["ConnectionInfo", "MassiveWebSocketClient", "MultiConnectionManager", "TickData"]

_WHERE = {
    "ConnectionInfo": "mcm.compat.connections",
    "MassiveWebSocketClient": "mcm.compat.client",
    "MultiConnectionManager": "mcm.compat.manager",
    "TickData": "mcm.core.compat_ticks",
}


__getattr__ = attributes(__name__, _WHERE)
