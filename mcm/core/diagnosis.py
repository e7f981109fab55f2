"""What ``mcm doctor`` makes of what it has measured: values in, findings out, each with its mend in words."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum

import msgspec

from mcm.core.control import FREE_DISK_SHARE, LEAST_DESCRIPTORS
from mcm.core.legible import legible
from mcm.core.markets import MARKETS
from mcm.core.status import ConnectionStatus, Status

__all__ = [
    "Answer",
    "Finding",
    "Verdict",
    "hidden",
    "judge_access",
    "judge_allowance",
    "judge_certificate",
    "judge_clock",
    "judge_descriptors",
    "judge_disk",
    "judge_entitlements",
    "judge_library",
    "judge_running",
    "ok",
    "problem",
    "warning",
    "worst",
]

OFFSET_S = (2.0, 30.0)  # of the clock: a warning, a problem
FEW_DESCRIPTORS = 16_384
LEAST_DISK_BYTES = 100_000_000
FEW_DISK_BYTES = 1_000_000_000
CERTIFICATE_DAYS = 7
SHORTEST_SECRET = 4


class Verdict(Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """One line: what was looked at, how it is, in words, and what to do about it where something has to be done."""

    name: str
    verdict: Verdict
    words: str
    mend: str = ""


def ok(name: str, words: str) -> Finding:
    """Nothing to do."""
    return Finding(name, Verdict.OK, words)


def warning(name: str, words: str, mend: str) -> Finding:
    """It works, but not as well as it could, or it could not be looked at."""
    return Finding(name, Verdict.WARNING, words, mend)


def problem(name: str, words: str, mend: str) -> Finding:
    """Something does not work."""
    return Finding(name, Verdict.PROBLEM, words, mend)


def worst(findings: Iterable[Finding]) -> Verdict:
    """The worst verdict of all; OK for none."""
    order = list(Verdict)
    return max((one.verdict for one in findings), key=order.index, default=Verdict.OK)


def hidden(findings: Iterable[Finding], secrets: Collection[str]) -> list[Finding]:
    """The same without *secrets*: an upstream may repeat a key in its answer."""

    def hide(text: str) -> str:
        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, "(hidden)")
        return legible(text)

    return [Finding(one.name, one.verdict, hide(one.words), hide(one.mend)) for one in findings]


# --- this machine


def judge_library(requirement: str, installed: str | None) -> Finding | None:
    """A requirement such as ``aiohttp>=3.14`` against the *installed* version; None where it is met, or not ours."""
    found = re.fullmatch(r"([A-Za-z0-9._-]+)>=([0-9.]+)", requirement.replace(" ", ""))
    if found is None:  # optional, or for another system
        return None
    name, least = found.groups()
    if installed is None:
        return problem("libraries", f"{name} is not installed", f"`pip install '{name}>={least}'`")
    if _numbers(installed) < _numbers(least):
        return problem("libraries", f"{name} is {installed}, older than {least}", f"`pip install '{name}>={least}'`")
    return None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])][:3]


def judge_descriptors(hard: int) -> Finding:
    """The most files that a process may have open."""
    words = f"{hard:,} may be open in a process"
    mend = "raise it: `ulimit -Hn 65536`, /etc/security/limits.conf, or LimitNOFILE=65536 in a unit of systemd"
    if hard < LEAST_DESCRIPTORS:
        return problem("file descriptors", f"{words}; the router needs {LEAST_DESCRIPTORS:,}", mend)
    if hard < FEW_DESCRIPTORS:
        return warning("file descriptors", f"{words}, one by each subscriber", mend)
    return ok("file descriptors", words)


def judge_access(path: str, mode: int, *, is_ours: bool, is_writable: bool) -> Finding:
    """The run directory as it is."""
    if not is_writable:
        return problem("run directory", f"{path} cannot be written", "choose another --run-dir, or change its owner")
    if not is_ours:
        return warning("run directory", f"{path} belongs to somebody else", "run mcm as its owner, or choose another")
    if mode & 0o077:
        words = f"{path} is open to other users (mode {mode & 0o777:o}), and so are its sockets"
        return warning("run directory", words, f"`chmod 700 {path}`, unless that is meant")
    return ok("run directory", path)


def judge_disk(free_bytes: int, retention_bytes: int) -> Finding:
    """The free disk against what the journal may keep."""
    keeps = min(retention_bytes, int(free_bytes * FREE_DISK_SHARE))
    words = f"{free_bytes / 1e9:,.1f} GB are free; the journal keeps at most {keeps / 1e9:,.2f} GB"
    mend = "free some, or choose a run_dir on another disk"
    if free_bytes < LEAST_DISK_BYTES:
        return problem("disk", words, mend)
    if free_bytes < FEW_DISK_BYTES:
        return warning("disk", words, mend)
    if keeps < retention_bytes:
        words += f", not the {retention_bytes / 1e9:,.2f} GB of journal.retention_bytes"
    return ok("disk", words)


def judge_clock(offset_s: float, server: str) -> Finding:
    """Our clock minus that of *server*, which tells whole seconds only."""
    words = f"{abs(offset_s):.1f} s {'ahead of' if offset_s > 0 else 'behind'} {server}"
    mend = "let the system keep its time: `timedatectl set-ntp true`, or chrony"
    if abs(offset_s) > OFFSET_S[1]:
        words += "; latencies, market hours and back-filling go by it"
        return problem("clock", words, mend)
    if abs(offset_s) > OFFSET_S[0]:
        return warning("clock", words, mend)
    return ok("clock", f"within {max(1.0, abs(offset_s)):.0f} s of {server}")


# --- the upstream and the account


def judge_certificate(host: str, days_left: float) -> Finding:
    """The certificate of *host*, which was found good."""
    if days_left < CERTIFICATE_DAYS:
        words = f"the certificate of {host} ends in {days_left:.1f} days"
        return warning("tls", words, "nothing here: its owner has to renew it")
    return ok("tls", f"the certificate of {host} is good for {days_left:.0f} days")


class Answer(msgspec.Struct, frozen=True):
    """What an upstream said to one item of a channel: taken, refused with these words, or nothing."""

    is_taken: bool
    words: str = ""


def judge_entitlements(market: str, wanted: Collection[str], answers: Mapping[str, Answer]) -> Finding:
    """Channel → answer, against the channels that watchlists want."""
    name = f"channels of {market}"
    taken = [channel for channel, answer in answers.items() if answer.is_taken]
    missing = [channel for channel in wanted if channel in answers and not answers[channel].is_taken]
    others = [channel for channel in answers if channel not in taken and channel not in missing]
    has = f"{', '.join(taken) or 'none'} to be had" + (f"; not {', '.join(others)}" if others else "")
    if missing:
        kinds = MARKETS[market].channels
        lacks = "; ".join(f"{one} ({kinds[one]}): {answers[one].words or 'no answer'}" for one in missing)
        mend = f"take {', '.join(missing)} out of the watchlists, or choose a plan that has it"
        return problem(name, f"wanted and not to be had: {lacks}. {has}", mend)
    return ok(name, has)


def judge_allowance(market: str, allowed: int, configured: int) -> Finding:
    """How many connections the account was seen to allow, against those of the configuration."""
    name = f"allowance of {market}"
    if allowed < configured:
        words = f"the account was seen to allow {allowed} of the {configured} configured connections"
        return warning(name, words, "the others' topics are carried; disable them, or choose a plan that allows more")
    return ok(name, f"{configured} configured, and never fewer seen to be allowed")


def judge_running(status: Status) -> list[Finding]:
    """A running mcm speaks for itself; no connection is opened beside its own."""
    findings = [ok("mcm", f"runs, pid {status.pid}, {status.state}")]
    if status.state != "ready":
        findings = [
            warning("mcm", f"runs, pid {status.pid}, {status.state}: {status.reason}", "`mcm status` says more")
        ]
    lines: dict[str, list[tuple[str, ConnectionStatus]]] = {}
    for name, line in status.connections.items():
        lines.setdefault(line.market, []).append((name, line))
    for market, of_market in lines.items():
        findings.append(_running_key(market, of_market))
        findings.append(_running_channels(market, [line for _, line in of_market]))
        account = status.account.get(market)
        if account is not None:
            findings.append(judge_allowance(market, account.allowed, account.configured))
    return findings


def _running_key(market: str, lines: Sequence[tuple[str, ConnectionStatus]]) -> Finding:
    name = f"key for {market}"
    for line, one in lines:
        if one.state == "down":
            return problem(name, f"{line} is down: {one.reason}", "what it says; nothing here was tried beside it")
    live = [line for line, one in lines if one.state == "live"]
    if live:
        return ok(name, f"good: {', '.join(live)} live")
    line, one = lines[0]
    return warning(name, f"no connection is live; {line}: {one.state}, {one.reason}", "`mcm status` says more")


def _running_channels(market: str, lines: Sequence[ConnectionStatus]) -> Finding:
    name = f"channels of {market}"
    missing = sorted({item.partition(".")[0] for line in lines for item in line.unconfirmed})
    if missing:
        number = sum(len(line.unconfirmed) for line in lines)
        words = f"not confirmed: {number:,} of {', '.join(missing)}"
        return warning(name, words, "is the channel in the plan, the symbol spelled as the vendor does? `mcm status`")
    return ok(name, f"all {sum(line.confirmed for line in lines):,} topics confirmed")
