"""The shapes of events, against the vendor's own words: verbatim samples of massive-protocol.md, section 5."""
# ruff: noqa: E501  (the samples are verbatim)

import json
from dataclasses import fields
from typing import Any

import msgspec
import pytest
from massive.websocket.models import MARKET_EVENT_MAP, Market

from mcm.core.events import EVENTS, EquityAgg, EquityMinuteAgg, EquityTrade, Tick, list_of, tick_decoder
from mcm.core.markets import MARKETS

# The keys stand in the order of live captures (5.12), or of the vendor's sample where none was captured.
IN_ORDER = [
    ("stocks", '{"ev":"T","sym":"NVDA","i":"40161","x":4,"p":225.63,"s":129,"t":1786649956459,"pt":1786649956458,"q":9059424,"z":3,"trfi":202,"trft":1786649956459,"ds":"129.0"}'),
    ("stocks", '{"ev":"T","sym":"AAPL","i":"143541","x":4,"p":297.845,"s":40,"t":1781622376036,"pt":1781622376029,"q":4938312,"z":3,"trfi":202,"trft":1781622376036,"ds":"40.0"}'),
    ("stocks", '{"ev":"Q","sym":"AAPL","i":[604],"bx":15,"ax":12,"bp":297.83,"ap":297.86,"bs":80,"as":80,"t":1781622375952,"pt":1781622375952,"q":44424715,"z":3}'),
    ("stocks", '{"ev":"A","sym":"FCX","v":4989,"av":4332125,"op":75.98,"vw":78.0894,"o":78.1,"c":78.08,"h":78.125,"l":78.07,"a":76.8404,"z":62,"s":1788877043000,"e":1788877044000,"dv":"4989.0","dav":"4332125.038360"}'),
    ("stocks", '{"ev":"AM","sym":"GTE","v":4110,"av":9470157,"op":0.4372,"vw":0.4488,"o":0.4488,"c":0.4486,"h":0.4489,"l":0.4486,"a":0.4352,"z":685,"s":1610144640000,"e":1610144700000}'),
    ("stocks", '{"ev":"LULD","h":3.63,"l":2.97,"i":[15],"z":3,"T":"ATHR","t":1788877046310003385,"q":3209681}'),
    ("stocks", '{"ev":"NOI","T":"NTEST.Q","t":1601318039223013600,"at":930,"a":"M","i":44,"x":10,"o":480,"p":440,"b":25.03}'),
    ("stocks", '{"ev":"FMV","fmv":189.22,"sym":"AAPL","t":1678220098130}'),
    ("stocks", '{"ev":"LV","val":189.22,"sym":"AAPL","t":1678220098130}'),
    ("options", '{"ev":"T","sym":"O:AMC210827C00037000","x":65,"p":1.54,"s":1,"c":[233],"t":1629820676333,"q":651921857}'),
    ("options", '{"ev":"Q","sym":"O:SPY241220P00720000","bx":302,"ax":302,"bp":9.71,"ap":9.81,"bs":17,"as":24,"t":1644506128351,"q":844090872}'),
    ("indices", '{"ev":"AM","sym":"I:SPX","op":3985.67,"o":3985.67,"c":3985.67,"h":3985.67,"l":3985.67,"s":1678220675805,"e":1678220675805}'),
    ("indices", '{"ev":"V","val":3988.5,"T":"I:SPX","t":1678220098130}'),
    ("forex", '{"ev":"C","p":"EUR/USD","x":48,"a":1.085,"b":1.0847,"i":0,"t":1706645273000}'),
    ("forex", '{"ev":"CA","pair":"USD/EUR","o":0.8687,"c":0.86889,"h":0.86889,"l":0.8686,"v":20,"s":1539145740000}'),
    ("crypto", '{"ev":"XA","pair":"BCD-USD","v":951.6112,"vw":0.7756,"z":73,"o":0.772,"c":0.784,"h":0.784,"l":0.771,"s":1610463240000,"e":1610463300000}'),
    ("crypto", '{"ev":"XT","pair":"BTC-USD","p":43575.6,"t":1706649628023,"s":4.522e-05,"c":[2],"i":"1b254a48-7258-4465-8215-2610ccf9ab21","x":23,"r":1706649628068}'),
    ("crypto", '{"ev":"XQ","pair":"BTC-USD","bp":33052.79,"bs":0.48,"ap":33073.19,"as":0.601,"t":1610462411115,"x":1,"r":1610462411128}'),
    ("crypto", '{"ev":"XL2","pair":"BTC-USD","t":1610462411115,"r":1610462411128,"x":1,"b":[[33712.71,0.18635],[33712.7,0.134]],"a":[[33718.23,3.5527483],[33718.24,0.1]]}'),
    ("futures", '{"ev":"Q","sym":"ESZ5","bp":6000.25,"bs":12,"bt":1761830000000,"ap":6000.5,"as":9,"at":1761830000001,"t":1761830000002}'),
    # Shapes by the tables of section 5, values invented.
    ("stocks", '{"ev":"T","sym":"AAPL","i":"7","x":4,"p":1.5,"s":0,"c":[37],"t":1,"pt":1,"q":2,"z":3,"ds":"0.740474"}'),
    ("stocks", '{"ev":"Q","sym":"AAPL","c":1,"i":[604],"bx":15,"ax":12,"bp":0,"ap":2,"bs":80,"as":80,"t":3,"q":4,"z":3}'),
    ("stocks", '{"ev":"AM","sym":"TCEHY","v":1,"o":50.5,"c":50.5,"h":50.5,"l":50.5,"s":60000,"e":120000,"otc":true}'),
    ("options", '{"ev":"A","sym":"O:SPY241220P00720000","v":3,"o":9.5,"c":9.5,"h":9.5,"l":9.5,"s":1000,"e":2000}'),
    ("options", '{"ev":"FMV","fmv":9.76,"sym":"O:SPY241220P00720000","t":1678220098130000000}'),
    ("indices", '{"ev":"A","sym":"I:SPX","op":3985.67,"o":3985.67,"c":3985.67,"h":3985.67,"l":3985.67,"s":1000,"e":2000}'),
    ("forex", '{"ev":"CAS","pair":"USD/EUR","o":0.8687,"c":0.8688,"h":0.8688,"l":0.8686,"v":2,"s":1000,"e":2000}'),
    ("forex", '{"ev":"AM","sym":"C:USD-EUR","v":2,"o":0.8687,"c":0.8688,"h":0.8688,"l":0.8686,"s":60000,"e":120000}'),
    ("crypto", '{"ev":"XAS","pair":"BTC-USD","v":0.5,"vw":2.5,"z":0,"o":2.5,"c":2.5,"h":2.5,"l":2.5,"s":1000,"e":2000}'),
    ("crypto", '{"ev":"LV","val":33052.79,"sym":"X:BTC-USD","t":1678220098130}'),
    ("futures", '{"ev":"T","sym":"ESZ5","p":6000.25,"s":2,"t":1761830000000,"q":77}'),
    ("futures", '{"ev":"A","sym":"ESZ5","v":9,"dv":2700112.5,"o":6000.25,"c":6000.5,"h":6000.5,"l":6000,"n":4,"s":1000,"e":2000}'),
    ("futures", '{"ev":"AM","sym":"ESZ5","v":9,"dv":2700112,"o":6000.25,"c":6000.5,"h":6000.5,"l":6000,"n":4,"s":60000,"e":120000}'),
]  # fmt: skip
# The vendor's older order; shapes of its description that live events do not have; no order at all.
OTHERWISE_ORDERED = [
    ("stocks", '{"ev":"T","sym":"MSFT","x":4,"i":"12345","z":3,"p":114.125,"s":100,"c":[0,12],"t":1536036818784,"q":3681328}'),
    ("forex", '{"ev":"C","p":"USD/CNH","x":"44","a":6.83366,"b":6.83363,"t":1536036818784}'),
    ("crypto", '{"i":7345,"x":"1","p":33021.9,"s":2,"c":[],"ev":"XT","pair":"BTC-USD","t":1610462007425}'),
]  # fmt: skip


