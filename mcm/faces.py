"""A process that people's programs reach, as the supervisor keeps it: the gateway, the dashboard."""

import logging
from typing import Generic, TypeVar

from mcm.children import Child
from mcm.core.control import DashboardReport, GatewayReport

__all__ = ["Face"]

log = logging.getLogger("mcm.supervisor")

Report = TypeVar("Report", GatewayReport, DashboardReport)


class Face(Generic[Report]):
    """One of them, over all lives of its process.

    Args:
        name: in the log.
        listen: where it listens, as configured.
        report: what is known of it before it has said anything.

    Attributes:
        child: None where it is not enabled.
        address: where its next life is to listen: with port 0 the one that it had, so that whoever came finds it again.
        report: what it said last.
    """

    def __init__(self, name: str, listen: str, report: Report) -> None:
        self._name, self.address = name, listen
        self.report: Report = report
        self.child: Child | None = None

    def heard(self, report: Report) -> None:
        """Take what it says."""
        if report.problem and report.problem != self.report.problem:
            log.warning("%s: %s; everything else goes on", self._name, report.problem)
        self.address = report.address or self.address
        self.report = report

    def lost(self) -> None:
        """Its process has ended."""
        self.report = type(self.report)(problem=self.report.problem)

    @property
    def problem(self) -> str:
        """Why it cannot be reached, in words; else empty."""
        return self.report.problem or (self.child.reason if self.child is not None else "")
