"""Checks of this machine: Python, libraries, the run directory, what it may use up, what it still runs."""

import os
import platform
import resource
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from mcm import bus
from mcm.core import diagnosis
from mcm.core.diagnosis import Finding, ok, problem
from mcm.core.errors import UsageError
from mcm.core.settings import Journal
from mcm.doctor import Patient

__all__ = ["MACHINE"]

LEAST_PYTHON = (3, 11)


def python(_: Patient) -> Iterator[Finding]:
    """Python and the system."""
    version = platform.python_version()
    if sys.version_info < LEAST_PYTHON:
        yield problem("python", f"{version} is too old", "install Python 3.11 or newer")
    elif not (sys.platform == "linux" and hasattr(os, "pidfd_open")):
        yield problem("system", f"{platform.system()} {platform.release()}", "`mcm start` needs Linux 5.3 or newer")
    else:
        yield ok("python", f"{version} on {platform.system()} {platform.release()}")


def libraries(_: Patient) -> Iterator[Finding]:
    """Every dependency, in the version that mcm asks for."""
    found = []
    for requirement in metadata.requires("mcm") or ():
        name = requirement.partition(">=")[0].strip()
        try:
            installed: str | None = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = None
        if (finding := diagnosis.judge_library(requirement, installed)) is not None:
            yield finding
        elif installed is not None and ";" not in requirement:
            found.append(f"{name} {installed}")
    yield ok("libraries", ", ".join(found))


def file_descriptors(_: Patient) -> Iterator[Finding]:
    """How many files a process may have open."""
    yield diagnosis.judge_descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def run_directory(patient: Patient) -> Iterator[Finding]:
    """The lengths of its sockets' paths, its owner and mode."""
    path = patient.run_dir
    try:
        for name in (bus.TICKS, bus.INLET, bus.CONTROL, bus.REPLAY):
            bus.endpoint(path, name)
    except UsageError as error:
        yield problem("run directory", error.problem, error.hint)
        return
    there = _nearest(path)
    if not there.is_dir():
        yield problem("run directory", f"{there} is no directory", "choose another --run-dir")
    elif there == path:
        found = path.stat()
        is_ours, is_writable = found.st_uid == os.getuid(), os.access(path, os.W_OK | os.X_OK)
        yield diagnosis.judge_access(str(path), found.st_mode, is_ours=is_ours, is_writable=is_writable)
    elif os.access(there, os.W_OK | os.X_OK):
        yield ok("run directory", f"{path} will be made by the first start")
    else:
        yield problem("run directory", f"{path} cannot be made in {there}", "choose another --run-dir")


def disk(patient: Patient) -> Iterator[Finding]:
    """Room for the journal."""
    configuration = patient.configuration
    journal = configuration.settings.journal if configuration is not None else Journal()
    yield diagnosis.judge_disk(shutil.disk_usage(_nearest(patient.run_dir)).free, journal.retention_bytes)


def _nearest(path: Path) -> Path:
    """*path*, or the first above it that exists."""
    return next(one for one in (path, *path.parents) if one.exists())


def leftovers(patient: Patient) -> Iterator[Finding]:
    """Processes of mcm that write into the run directory and belong to no mcm that runs."""
    supervisor = patient.status.pid if patient.status is not None else None
    left = [
        (pid, name)
        for pid, name, parent in _processes_of(patient.run_dir)
        if supervisor is None or supervisor not in {pid, parent}
    ]
    for pid, name in left:
        words = f"{name}, pid {pid}, is left over from an mcm that has ended"
        yield problem("leftovers", words, f"`kill {pid}`: it may hold a connection of the account")
    if not left:
        yield ok("leftovers", "no process is left over")


def _processes_of(run_dir: Path) -> Iterator[tuple[int, str, int]]:
    """(pid, module, parent) of every process of mcm that has a file of *run_dir* open, such as its log."""
    inside = f"{os.path.realpath(run_dir)}/"
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            module = command[command.index("-m") + 1] if "-m" in command[:-1] else ""
            if not module.startswith("workers.") and module not in {"mcm.supervisor", "mcm.simulator"}:
                continue
            if any(os.readlink(one).startswith(inside) for one in (entry / "fd").iterdir()):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                yield int(entry.name), module, parent
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue


MACHINE = (python, libraries, file_descriptors, run_directory, disk, leftovers)
