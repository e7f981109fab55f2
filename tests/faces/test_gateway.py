"""The gateway, as the vendor's own client and other programs see it."""

import itertools
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from massive.exceptions import AuthError
from websockets.exceptions import InvalidStatus

from mcm.core.control import GatewayToken
from mcm.simulator.launch import Simulator
from tests.faces.gateway import TICKS_PER_S, GatewayProcess, Line, Program, Scene, by_symbol, is_end_of, pairs_in_order
from tests.processes.stack import Mcm, Start, wait_until

Programs = Callable[..., Program]
Gateways = Callable[..., GatewayProcess]

ITEMS = {
    "stocks": ["T.AAPL", "Q.MSFT", "A.NVDA", "AM.BRK.B"],
    "options": ["T.O:SPY261218C00670000", "Q.O:SPY261218C00670000", "A.O:AAPL261218C00295000"],
    "indices": ["V.I:SPX", "A.I:NDX", "V.I:VIX"],
    "forex": ["C.EUR/USD", "C.USD/JPY", "CAS.EUR/USD"],
    "crypto": ["XT.BTC-USD", "XQ.ETH-USD", "XAS.BTC-USD"],
}
TEN = ["T.AAPL", "T.MSFT", "T.JPM", "T.XOM", "T.KO", "T.GE", "T.CAT", "T.IBM", "T.DIS", "T.SPY"]
ONE_LINE = """
[upstream]
feed = "{feed}"
[dashboard]
enabled = false
[gateway]
listen = "{listen}"
[gateway.tokens.alice]
token_env = "TOKEN_OF_ALICE"
topics = ["stocks.T.*"]
[[connections]]
name = "only"
"""
ALL = {"stocks": "T.*", "options": "T.*", "indices": "V.*", "forex": "C.*", "crypto": "XT.*"}


@pytest.fixture(autouse=True)
def _tape_runs(request: pytest.FixtureRequest) -> None:
    if "scene" in request.fixturenames:
        simulator = request.getfixturevalue("scene").simulator
        simulator.remote.resume()
        simulator.remote.pace(TICKS_PER_S)


# --- first, while no line carries a whole channel: of such a gap nothing is fetched -----------------------------------


def test_a_drop_upstream_costs_what_nobody_has_read_and_back_filled_events_come_only_if_asked_for(
    scene: Scene, program: Programs, gateway: Gateways
) -> None:
    symbols = [item.partition(".")[2] for item in TEN]
    asking = gateway(tokens=(GatewayToken("please-everything", "all", ("*",), backfilled=True),))
    one = program(scene.address, "stocks", *TEN)
    other = program(asking.address, "stocks", *TEN, key="please-everything")
    wait_until(lambda: by_symbol(one.events).keys() == by_symbol(other.events).keys(), because="both hear all")
    before = scene.mcm.status().connections["stocks"].reconnects

    scene.simulator.remote.drop(market="stocks", mode="abort", key="simulator")
    scene.mcm.wait(
        lambda status: (
            status.connections["stocks"].state == "live" and status.connections["stocks"].reconnects > before
        ),
        because="the line is back",
    )
    one.wait_for(50)

    missing: dict[str, set[int]] = {}
    wait_for_the_last(scene, one, *symbols)
    for symbol in symbols:
        tape, numbers = on_tape(scene, symbol), one.numbers(symbol)
        places = [tape.index(number) for number in numbers]
        assert pairs_in_order(places), f"{symbol}: something came twice, or out of its time"
        assert sum(later != place + 1 for place, later in itertools.pairwise(places)) <= 1
        missing[symbol] = set(tape[places[0] :]) - set(numbers)
    assert sum(map(len, missing.values())) > 0, "the drop has cost something"
    wait_until(
        lambda: all(missing[symbol] <= set(other.numbers(symbol)) for symbol in symbols),
        because="whoever asks for it gets what was missing",
    )
    for symbol in symbols:
        assert len(other.numbers(symbol)) == len(set(other.numbers(symbol)))
        assert not missing[symbol] & set(one.numbers(symbol)), "nobody else does"


