"""The ready-made configurations of scripts/examples: each is accepted, starts, and does what its comment says."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mcm.client import Control
from mcm.simulator.remote import Remote
from tests.processes.stack import Mcm, Start, wait_until

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"
Carried = dict[str, set[str]]


def symbols(carried: Carried, line: str) -> set[str]:
    return {item.partition(".")[2] for item in carried[line]}


def segments_have_lines_of_their_own(carried: Carried, _: Mcm) -> None:
    assert symbols(carried, "primary") == {"AAPL", "MSFT", "NVDA", "AMZN", "META"}
    assert {item.partition(".")[0] for item in carried["discovery"]} == {"A"}
    assert len(symbols(carried, "discovery")) == 20


def load_is_even_and_the_pin_is_kept(carried: Carried, mcm: Mcm) -> None:
    assert "T.SPY" in carried["primary"]
    counts = [len(items) for items in carried.values()]
    assert max(counts) - min(counts) <= 2
    wait_until(
        lambda: "nothing to move" in mcm.cli("rebalance", "--dry-run").stdout, because="the lines have been measured"
    )


def tiers_share_no_line(carried: Carried, mcm: Mcm) -> None:
    assert [len(carried[name]) for name in ("primary", "secondary", "tertiary")] == [10, 8, 6]
    orders_port = urlsplit(mcm.status().simulator["orders"]).port
    assert orders_port is not None
    Remote(orders_port).refuse_upgrades()  # else it may be back before anybody takes over
    mcm.kill(mcm.status().connections["primary"].pid)
    mcm.wait(lambda status: status.connections["primary"].wanted == 0, because="others carry the premium tier")
    assert mcm.status().unplaced == {}


def sectors_have_lines_of_their_own(carried: Carried, _: Mcm) -> None:
    assert "JPM" in symbols(carried, "finance")
    assert "LLY" in symbols(carried, "health")
    assert symbols(carried, "tech") >= {"MSFT", "NVDA"}
    assert not symbols(carried, "tech") & symbols(carried, "finance")


def critical_symbols_have_two_lines_and_survive_one(carried: Carried, mcm: Mcm) -> None:
    holders = [name for name, items in carried.items() if "T.AAPL" in items]
    assert len(holders) == 2
    assert sum("T.TSLA" in items for items in carried.values()) == 1
    assert mcm.cli("why", "T.AAPL").stdout.count("carried by") == 2
    wait_until(lambda: mcm.status().router.duplicates > 100, because="what both bring is published once")
    mcm.kill(mcm.status().connections[holders[0]].pid)
    mcm.wait(lambda status: status.connections[holders[0]].restarts == 1, because="it was killed")
    with Control(mcm.run_dir) as control:
        assert control.ask("is_safe", {"topic": "stocks.T.AAPL"}, answer=dict[str, object])["is_safe"]


CHECKS: dict[str, Callable[[Carried, Mcm], None]] = {
    "segmented": segments_have_lines_of_their_own,
    "load": load_is_even_and_the_pin_is_kept,
    "tiers": tiers_share_no_line,
    "sectors": sectors_have_lines_of_their_own,
    "failover": critical_symbols_have_two_lines_and_survive_one,
}


def test_the_tokens_of_the_tiers_are_accepted_once_their_variables_are_set(mcm: Mcm) -> None:
    text = (EXAMPLES / "tiers.toml").read_text()
    mcm.config.write_text(re.sub(r"^#(?=[^ ]|$)", "", text, flags=re.MULTILINE))

    refused = mcm.command("check", "--config", str(mcm.config))
    mcm.environment |= {f"{tier}_TOKEN": f"{tier}-of-a-test" for tier in ("PREMIUM", "STANDARD", "FREE")}
    accepted = mcm.command("check", "--config", str(mcm.config))

    assert refused.returncode == 2
    assert "PREMIUM_TOKEN" in refused.stderr
    assert accepted.returncode == 0, accepted.stderr
    assert "of-a-test" not in accepted.stdout


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_an_example_is_accepted_starts_and_does_what_it_says(start: Start, mcm: Mcm, name: str) -> None:
    path = EXAMPLES / f"{name}.toml"
    accepted = mcm.command("check", "--config", str(path))
    assert accepted.returncode == 0, accepted.stderr
    assert "nobody carries" not in accepted.stdout

    start(path.read_text())
    mcm.wait_ready()
    with Control(mcm.run_dir) as control:
        carried = {line: set(items) for line, items in control.ask("plan", answer=dict[str, list[str]]).items()}

    CHECKS[name](carried, mcm)
