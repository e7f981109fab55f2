"""``mcm doctor``."""

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from mcm import configuration
from mcm.cli.options import places, run_dir_of
from mcm.client import Control
from mcm.core.diagnosis import Finding, Verdict, hidden, ok, problem, warning, worst
from mcm.core.errors import McmError, NotRunning, SettingsError
from mcm.core.exits import Exit
from mcm.doctor import Patient, run

__all__ = ["doctor"]

_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.PROBLEM: "red"}
_NAME_WIDTH, _VERDICT_WIDTH = 22, 9


@click.command()
@places
@click.option("--json", "as_json", is_flag=True, help="All findings, as one JSON document.")
@click.option("--no-dial", is_flag=True, help="Open no connection to the upstream; key and channels stay unchecked.")
def doctor(config: Path | None, run_dir: Path | None, *, as_json: bool, no_dial: bool) -> None:
    """Find out what keeps mcm from working.

    Looks at this machine, the configuration, the way to the upstream, the key and its channels, ports and leftovers;
    each line is ok, a warning or a problem, with its mend.  It opens one connection per market for a second or two,
    and none while an mcm uses the account: that one is asked instead.  Should a program on another machine use the
    account, --no-dial spares it.

    Exit status: 0, or 1 where there is a problem.
    """
    from mcm.doctor.account import allowance, running  # noqa: PLC0415  # what only this command needs
    from mcm.doctor.machine import MACHINE  # noqa: PLC0415
    from mcm.doctor.ports import ports  # noqa: PLC0415
    from mcm.doctor.upstream import upstream  # noqa: PLC0415

    findings: list[Finding] = []
    try:
        settings: configuration.Configuration | None = configuration.load(config, os.environ, run_dir=run_dir)
        assert settings is not None
        findings.append(ok("configuration", f"{settings.path}, feed {settings.settings.upstream.feed}"))
    except SettingsError as error:
        settings = None
        place = f"{error.where}: {error.key}" if error.key else error.where
        findings.append(
            problem("configuration", f"{place}: {error.problem}", error.hint or "`mcm check` says the same")
        )
    place_of_run = settings.run_dir if settings is not None else run_dir_of(None, run_dir)
    try:
        with Control(place_of_run) as control:
            status = control.status()
    except NotRunning as error:
        status = None
        if "answered" in error.problem:
            findings.append(problem("mcm", f"runs, but {error.problem}", "`mcm stop`, then look at its logs"))
    except McmError as error:  # a path that is too long, which a check below names
        status = None
        findings.append(warning("mcm", f"cannot be asked: {error}", "see below"))
    patient = Patient(place_of_run, settings, status, may_dial=not no_dial)
    findings += run(patient, (*MACHINE, ports, running, allowance, upstream))
    findings = hidden(findings, _secrets(settings))
    if as_json:
        document = {"verdict": worst(findings).value, "findings": findings}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        _show(findings)
    if worst(findings) is Verdict.PROBLEM:
        sys.exit(Exit.INTERNAL)


def _secrets(settings: configuration.Configuration | None) -> list[str]:
    if settings is None:
        return []
    tokens = [token.reveal() for token in settings.tokens.values()]
    # The stand-in where no key is needed is no secret, but a word that occurs.
    return tokens + ([settings.api_key.reveal()] if settings.has_key else [])


def _show(findings: Sequence[Finding]) -> None:
    width = max(60, shutil.get_terminal_size((120, 24)).columns)
    indent = " " * (_VERDICT_WIDTH + _NAME_WIDTH)
    for one in findings:
        verdict = click.style(f"{one.verdict.value:<{_VERDICT_WIDTH}}", _COLOURS[one.verdict])
        text = textwrap.wrap(one.words, width - len(indent)) or [""]
        text += textwrap.wrap(f"→ {one.mend}", width - len(indent)) if one.mend else []
        click.echo(f"{verdict}{one.name:<{_NAME_WIDTH}}" + f"\n{indent}".join(text))
    counts = {verdict: sum(one.verdict is verdict for one in findings) for verdict in Verdict}
    click.echo(", ".join(f"{verdict.value}: {count}" for verdict, count in counts.items()))