# --- the same as without mcm -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", ITEMS)
def test_the_vendors_client_receives_what_it_receives_from_the_vendor(
    scene: Scene, program: Programs, market: str
) -> None:
    vendor = f"127.0.0.1:{scene.simulator.port}"
    direct = [program(vendor, market, *ITEMS[market], key="d1"), program(vendor, market, ALL[market], key="d2")]
    for one in direct:
        one.wait_for(10)
    through = [program(scene.address, market, *ITEMS[market]), program(scene.address, market, ALL[market])]
    for one in through:
        one.wait_for(60)
    scene.simulator.remote.pause()

    for there, here in zip(direct, through, strict=True):

        def is_equal(there: Program = there, here: Program = here) -> bool:
            came, sent = by_symbol(here.events), by_symbol(there.events)
            return bool(came) and all(is_end_of(came[name], sent[name]) for name in came)

        wait_until(is_equal, because="every symbol ends with the same events")
        kinds = {type(event) for event in here.events}
        assert kinds <= {type(event) for event in there.events}
        assert len(by_symbol(here.events)) >= 2
    assert len(by_symbol(through[1].events)) >= 20, "* brings every symbol"


def test_events_have_the_vendors_keys_in_the_vendors_order_and_the_values_of_the_tape(scene: Scene) -> None:
    for market, items in ITEMS.items():
        with Line(scene.address, f"/{market}") as line:
            line.say("auth", "any")
            line.say("subscribe", ",".join(items))
            line.read_events(15)
        topic = f"{market}.{items[0]}"
        tape = [json.loads(text) for text in scene.simulator.remote.tape(topic)]
        came = [event for event in line.events if event["ev"] == items[0].partition(".")[0]]
        came = [event for event in came if items[0].partition(".")[2] in event.values()]
        first = tape.index(came[0])
        sent = tape[first : first + len(came)]
        assert came == sent
        assert [list(event) for event in came] == [list(event) for event in sent]
        assert all(len(frame) < 1_000_000 for frame in line.frames)


def test_a_conversation_goes_byte_for_byte_as_with_the_vendor(scene: Scene) -> None:
    scene.simulator.remote.pause()
    said: dict[str, list[str]] = {}
    for name, address in (("vendor", f"127.0.0.1:{scene.simulator.port}"), ("gateway", scene.address)):
        with Line(address) as line:
            line.read_frame()
            line.send(
                b'{"action":"auth","params":"K"}',  # binary, and nothing waits for an answer
                '{"action":"subscribe","params":"T.AAPL, Q.AAPL"}',
                b'{"action": "subscribe", "params": "T.AAPL,ZZ.A,A.MSFT"}',
                '{"action":"unsubscribe","params":"Q.AAPL"}',
            )
            line.read_until_said("success", "unsubscribed to: Q.AAPL")
            said[name] = line.frames

    assert said["gateway"] == said["vendor"]
    assert said["gateway"][:2] == [
        '[{"ev":"status","status":"connected","message":"Connected Successfully"}]',
        '[{"ev":"status","status":"auth_success","message":"authenticated"}]',
    ]


# --- whatever dies ---------------------------------------------------------------------------------------------------


def on_tape(scene: Scene, symbol: str) -> list[int]:
    return [json.loads(text)["q"] for text in scene.simulator.remote.tape(f"stocks.T.{symbol}")]


def wait_for_the_last(scene: Scene, one: Program, *symbols: str) -> None:
    """Stop the tape, and wait until its last event of every symbol is there."""
    scene.simulator.remote.pause()
    last = {symbol: on_tape(scene, symbol)[-1] for symbol in symbols}
    wait_until(
        lambda: all(one.numbers(symbol)[-1:] == [number] for symbol, number in last.items()),
        because="the last event of every symbol is received",
    )


def test_nothing_is_lost_or_doubled_when_the_router_is_killed(scene: Scene, program: Programs) -> None:
    one = program(scene.address, "stocks", "T.AAPL", "T.MSFT", "T.JPM")
    one.wait_for(100)
    router = scene.mcm.status().router

    scene.mcm.kill(router.pid)
    scene.mcm.wait(
        lambda status: status.state == "ready" and status.router.restarts > router.restarts, because="it is back"
    )
    one.wait_for(200)

    wait_for_the_last(scene, one, "AAPL", "MSFT", "JPM")
    for symbol in ("AAPL", "MSFT", "JPM"):
        numbers, tape = one.numbers(symbol), on_tape(scene, symbol)
        assert numbers == tape[tape.index(numbers[0]) :], f"{symbol}: not exactly what the tape has"


