"""``/metrics`` as Prometheus reads it, and the Grafana dashboard that is built from it."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.faces.dashboard import Board
from tests.processes.stack import wait_until

pytestmark = pytest.mark.xdist_group("dashboard metrics")  # one mcm for all of them
GRAFANA = Path(__file__).resolve().parent.parent.parent / "scripts" / "examples" / "grafana.json"
LINES = {"primary", "secondary", "tertiary"}


def families(board: Board) -> dict[str, Metric]:
    """By their names, as the parser of the client library reads them."""
    answer = board.web.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.body.decode())}


@pytest.fixture
def measured(board: Board) -> dict[str, Metric]:
    """Once latencies were measured, which begins when somebody asks for them, and channels were counted."""

    def holds() -> bool:
        found = families(board)
        samples = [*found["mcm_inside_latency_seconds"].samples, *found["mcm_vendor_lag_seconds"].samples]
        measured = {one.labels["connection"] for one in samples if one.name.endswith("_count") and one.value > 0}
        channels = {(one.labels["connection"], one.labels["channel"]) for one in found["mcm_channel_ticks"].samples}
        return measured >= LINES and ("primary", "Q") in channels

    wait_until(holds, because="latencies are measured and channels counted", within_s=30)
    return families(board)


def test_every_metric_has_words_a_kind_and_good_names(measured: dict[str, Metric]) -> None:
    seen = set()
    for name, family in measured.items():
        assert re.fullmatch(r"mcm_[a-z_]+", name), name
        assert family.documentation, name
        assert family.type in {"counter", "gauge", "histogram"}, name
        assert not re.search(r"_(ms|us|ns|kb|mb|percent)$", name), f"{name}: base units"
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name.endswith("_total")
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in seen, f"{key} stands there twice"
            seen.add(key)
            assert set(sample.labels) <= {
                "connection",
                "market",
                "channel",
                "state",
                "reason",
                "outcome",
                "process",
                "le",
            }


def test_histograms_rise_and_end_with_all_there_is(measured: dict[str, Metric]) -> None:
    for name in ("mcm_inside_latency_seconds", "mcm_vendor_lag_seconds"):
        for line in LINES:
            of = [one for one in measured[name].samples if one.labels["connection"] == line]
            buckets = [one for one in of if one.name.endswith("_bucket")]
            counts = [one.value for one in buckets]
            assert counts == sorted(counts)
            assert buckets[-1].labels["le"] == "+Inf"
            assert counts[-1] == next(one.value for one in of if one.name.endswith("_count"))


def test_the_figures_are_those_of_the_status(board: Board, measured: dict[str, Metric]) -> None:
    def confirmed() -> float:
        samples = families(board)["mcm_topics_confirmed"].samples
        return next(one.value for one in samples if one.labels["connection"] == "primary")

    wait_until(  # another test may have moved something
        lambda: confirmed() == board.mcm.status().connections["primary"].confirmed, because="nothing moves any more"
    )
    measured = families(board)
    status = board.mcm.status()
    values = {
        name: {one.labels.get("connection", one.labels.get("process", "")): one.value for one in family.samples}
        for name, family in measured.items()
    }

    assert 0 < values["mcm_ticks"]["primary"] <= status.connections["primary"].ticks
    assert values["mcm_topics_confirmed"]["primary"] == status.connections["primary"].confirmed
    assert values["mcm_gap_topics"][""] == 0
    outcome = {one.labels["outcome"]: one.value for one in measured["mcm_ledger_ticks"].samples}
    assert outcome["received"] == outcome["published"] + outcome["duplicates"] + values["mcm_ledger_held_ticks"][""]
    live = [one for one in measured["mcm_connection_state"].samples if one.value == 1]
    assert {(one.labels["connection"], one.labels["state"]) for one in live} == {(name, "live") for name in LINES}
    assert values["mcm_process_resident_bytes"].keys() >= {"supervisor", "router", "replay", "dashboard", *LINES}
    assert all(value > 1_000_000 for value in values["mcm_process_resident_bytes"].values())
    assert values["mcm_process_cpu_seconds"]["router"] > 0
    assert values["mcm_journal_bytes"][""] > 0
    assert sum(values["mcm_link_bytes"].values()) > 0


def test_the_dashboard_for_grafana_is_built_only_from_metrics_that_there_are(measured: dict[str, Metric]) -> None:
    names = {sample.name for family in measured.values() for sample in family.samples} | measured.keys()
    panels = json.loads(GRAFANA.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    used = {name for text in expressions for name in re.findall(r"\bmcm_[a-z_]+", text)}

    # Errors have no sample while there was none; their family is there.
    known = names | {f"{name}_total" for name, family in measured.items() if family.type == "counter"}
    assert len(used) >= 15
    assert used <= known
