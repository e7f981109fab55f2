"""Checks of the account that need no network: what a running mcm knows of it, and what earlier ones have learned."""

from collections import Counter
from collections.abc import Iterator

from mcm import locks
from mcm.core.diagnosis import Finding, judge_allowance, judge_running, ok, warning
from mcm.doctor import Patient
from mcm.live_file import UNREADABLE, LiveFile

__all__ = ["allowance", "running"]


def running(patient: Patient) -> Iterator[Finding]:
    """What the mcm that runs on this run directory says of key, channels and allowance."""
    if patient.status is not None:
        yield from judge_running(patient.status)
    elif patient.run_dir.joinpath("running").exists() and locks.holder(patient.run_dir) is None:
        words = "does not run, and was not stopped in order the last time"
        yield warning("mcm", words, "nothing: the next start names what nobody received meanwhile as a gap")
    else:
        yield ok("mcm", f"does not run on {patient.run_dir}")


def allowance(patient: Patient) -> Iterator[Finding]:
    """How many connections earlier runs were allowed, as RUN_DIR/live.json has it."""
    if patient.status is not None or patient.configuration is None:
        return
    file = LiveFile(patient.run_dir)
    try:
        learned = file.peek().allowed
    except UNREADABLE as error:
        words = f"{file.path} cannot be read: {error}"
        yield warning("allowance", words, "remove it; changes made by hand are lost with it")
        return
    connections = [one for one in patient.configuration.settings.connections if one.enabled]
    for market, number in Counter(one.market for one in connections).items():
        yield judge_allowance(market, learned.get(market, number), number)
