"""Log records as objects."""

import json
import logging
import subprocess
import sys

from mcm.logs import formatter


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("mcm.connection", logging.WARNING, "file.py", 1, message, arguments, None)


def test_a_record_is_one_line_with_its_time_in_utc_and_its_process() -> None:
    one = record("%s: gone\n%d", "primary", 3)
    one.created = 1_764_115_200.25

    line = formatter("json", "primary", text="").format(one)

    assert "\n" not in line
    fields = json.loads(line)
    assert fields.pop("pid") == one.process
    assert fields == {
        "time": "2025-11-26T00:00:00.250Z",
        "level": "WARNING",
        "logger": "mcm.connection",
        "process": "primary",
        "message": "primary: gone\n3",
    }


def test_an_exception_stands_in_the_same_line() -> None:
    one = record("it broke")
    try:
        raise ValueError("here")
    except ValueError as error:
        one.exc_info = type(error), error, error.__traceback__

    line = formatter("json", "router", text="").format(one)

    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: here")


def test_half_a_character_costs_no_record() -> None:
    line = formatter("json", "router", text="").format(record("a file called %s", "\udcff"))

    assert json.loads(line)["message"] == "a file called \\udcff"


def test_an_exception_that_nobody_catches_is_a_record_and_so_is_a_warning() -> None:
    code = (
        "import logging, sys, warnings; from mcm.logs import *; handler = logging.StreamHandler(sys.stderr);"
        "handler.setFormatter(formatter('json', 'router', text='')); logging.basicConfig(handlers=[handler]);"
        "log_whatever_ends_us(logging.getLogger('mcm.router')); warnings.warn('old'); raise RuntimeError('a bug')"
    )

    said = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    warning, end = map(json.loads, said.stderr.splitlines())
    assert said.returncode == 1
    assert "old" in warning["message"]
    assert end["level"] == "CRITICAL"
    assert "RuntimeError: a bug" in end["exception"]