def decode(market: str, text: str) -> Any:
    [tick] = msgspec.json.decode(f"[{text}]", type=list_of(EVENTS[market]))
    return tick


@pytest.mark.parametrize(("market", "text"), IN_ORDER)
def test_an_event_is_written_as_the_vendor_wrote_it_key_by_key(market: str, text: str) -> None:
    tick = decode(market, text)

    again = msgspec.msgpack.decode(msgspec.msgpack.encode(tick))

    assert list(again.items()) == list(json.loads(text).items())
    assert list(json.loads(msgspec.json.encode(tick))) == list(again)


@pytest.mark.parametrize(("market", "text"), OTHERWISE_ORDERED)
def test_an_event_in_another_order_keeps_its_values_and_gets_ours(market: str, text: str) -> None:
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(decode(market, text)))

    assert again == json.loads(text)
    assert next(iter(again)) == "ev"


@pytest.mark.parametrize(("market", "text"), IN_ORDER + OTHERWISE_ORDERED)
def test_a_subscriber_reads_what_a_worker_has_read(market: str, text: str) -> None:
    tick = decode(market, text)

    assert tick_decoder(market).decode(msgspec.msgpack.encode([tick])) == [tick]


@pytest.mark.parametrize(("market", "text"), IN_ORDER + OTHERWISE_ORDERED)
def test_every_attribute_has_the_official_clients_name_and_value(market: str, text: str) -> None:
    event = json.loads(text)
    official = MARKET_EVENT_MAP[Market(market)][event["ev"]].from_dict(event)

    tick = decode(market, text)

    ours = {name: getattr(tick, name) for name in vars(official)}
    assert json.loads(json.dumps(ours)) == vars(official)  # the detour makes lists of tuples


