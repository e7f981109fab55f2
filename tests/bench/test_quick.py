"""The guard of ``scripts/bench --quick``: real processes, ratios within the same run, and nothing may be lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import throughput
from tests.bench.programs import TickLost, load, program
from tests.bench.tape import Shape
from tests.bench.throughput import Running

ROOT = Path(__file__).resolve().parents[2]


def test_no_tick_is_lost_and_what_one_costs_is_within_its_margin_of_what_it_costs_the_peers() -> None:
    quick = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert quick.returncode == 0, quick.stdout + quick.stderr


def test_a_figure_with_a_lost_tick_does_not_count() -> None:
    with load() as feed:
        feed.render(Shape(events_per_frame=4), 400)
        with program("tests.bench.peers.massive_client", feed.url, "399") as forgetful:
            feed.wait_for(2)

            with pytest.raises((TickLost, RuntimeError), match=r"were sent|has ended"):
                throughput.measure(feed, Running({"forgetful": forgetful.pid}, forgetful))
