"""mcm: one account's few market-data connections, shared losslessly by any number of programs.

Importing it costs little (msgspec and pyzmq, on first use); processes are started by the ``mcm`` command.
"""

from typing import TYPE_CHECKING

from mcm.lazily import attributes

if TYPE_CHECKING:
    from mcm.compat import MassiveWebSocketClient, MultiConnectionManager, TickData
    from mcm.core.follow import Lost, Reset
    from mcm.subscriber import Subscriber

__all__ = [
    "Lost",
    "MassiveWebSocketClient",
    "MultiConnectionManager",
    "Reset",
    "Subscriber",
    "TickData",
    "__version__",
]

__version__ = "0.1.0"

_WHERE = {
    "Lost": "mcm.core.follow",
    "MassiveWebSocketClient": "mcm.compat",
    "MultiConnectionManager": "mcm.compat",
    "Reset": "mcm.core.follow",
    "Subscriber": "mcm.subscriber",
    "TickData": "mcm.compat",
}


__getattr__ = attributes(__name__, _WHERE)
