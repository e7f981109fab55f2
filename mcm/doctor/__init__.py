"""``mcm doctor``: small checks, each a function that looks at one thing and says how it is and what mends it.

What is made of a measurement is decided in core.diagnosis.  Nothing here changes anything, apart from one connection
per market for a second or two, and none at all while an mcm uses the account.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mcm.configuration import Configuration
from mcm.core.diagnosis import Finding, problem
from mcm.core.status import Status

__all__ = ["Check", "Patient", "run"]


@dataclass(frozen=True)
class Patient:
    """What is looked at.

    Attributes:
        run_dir: of the mcm in question.
        configuration: None where it cannot be read.
        status: of the mcm that runs there; None where none does.
        may_dial: whether a connection to the upstream may be opened.
    """

    run_dir: Path
    configuration: Configuration | None
    status: Status | None
    may_dial: bool = True


Check = Callable[[Patient], Iterable[Finding]]


def run(patient: Patient, checks: Iterable[Check]) -> list[Finding]:
    """All findings, in order; a check that breaks is a finding, and does not end the others."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(patient)
        except Exception as error:  # noqa: BLE001  # a doctor who faints is of no use: the outermost loop of its checks
            name = check.__name__.replace("_", " ")
            findings.append(problem(name, f"could not be checked: {type(error).__name__}: {error}", "report this"))
    return findings