def test_clients_of_a_gateway_that_is_killed_come_back_by_themselves(scene: Scene, program: Programs) -> None:
    one = program(scene.address, "stocks", "T.AAPL", "T.XOM")
    one.wait_for(100)
    before = scene.mcm.status().gateway
    assert before is not None
    dials = len(scene.simulator.remote.report().dials)

    scene.mcm.kill(before.pid)
    after = scene.mcm.wait(
        lambda status: (
            status.gateway is not None and status.gateway.restarts == before.restarts + 1 and status.gateway.clients > 0
        ),
        because="it was started again, and the client has come back",
    ).gateway
    assert after is not None
    one.wait_for(100)

    assert after.address == before.address
    assert len(scene.simulator.remote.report().dials) == dials, "no line upstream was touched"
    wait_for_the_last(scene, one, "AAPL", "XOM")
    for symbol in ("AAPL", "XOM"):
        numbers, tape = one.numbers(symbol), on_tape(scene, symbol)
        places = [tape.index(number) for number in numbers]
        holes = [(place, later) for place, later in itertools.pairwise(places) if later != place + 1]
        assert pairs_in_order(places), f"{symbol}: something came twice or out of order"
        assert len(holes) <= 1, "only what ticked while it was not connected is missing"


# --- on demand -------------------------------------------------------------------------------------------------------


def test_what_nobody_held_is_subscribed_for_as_long_as_a_client_holds_it(scene: Scene, gateway: Gateways) -> None:
    own = gateway(linger_s=1.0)

    def carried() -> set[str]:
        """Which of both the vendor is asked for."""
        held = {item for one in scene.simulator.remote.report().connections if not one.ending for item in one.items}
        return held & {"Q.LIN", "Q.TMO"}

    def leased() -> int:
        return scene.mcm.status().leases.get(own.holder, 0)

    assert carried() == set()
    with Line(own.address) as first, Line(own.address) as second:
        for line, items in ((first, "Q.LIN,Q.TMO"), (second, "Q.TMO")):
            line.say("auth", "any")
            line.say("subscribe", items)
            line.read_until_said("success", "subscribed to: Q.TMO")
        first.read_events(3)
        assert leased() == 2
        wait_until(lambda: carried() == {"Q.LIN", "Q.TMO"}, because="both are subscribed upstream")
        first.say("unsubscribe", "Q.LIN,Q.TMO")
        first.read_until_said("success", "unsubscribed to: Q.TMO")
        wait_until(lambda: carried() == {"Q.TMO"}, because="nobody holds Q.LIN any more, after a while")
        second.read_events(3)

    left = time.monotonic()
    wait_until(lambda: leased() == 0, because="nobody holds anything")
    assert time.monotonic() - left > 0.5, "it is carried on for a while"
    wait_until(lambda: carried() == set(), because="upstream, too")


def test_a_gateway_that_is_killed_leaves_a_lease_that_ends_by_itself(scene: Scene, gateway: Gateways) -> None:
    own = gateway()
    with Line(own.address) as line:
        line.say("auth", "any")
        line.say("subscribe", "T.ABT")
        line.read_until_said("success", "subscribed to: T.ABT")
        killed = own.holder
        own.process.kill()

        assert scene.mcm.status().leases[killed] == 1  # core.live ends it after 30 s; test_live

    with Line(scene.address) as line:
        line.say("auth", "any")
        line.say("subscribe", "T.ABT")
        line.read_until_said("success", "subscribed to: T.ABT")
        line.read_events(1)


def test_a_topic_that_nobody_can_carry_is_named(scene: Scene) -> None:
    with Line(scene.address, "/futures/cme") as line:
        line.say("auth", "any")
        line.say("subscribe", "T.ESZ6")
        line.read_until_said("error")

    assert line.statuses[-1][1].startswith("T.ESZ6: ")
    scene.mcm.wait(lambda status: not status.unplaced, because="it is not asked for any longer")


# --- who may come in -------------------------------------------------------------------------------------------------


