"""What the doctor makes of what was measured."""

from typing import Any

import pytest

from mcm.core.diagnosis import (
    Answer,
    Finding,
    Verdict,
    hidden,
    judge_access,
    judge_allowance,
    judge_certificate,
    judge_clock,
    judge_descriptors,
    judge_disk,
    judge_entitlements,
    judge_library,
    judge_running,
    ok,
    problem,
    warning,
    worst,
)
from mcm.core.status import AccountStatus
from tests.core.test_top import line, status


@pytest.mark.parametrize(
    ("requirement", "installed", "verdict"),
    [
        ("aiohttp>=3.14", "3.14.5", None),
        ("aiohttp>=3.14", "4.0.0a1", None),
        ("aiohttp>=3.14", "3.9.5", Verdict.PROBLEM),
        ("aiohttp>=3.14", None, Verdict.PROBLEM),
        ("click >= 8.1.8", "8.1.8", None),
        ("click>=8.1.8", "8.1.7", Verdict.PROBLEM),
        ("pytest>=8.3; extra == 'dev'", None, None),
    ],
)
def test_a_library_that_is_too_old_or_missing_is_a_problem(
    requirement: str, installed: str | None, verdict: Verdict | None
) -> None:
    found = judge_library(requirement, installed)

    assert (found.verdict if found is not None else None) is verdict
    assert found is None or "pip install" in found.mend


@pytest.mark.parametrize(
    ("finding", "verdict", "said"),
    [
        (judge_descriptors(1_024), Verdict.PROBLEM, "the router needs 4,096"),
        (judge_descriptors(4_096), Verdict.WARNING, "one by each subscriber"),
        (judge_descriptors(65_536), Verdict.OK, "65,536"),
        (judge_access("/r", 0o40700, is_ours=True, is_writable=True), Verdict.OK, "/r"),
        (judge_access("/r", 0o40750, is_ours=True, is_writable=True), Verdict.WARNING, "mode 750"),
        (judge_access("/r", 0o40700, is_ours=False, is_writable=True), Verdict.WARNING, "somebody else"),
        (judge_access("/r", 0o40700, is_ours=True, is_writable=False), Verdict.PROBLEM, "cannot be written"),
        (judge_disk(50_000_000, 2**33), Verdict.PROBLEM, "0.1 GB are free"),
        (judge_disk(900_000_000, 2**33), Verdict.WARNING, "at most 0.09 GB"),
        (judge_disk(40_000_000_000, 2**33), Verdict.OK, "at most 4.00 GB, not the 8.59 GB"),
        (judge_disk(400_000_000_000, 2**33), Verdict.OK, "at most 8.59 GB"),
        (judge_clock(0.4, "vendor"), Verdict.OK, "within 1 s of vendor"),
        (judge_clock(-3.0, "vendor"), Verdict.WARNING, "3.0 s behind vendor"),
        (judge_clock(3_600.0, "vendor"), Verdict.PROBLEM, "3600.0 s ahead of vendor"),
        (judge_certificate("vendor", 60.0), Verdict.OK, "60 days"),
        (judge_certificate("vendor", 2.0), Verdict.WARNING, "2.0 days"),
        (judge_allowance("stocks", 1, 3), Verdict.WARNING, "1 of the 3"),
        (judge_allowance("stocks", 3, 3), Verdict.OK, "3 configured"),
    ],
)
def test_a_measurement_has_one_verdict_and_what_is_not_ok_has_a_mend(
    finding: Finding, verdict: Verdict, said: str
) -> None:
    assert finding.verdict is verdict
    assert said in finding.words
    assert bool(finding.mend) == (verdict is not Verdict.OK)


def test_a_channel_is_missed_only_where_a_watchlist_wants_it() -> None:
    answers = {
        "T": Answer(is_taken=True),
        "Q": Answer(is_taken=False, words="not authorized"),
        "LV": Answer(is_taken=False),
    }

    assert judge_entitlements("stocks", ["T"], answers) == ok("channels of stocks", "T to be had; not Q, LV")
    missed = judge_entitlements("stocks", ["T", "Q", "LV"], answers)
    assert missed.verdict is Verdict.PROBLEM
    assert "Q (quotes): not authorized; LV (launchpad value): no answer" in missed.words
    assert "take Q, LV out of the watchlists" in missed.mend


def test_a_running_mcm_speaks_for_itself() -> None:
    lines = {
        "a": line(),
        "b": line("parked", reason="the account allows 1"),
        "coins": line("down", market="crypto", reason="the key was refused"),
        "pairs": line("backoff", market="forex", reason="it was closed", unconfirmed=["C.EUR/USD"]),
    }
    account = {"stocks": AccountStatus(1, 1, 2), "crypto": AccountStatus(1, 0, 1)}
    told: dict[str, Any] = {one.name: one for one in judge_running(status(lines, account=account))}

    assert told["mcm"].verdict is Verdict.OK
    assert told["key for stocks"] == ok("key for stocks", "good: a live")
    assert told["allowance of stocks"].verdict is Verdict.WARNING
    assert told["key for crypto"].verdict is Verdict.PROBLEM
    assert "the key was refused" in told["key for crypto"].words
    assert told["key for forex"].verdict is Verdict.WARNING
    assert told["channels of forex"].verdict is Verdict.WARNING


def test_no_secret_is_told_although_an_upstream_repeats_it_and_no_order_to_the_terminal() -> None:
    said = [problem("key", "unknown key abc-123\x1b[2J", "use another than abc-123")]

    assert hidden(said, ["abc-123"]) == [problem("key", "unknown key (hidden)?[2J", "use another than (hidden)")]


def test_the_worst_finding_counts() -> None:
    good, bad, worse = ok("a", ""), warning("b", "", ""), problem("c", "", "")

    assert worst([]) is worst([good]) is Verdict.OK
    assert worst([good, bad]) is Verdict.WARNING
    assert worst([worse, bad, good]) is Verdict.PROBLEM
