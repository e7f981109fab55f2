"""Lines that say nothing although their market is open, as far as that can be told from others."""

from collections.abc import Callable

from mcm.core.status import Status
from mcm.simulator.launch import Simulator
from tests.processes.stack import NO_FACES, Start, wait_until

# Symbols that begin with ZZ are acknowledged and never tick.
LINES = (
    NO_FACES
    + """
[upstream]
feed = "{feed}"
[routing]
failover = false
auto_rebalance = false
[testing]
market_is_open = true
[[connections]]
name = "busy"
[[connections]]
name = "dead"
[[connections]]
name = "rare"
[[watchlists]]
name = "busy"
channels = ["T"]
symbols = {busy}
connection = "busy"
[[watchlists]]
name = "dead"
channels = ["T"]
symbols = {dead}
connection = "dead"
[[watchlists]]
name = "rare"
channels = ["T"]
symbols = ["ZZRARE"]
connection = "rare"
"""
)


def test_a_line_that_never_ticked_is_dialled_again_when_others_of_its_open_market_tick_and_a_rare_symbol_is_not(
    vendor: Callable[..., Simulator], start: Start
) -> None:
    simulator = vendor()
    names = {"busy": [f"A{number}" for number in range(15)], "dead": [f"ZZ{number}" for number in range(15)]}
    mcm = start(LINES.format(feed=f"ws://127.0.0.1:{simulator.port}", **names))
    mcm.wait_ready()

    def is_noticed(status: Status) -> bool:
        return status.connections["dead"].errors.get("stale", 0) > 0

    status = mcm.wait(is_noticed, because="fifteen symbols of an open market are never silent", within_s=30.0)

    assert {name: line.errors for name, line in status.connections.items()} == {
        "busy": {},
        "dead": {"stale": 1},
        "rare": {},
    }
    assert "dead: silent for 1" in mcm.log("supervisor")
    mcm.wait(lambda status: status.connections["dead"].state == "live", because="it has been dialled again")

    mcm.kill(status.connections["rare"].pid)
    wait_until(lambda: mcm.log("rare").count("the market is open") == 2, because="every worker is told of the hours")
