"""On what it was measured: without that, a figure says nothing."""

import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import zmq
from rich.console import Console

__all__ = ["facts", "show"]

PACKAGES = (
    "mcm", "aiohttp", "msgspec", "pyzmq", "massive", "orjson", "picows", "websocket-client", "websockets",
)  # fmt: skip


def facts() -> dict[str, str]:
    """Machine, versions and command."""
    return {
        "machine": f"{os.cpu_count()} × {_processor()}, {_memory_gib():.0f} GiB",
        "load": f"{os.getloadavg()[0]:.1f} at the beginning; measure on a machine that does nothing else",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join([*_versions(), f"libzmq {zmq.zmq_version()}"]),
        "command": " ".join(["scripts/bench", *sys.argv[1:]]),
    }


def show() -> None:
    """Print them."""
    console = Console(soft_wrap=True)
    for name, text in facts().items():
        console.print(f"{name:9}{text}", highlight=False)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _versions() -> Iterator[str]:
    for package in PACKAGES:
        try:
            yield f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            yield f"{package} not installed"
