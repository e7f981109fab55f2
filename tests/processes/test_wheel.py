"""A built wheel, installed outside the checkout, runs on what it carries."""

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.processes.stack import Mcm, wait_until

pytestmark = pytest.mark.xdist_group("wheel")  # one process builds it, once
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what would be published; needs the package index, for hatchling."""
    place = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place), str(CHECKOUT)],
        cwd=place, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (found,) = place.glob("mcm-*.whl")
    return found


def test_a_wheel_holds_both_packages_the_default_configuration_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {"mcm/config.toml", "mcm/cli/starting.py", "mcm/simulator/__main__.py", "workers/router.py"} <= set(names)
    assert {"mcm/web/static/index.html", "mcm/web/static/app.js", "mcm/web/static/style.css"} <= set(names)
    assert {re.split(r"[-/]", name)[0] for name in names} == {"mcm", "workers"}
    assert zipfile.ZipFile(wheel).read("mcm/config.toml") == (CHECKOUT / "config.toml").read_bytes()


def test_an_installed_wheel_runs_without_a_configuration_file(wheel: Path, mcm: Mcm) -> None:
    command = install(wheel, mcm.folder / "venv")
    mcm.run_dir = mcm.folder / "empty" / ".mcm"
    mcm.run_dir.parent.mkdir()

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [command, *arguments],
            cwd=mcm.run_dir.parent, env=mcm.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    started = run("start", "--detach")
    assert started.returncode == 0, started.stderr + mcm.logs()
    assert "with 3 of 3 connections live" in started.stdout
    wait_until(lambda: len(mcm.processes()) == 9, because="every process has been started")
    commands = mcm.processes().values()
    assert len(commands) == 9
    assert all(line.startswith(str(mcm.folder)) for line in commands), commands
    status = mcm.status()
    assert (status.state, status.run_dir) == ("ready", str(mcm.run_dir))

    ticks = run("tail", "AAPL", "--count", "2").stdout.splitlines()
    assert len(ticks) == 2
    assert all(" stocks." in line and ".AAPL " in line for line in ticks)

    stopped = run("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n"), stopped.stderr
    wait_until(lambda: not mcm.processes(), because="no process is left")


def install(wheel: Path, venv: Path) -> Path:
    """The ``mcm`` command of a new environment that holds this wheel; its dependencies are those of ours.

    They come by a .pth file, whose directories do not process .pth files of their own, so that the editable
    installation of the checkout does not shine through.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60)
    (site,) = venv.glob("lib/python3*/site-packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "install", "--quiet", "--no-deps",
         "--no-index", str(wheel)],
        check=True, timeout=60, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )  # fmt: skip
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = subprocess.run(
        [venv / "bin/python", "-P", "-c", "import mcm, workers; print(mcm.__file__, workers.__file__)"],
        cwd=venv, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert where.count(str(site)) == 2, where
    return venv / "bin" / "mcm"
