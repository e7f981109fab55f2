"""How log records look: a line of text, or one JSON object per line for whatever collects them.

What a process writes outside of logging (a stack that faulthandler dumps, a crash of the interpreter) stays text.
"""

import datetime as dt
import logging
import os
import sys
from types import TracebackType

import msgspec

__all__ = ["FORMATS", "FORMAT_VARIABLE", "PROCESS_VARIABLE", "JsonFormatter", "formatter", "log_whatever_ends_us"]

FORMATS = ("text", "json")
# From the supervisor to its children, which write their first lines before their settings have come.
FORMAT_VARIABLE = "MCM_LOG_FORMAT"
PROCESS_VARIABLE = "MCM_PROCESS"


class JsonFormatter(logging.Formatter):
    """One object per record: ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``process``, ``pid``, ``message``.

    ``exception`` holds the traceback where there is one; lines of it are parted by an escaped line feed.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        moment = dt.datetime.fromtimestamp(record.created, tz=dt.UTC)
        fields: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "process": self._process,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return _encoded(fields)


def _encoded(fields: dict[str, object]) -> str:
    try:
        return msgspec.json.encode(fields).decode()
    except UnicodeEncodeError:  # half a character, from a file name for instance
        legible = {key: str(value).encode(errors="backslashreplace").decode() for key, value in fields.items()}
        return msgspec.json.encode(legible).decode()


def formatter(form: str, process: str, *, text: str, clock: str | None = None) -> logging.Formatter:
    """The formatter of *process* in *form*, one of FORMATS; *text* and *clock* are the patterns of the plain one."""
    return JsonFormatter(process) if form == "json" else logging.Formatter(text, clock)


def log_whatever_ends_us(logger: logging.Logger) -> None:
    """From here on, an exception that nobody catches, and warnings of Python, are log records as well."""
    logging.captureWarnings(capture=True)

    def log(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, traceback)
            return
        logger.critical("pid %d ends by an exception", os.getpid(), exc_info=(kind, error, traceback))

    sys.excepthook = log
