"""The arrows of the house: who may import whom. Walks the sources, so a new file is covered the day it is written."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for folder in ("mcm", "workers") for path in (ROOT / folder).rglob("*.py"))

# A layer may import itself and the layers named; everything of ours that is not named here is forbidden to it.
LAYERS: dict[str, set[str]] = {
    "mcm.core": {"mcm.core"},
    "mcm.simulator": {"mcm.simulator", "mcm.core.markets", "mcm.core.control", "mcm.core.exits", "mcm.runtime"},
    "mcm.bus": {"mcm.core"},
    "mcm.logs": set(),
    "mcm.runtime": {"mcm.core", "mcm.logs"},
    "mcm.configuration": {"mcm.core"},
    "mcm.locks": {"mcm.core"},
    "mcm.children": {"mcm.core", "mcm.logs", "mcm.runtime"},
    "mcm.console": {"mcm.core", "mcm.configuration", "mcm.terminal"},
    "mcm.control_server": {"mcm.core", "mcm.bus"},
    "mcm.herald": {"mcm.core", "mcm.outlet"},
    "mcm.carrying": {"mcm.core", "mcm.herald"},
    "mcm.lines": {
        "mcm.core", "mcm.configuration", "mcm.locks", "mcm.children", "mcm.carrying", "mcm.herald", "mcm.vigil",
    },
    "mcm.exchange_days": {"mcm.core"},
    "mcm.vigil": {"mcm.core", "mcm.exchange_days"},
    "mcm.faces": {"mcm.core", "mcm.children"},
    "mcm.live_file": {"mcm.core"},
    "mcm.operations": {"mcm.core", "mcm.configuration", "mcm.lines", "mcm.live_file"},
    "mcm.demand": {"mcm.core", "mcm.client"},
    "mcm.repairs": {"mcm.core", "mcm.children"},
    "mcm.supervisor": {
        "mcm.repairs",
        "mcm.core", "mcm.bus", "mcm.runtime", "mcm.configuration", "mcm.locks", "mcm.children", "mcm.console",
        "mcm.control_server", "mcm.faces", "mcm.lines", "mcm.logs", "mcm.operations", "mcm.systemd", "mcm.herald",
        "mcm.terminal",
    },
    "mcm.systemd": {"mcm.core"},
    "mcm.journal": {"mcm.journal", "mcm.core"},
    "mcm.journaling": {"mcm.core", "mcm.journal", "mcm.quarantine"},
    "mcm.quarantine": set(),
    "mcm.terminal": set(),
    "mcm.links": {"mcm.core", "mcm.journal", "mcm.locks"},
    "mcm.waits": set(),
    "mcm.outlet": {"mcm.core", "mcm.bus", "mcm.journal", "mcm.links"},
    "mcm.client": {"mcm.core", "mcm.bus", "mcm.locks"},
    "mcm.inbox": {"mcm.core", "mcm.bus"},
    "mcm.subscriber": {"mcm.core", "mcm.bus", "mcm.client", "mcm.demand", "mcm.locks", "mcm.inbox"},
    "mcm.web": {"mcm", "mcm.web", "mcm.core", "mcm.bus", "mcm.client"},
    "mcm.export": {"mcm.core", "mcm.journal"},
    "mcm.doctor": {"mcm.doctor", "mcm.core", "mcm.bus", "mcm.configuration", "mcm.live_file", "mcm.locks"},
    "mcm.cli": {
        "mcm", "mcm.cli", "mcm.core", "mcm.client", "mcm.configuration", "mcm.console", "mcm.doctor", "mcm.export",
        "mcm.journal", "mcm.locks", "mcm.subscriber",
    },
    "mcm.compat": {
        "mcm", "mcm.compat", "mcm.core", "mcm.bus", "mcm.client", "mcm.lazily", "mcm.locks", "mcm.runtime",
        "mcm.subscriber",
    },
    "mcm.compat.child": {"mcm.runtime", "mcm.supervisor"},
    "mcm.__main__": {"mcm.cli"},
    "mcm.lazily": set(),
    "mcm": {"mcm.core", "mcm.compat", "mcm.lazily", "mcm.subscriber"},
    "mcm.listening": {"mcm.core"},
    "workers.dashboard": {"mcm.core", "mcm.runtime", "mcm.listening", "mcm.web"},
    "workers.gateway": {"mcm.core", "mcm.runtime", "mcm.client", "mcm.listening", "mcm.subscriber"},
    "workers": {
        "workers", "mcm.core", "mcm.bus", "mcm.journal", "mcm.journaling", "mcm.links", "mcm.outlet",
        "mcm.runtime", "mcm.locks", "mcm.quarantine", "mcm.waits",
    },
}  # fmt: skip
# The calculating part of the world: what core may use beside itself.
CORE_MAY_USE = {
    "__future__", "array", "bisect", "collections", "contextlib", "copy", "dataclasses", "datetime", "difflib", "enum",
    "fractions", "functools", "hashlib", "heapq", "ipaddress", "itertools", "math", "operator", "pathlib", "random",
    "re", "string", "struct", "textwrap", "tomllib", "types", "typing", "urllib", "zlib", "zoneinfo", "msgspec", "mcm",
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            ours = {name for name in submodules if (ROOT / Path(*name.split("."))).with_suffix(".py").exists()}
            found.update(ours or {node.module})
    return found


def layer_of(module: str) -> str:
    return max((layer for layer in LAYERS if module == layer or module.startswith(layer + ".")), key=len)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_only_downwards(path: Path) -> None:
    module = module_name(path)
    allowed = LAYERS[layer_of(module)]

    for name in imports_of(path):
        if name.split(".")[0] in {"mcm", "workers"} and not (name == "mcm" and layer_of(module) != "mcm.core"):
            assert any(name == low or name.startswith(low + ".") for low in allowed - {"mcm"}), (
                f"{module} imports {name}"
            )


@pytest.mark.parametrize("path", sorted((ROOT / "mcm" / "core").glob("*.py")), ids=module_name)
def test_core_uses_only_what_calculates(path: Path) -> None:
    assert {name.split(".")[0] for name in imports_of(path)} <= CORE_MAY_USE


def test_only_the_bus_opens_zeromq_sockets() -> None:
    users = {module_name(path) for path in SOURCES if any(name.split(".")[0] == "zmq" for name in imports_of(path))}

    assert users <= {"mcm.bus"}


def test_importing_mcm_is_cheap() -> None:
    code = "import mcm, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()

    assert not {"aiohttp", "asyncio", "click", "rich"} & set(loaded)
