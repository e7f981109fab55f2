"""mcm: one account's few market-data connections, shared losslessly by any number of programs.

Importing it costs little (msgspec and pyzmq, on first use); processes are started by the ``mcm`` command.
"""

__version__ = "0.1.0"