@pytest.mark.parametrize("market", MARKETS)
def test_every_kind_that_the_official_client_knows_has_all_its_attributes_here(market: str) -> None:
    for kind in EVENTS[market]:
        official = MARKET_EVENT_MAP[Market(market)][kind.event_type]

        assert {field.name for field in fields(official)} <= set(dir(kind)), kind


@pytest.mark.parametrize("market", MARKETS)
def test_a_market_has_one_kind_for_each_of_its_channels_and_a_sample_of_it_is_tested(market: str) -> None:
    tested = {type(decode(of, text)) for of, text in IN_ORDER}

    assert [kind.event_type for kind in EVENTS[market]] == list(MARKETS[market].channels)
    assert set(EVENTS[market]) <= tested


@pytest.mark.parametrize("kind", list(dict.fromkeys(kind for kinds in EVENTS.values() for kind in kinds)))
def test_only_the_symbol_is_required(kind: type[Tick]) -> None:
    needed = [field for field in msgspec.structs.fields(kind) if field.required]

    tick = kind(symbol="X")

    assert [field.name for field in needed] == ["symbol"]
    assert tick.symbol == "X"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(tick)) == {"ev": kind.event_type, needed[0].encode_name: "X"}


def test_what_came_with_the_fields_of_2026_is_named() -> None:
    market, text = IN_ORDER[0]

    trade = decode(market, text)

    assert (trade.participant_timestamp, trade.fractional_shares) == (1786649956458, "129.0")


def test_the_undocumented_key_of_a_forex_quote_is_kept() -> None:
    assert decode("forex", '{"ev":"C","p":"EUR/USD","i":0}').indicators == 0
    assert decode("forex", '{"ev":"C","p":"EUR/USD","i":[1,2]}').indicators == [1, 2]


def test_stocks_and_futures_differ_under_one_tag() -> None:
    bar = '{"ev":"A","sym":"X","dv":%s}'

    assert decode("stocks", bar % '"4989.0"').fractional_volume == "4989.0"
    assert decode("futures", bar % "4989.5").total_value == 4989.5


def test_both_windows_of_a_bar_are_one_kind_to_who_does_not_care() -> None:
    bar = decode("stocks", '{"ev":"AM","sym":"GTE"}')

    assert isinstance(bar, EquityMinuteAgg)
    assert isinstance(bar, EquityAgg)
    assert isinstance(bar, Tick)


def test_a_size_stays_as_it_was_written_and_a_price_is_a_float() -> None:
    trade = decode("stocks", '{"ev":"T","sym":"A","p":12,"s":12}')

    assert isinstance(trade, EquityTrade)
    assert (type(trade.price), type(trade.size)) == (float, int)


@pytest.mark.parametrize(("key", "number"), [("s", 2**63), ("q", 2**63), ("i", 10**30), ("t", -(2**63) - 1)])
def test_an_integer_that_msgpack_cannot_write_is_refused_at_the_door(key: str, number: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode("stocks", f'{{"ev":"T","sym":"A","{key}":{number}}}')