def test_a_token_opens_what_it_is_for(scene: Scene, program: Programs, gateway: Gateways) -> None:
    own = gateway(
        tokens=(
            GatewayToken("token-of-alice", "alice", ("stocks.T.*",)),
            GatewayToken("token-of-screen", "screen", ("*",), conflate_ms=500),
        )
    )

    stranger = program(own.address, "stocks", "T.AAPL", key="somebody")
    wait_until(lambda: not stranger.is_alive(), because="its key opens nothing")
    assert isinstance(stranger.problem, AuthError)
    assert str(stranger.problem) == "authentication failed"
    with Line(own.address) as line:
        line.say("auth", "somebody")
        line.read_to_the_end()
    assert line.statuses[-1] == ("auth_failed", "authentication failed")
    assert line.code is None, "closed as the vendor does, without a close frame"

    with Line(own.address) as line:
        line.say("auth", "token-of-alice")
        line.say("subscribe", "Q.AAPL,T.AAPL")
        line.read_until_said("success", "subscribed to: T.AAPL")
        line.read_events(1)
    assert ("error", "not authorized") in line.statuses
    assert {event["ev"] for event in line.events} == {"T"}

    with Line(own.address) as line:
        line.say("auth", "token-of-screen")
        line.say("subscribe", "T.AAPL")
        line.read_events(4)
    times = [event["t"] for event in line.events]
    assert times[3] - times[0] > 1_000, "at most one in half a second"
    own.process.terminate()


def test_without_tokens_web_pages_of_other_origins_are_kept_out(scene: Scene) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        Line(scene.address, origin="https://example.com")
    with Line(scene.address, origin="http://localhost:3000") as line:
        line.read_frame()


# --- slow, not ready, taken ------------------------------------------------------------------------------------------


def test_a_client_that_does_not_read_is_closed_and_the_others_notice_nothing(
    scene: Scene, program: Programs, gateway: Gateways
) -> None:
    own = gateway(patience_s=1.0)
    other = program(own.address, "stocks", "T.AAPL")
    other.wait_for(10)

    with Line(own.address, max_queue=1) as line:
        line.say("auth", "any")
        line.say("subscribe", "T.*,Q.*")
        line.read_until_said("success", "subscribed to: Q.*")
        scene.simulator.remote.pace(8_000)
        own.wait("slow", 1, within_s=30)
        scene.simulator.remote.pace(TICKS_PER_S)
        line.read_to_the_end()

    assert line.statuses[-1][0] == "slow_consumer"
    assert line.code == 1008
    other.wait_for(20)
    wait_for_the_last(scene, other, "AAPL")
    numbers, tape = other.numbers("AAPL"), on_tape(scene, "AAPL")
    assert numbers == tape[tape.index(numbers[0]) :]


def test_pings_are_answered_under_load(scene: Scene) -> None:
    with Line(scene.address) as line:
        line.say("auth", "any")
        line.say("subscribe", "T.*,Q.*")
        line.read_events(10)
        scene.simulator.remote.pace(4_000)
        for _ in range(5):
            sent = time.monotonic()
            pong = line.socket.ping()
            while not pong.is_set():
                line.read_frame()
            assert time.monotonic() - sent < 2


def test_a_port_that_is_taken_stops_nothing_and_before_mcm_is_ready_clients_are_refused(
    vendor: Callable[..., Simulator], start: Start, mcm: Mcm, program: Programs
) -> None:
    simulator = vendor()
    simulator.remote.refuse_upgrades()
    mcm.environment["TOKEN_OF_ALICE"] = "nobody-else-knows-it"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        start(ONE_LINE.format(feed=f"ws://127.0.0.1:{simulator.port}", listen=address), pattern="connections? to")
        status = mcm.wait(
            lambda status: status.gateway is not None and bool(status.gateway.problem), because="it says so"
        )
        assert status.gateway is not None
        assert (status.gateway.state, status.gateway.address) == ("ready", "")
        assert f"{address}: Address already in use" in status.gateway.problem
        assert mcm.log("supervisor").count("Address already in use") == 1
    mcm.wait(
        lambda status: status.gateway is not None and status.gateway.address == address, because="the port is free now"
    )

    with pytest.raises(InvalidStatus, match="503"):
        Line(address)
    early = program(address, "stocks", "T.AAPL", key="nobody-else-knows-it")
    simulator.remote.accept_upgrades()
    mcm.cli("restart", "only")  # it would dial by itself, after its back-off
    early.wait_for(3)
    status = mcm.wait_ready()
    assert status.gateway is not None
    assert status.gateway.problem == ""
    seen = [mcm.logs(), *mcm.processes().values(), mcm.cli("status", "--json").stdout]
    seen.append(Path(f"/proc/{status.gateway.pid}/environ").read_bytes().decode(errors="replace"))
    assert not any("nobody-else-knows-it" in text for text in seen)
