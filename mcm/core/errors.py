"""Every error that mcm raises on purpose, sorted by what the reader can do about it.

An error carries its facts as attributes; its text says where, what, and the next step.
"""

from pathlib import PurePath

__all__ = ["BadTopic", "McmError", "NotRunning", "SettingsError", "UsageError"]


class McmError(Exception):
    """Root of all errors of mcm; catching it catches no programming mistake."""


class UsageError(McmError):
    """Somebody asked for something that cannot be done; asking differently helps."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem, hint)
        self.problem, self.hint = problem, hint

    def __str__(self) -> str:
        return f"{self.problem}; {self.hint}" if self.hint else self.problem


class BadTopic(UsageError):
    """A text is not a topic, item or pattern; the hint shows what one looks like."""


class NotRunning(McmError):
    """No mcm answers on this run directory; starting one, or naming another directory, helps.

    Attributes:
        run_dir: where was looked.
        problem: what was found instead.
    """

    def __init__(self, run_dir: PurePath, problem: str) -> None:
        super().__init__(run_dir, problem)
        self.run_dir, self.problem = run_dir, problem

    def __str__(self) -> str:
        return (
            f"no mcm answers on {self.run_dir} ({self.problem}); "
            "start it with `mcm start`, or name its directory with --run-dir or MCM_RUN_DIR"
        )


class SettingsError(McmError):
    """The configuration cannot be used; nothing has been started.

    Attributes:
        where: the file or variable the value came from, with line and column when known.
        key: dotted path inside it, e.g. ``connections[1].market``; empty for the whole file.
        problem: what is wrong, with the offending value.
        hint: what would be accepted, or what was likely meant.
    """

    def __init__(self, where: str, key: str, problem: str, hint: str = "") -> None:
        super().__init__(where, key, problem, hint)
        self.where, self.key, self.problem, self.hint = where, key, problem, hint

    def __str__(self) -> str:
        place = f"{self.where}: {self.key}" if self.key else self.where
        return f"{place}: {self.problem}" + (f"; {self.hint}" if self.hint else "")
