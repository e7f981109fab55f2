"""What people see of a tick; the events are verbatim samples of massive-protocol.md, section 5."""
# ruff: noqa: E501  (the samples are verbatim)

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.display import clock, describe
from mcm.core.events import EVENTS, Tick, list_of

SAMPLES = [
    ("stocks", '{"ev":"T","sym":"MSFT","x":4,"i":"12345","z":3,"p":114.125,"s":100,"c":[0,12],"t":1536036818784,"q":3681328}', "114.125 × 100"),
    ("stocks", '{"ev":"T","sym":"NVDA","i":"40161","x":4,"p":225.63,"s":129,"t":1786649956459,"pt":1786649956458,"q":9059424,"z":3,"trfi":202,"trft":1786649956459,"ds":"129.0"}', "225.63 × 129"),
    ("options", '{"ev":"T","sym":"O:AMC210827C00037000","x":65,"p":1.54,"s":1,"c":[233],"t":1629820676333,"q":651921857}', "1.54 × 1"),
    ("stocks", '{"ev":"Q","sym":"AAPL","i":[604],"bx":15,"ax":12,"bp":297.83,"ap":297.86,"bs":80,"as":80,"t":1781622375952,"pt":1781622375952,"q":44424715,"z":3}', "bid 297.83 × 80   ask 297.86 × 80"),
    ("options", '{"ev":"Q","sym":"O:SPY241220P00720000","bx":302,"ax":302,"bp":9.71,"ap":9.81,"bs":17,"as":24,"t":1644506128351,"q":844090872}', "bid 9.71 × 17   ask 9.81 × 24"),
    ("stocks", '{"ev":"A","sym":"FCX","v":4989,"av":4332125,"op":75.98,"vw":78.0894,"o":78.1,"c":78.08,"h":78.125,"l":78.07,"a":76.8404,"z":62,"s":1788877043000,"e":1788877044000,"dv":"4989.0","dav":"4332125.038360"}', "14:17:23 o 78.10 h 78.125 l 78.07 c 78.08 v 4,989"),
    ("stocks", '{"ev":"AM","sym":"GTE","v":4110,"av":9470157,"op":0.4372,"vw":0.4488,"o":0.4488,"c":0.4486,"h":0.4489,"l":0.4486,"a":0.4352,"z":685,"s":1610144640000,"e":1610144700000}', "22:24:00 o 0.4488 h 0.4489 l 0.4486 c 0.4486 v 4,110"),
    ("indices", '{"ev":"AM","sym":"I:SPX","op":3985.67,"o":3985.67,"c":3985.67,"h":3985.67,"l":3985.67,"s":1678220675805,"e":1678220675805}', "20:24:35 o 3,985.67 h 3,985.67 l 3,985.67 c 3,985.67"),
    ("stocks", '{"ev":"LULD","h":3.63,"l":2.97,"i":[15],"z":3,"T":"ATHR","t":1788877046310003385,"q":3209681}', "low 2.97   high 3.63   indicators [15]"),
    ("stocks", '{"ev":"NOI","T":"NTEST.Q","t":1601318039223013600,"at":930,"a":"M","i":44,"x":10,"o":480,"p":440,"b":25.03}', "imbalance 480   paired 440"),
    ("stocks", '{"ev":"FMV","fmv":189.22,"sym":"AAPL","t":1678220098130}', "fair value 189.22"),
    ("stocks", '{"ev":"LV","val":189.22,"sym":"AAPL","t":1678220098130}', "value 189.22"),
    ("indices", '{"ev":"V","val":3988.5,"T":"I:SPX","t":1678220098130}', "value 3,988.50"),
    ("forex", '{"ev":"C","p":"EUR/USD","x":48,"a":1.085,"b":1.0847,"i":0,"t":1706645273000}', "bid 1.0847   ask 1.085"),
    ("forex", '{"ev":"CA","pair":"USD/EUR","o":0.8687,"c":0.86889,"h":0.86889,"l":0.8686,"v":20,"s":1539145740000}', "04:29:00 o 0.8687 h 0.86889 l 0.8686 c 0.86889 v 20"),
    ("crypto", '{"ev":"XA","pair":"BCD-USD","v":951.6112,"vw":0.7756,"z":73,"o":0.772,"c":0.784,"h":0.784,"l":0.771,"s":1610463240000,"e":1610463300000}', "14:54:00 o 0.772 h 0.784 l 0.771 c 0.784 v 951.6112"),
    ("crypto", '{"ev":"XT","pair":"BTC-USD","p":43575.6,"t":1706649628023,"s":4.522e-05,"c":[2],"i":"1b254a48-7258-4465-8215-2610ccf9ab21","x":23,"r":1706649628068}', "43,575.60 × 4.522e-05"),
    ("crypto", '{"ev":"XQ","pair":"BTC-USD","bp":33052.79,"bs":0.48,"ap":33073.19,"as":0.601,"t":1610462411115,"x":1,"r":1610462411128}', "bid 33,052.79 × 0.48   ask 33,073.19 × 0.601"),
    ("crypto", '{"ev":"XL2","pair":"BTC-USD","t":1610462411115,"r":1610462411128,"x":1,"b":[[33712.71,0.18635],[33712.7,0.134]],"a":[[33718.23,3.5527483],[33718.24,0.1]]}', "best bid 33,712.71 × 0.18635   best ask 33,718.23 × 3.5527483"),
    ("futures", '{"ev":"Q","sym":"ESZ5","bp":6000.25,"bs":12,"bt":1761830000000,"ap":6000.5,"as":9,"at":1761830000001,"t":1761830000002}', "bid 6,000.25 × 12   ask 6,000.50 × 9"),
    # Shapes by the tables of section 5, values invented.
    ("stocks", '{"ev":"T","sym":"AAPL","i":"7","x":4,"p":1.5,"s":0,"c":[37],"t":1,"pt":1,"q":2,"z":3,"ds":"0.740474"}', "1.50 × 0.740474"),
    ("forex", '{"ev":"CAS","pair":"USD/EUR","o":0.8687,"c":0.8688,"h":0.8688,"l":0.8686,"v":2,"s":1000,"e":2000}', "00:00:01 o 0.8687 h 0.8688 l 0.8686 c 0.8688 v 2"),
    ("crypto", '{"ev":"XAS","pair":"BTC-USD","v":0.5,"vw":2.5,"z":0,"o":2.5,"c":2.5,"h":2.5,"l":2.5,"s":1000,"e":2000}', "00:00:01 o 2.50 h 2.50 l 2.50 c 2.50 v 0.5"),
    ("futures", '{"ev":"T","sym":"ESZ5","p":6000.25,"s":2,"t":1761830000000,"q":77}', "6,000.25 × 2"),
    ("futures", '{"ev":"A","sym":"ESZ5","v":9,"dv":2700112.5,"o":6000.25,"c":6000.5,"h":6000.5,"l":6000,"n":4,"s":1000,"e":2000}', "00:00:01 o 6,000.25 h 6,000.50 l 6,000.00 c 6,000.50 v 9"),
    ("futures", '{"ev":"AM","sym":"ESZ5","v":9,"dv":2700112,"o":6000.25,"c":6000.5,"h":6000.5,"l":6000,"n":4,"s":60000,"e":120000}', "00:01:00 o 6,000.25 h 6,000.50 l 6,000.00 c 6,000.50 v 9"),
]  # fmt: skip
KINDS = list(dict.fromkeys(kind for kinds in EVENTS.values() for kind in kinds))


@pytest.fixture(autouse=True, scope="module")
def _greenwich() -> Any:
    """Times of day are shown in the local time zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def decode(market: str, text: str) -> Tick:
    [tick] = msgspec.json.decode(f"[{text}]", type=list_of(EVENTS[market]))
    assert isinstance(tick, Tick)
    return tick


@pytest.mark.parametrize(("market", "text", "words"), SAMPLES)
def test_a_tick_is_described_in_one_short_line(market: str, text: str, words: str) -> None:
    described = describe(decode(market, text))

    assert described == words
    assert len(described) < 80


def test_a_sample_of_every_kind_is_described() -> None:
    assert {type(decode(market, text)) for market, text, _ in SAMPLES} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tick_of_which_only_the_symbol_is_known_is_described_without_its_record(kind: type[Tick]) -> None:
    described = describe(kind(symbol="X"))

    assert kind.__name__ not in described
    assert "None" not in described


@given(st.sampled_from(SAMPLES), st.data())
def test_whatever_the_vendor_leaves_out_a_tick_is_described_in_one_short_line(
    sample: tuple[str, str, str], data: st.DataObject
) -> None:
    market, text, _ = sample
    event = json.loads(text)
    (symbol,) = [field.encode_name for field in msgspec.structs.fields(decode(market, text)) if field.required]
    kept = data.draw(st.sets(st.sampled_from(sorted(event)))) | {"ev", symbol}

    described = describe(decode(market, json.dumps({key: value for key, value in event.items() if key in kept})))

    assert "\n" not in described
    assert len(described) < 80


def any_tick(kind: type[Tick]) -> st.SearchStrategy[Tick]:
    return st.builds(kind, **{field.name: any_value(field) for field in msgspec.structs.fields(kind)})


def any_value(field: Any) -> st.SearchStrategy[Any]:
    if field.required:
        return st.just("X")
    if field.name == "start_timestamp":
        return st.none() | st.integers(0, 253_402_214_400_000)  # to the last day of the year 9999
    return st.from_type(field.type)


@given(st.sampled_from(KINDS).flatmap(any_tick))
def test_no_value_of_a_tick_makes_describing_it_fail(tick: Tick) -> None:
    assert describe(tick)


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [(0, "00:00:00.000"), (1_786_649_956_459_999_999, "19:39:16.459"), (86_399_999_999_999, "23:59:59.999")],
)
def test_a_time_of_day_is_cut_to_the_millisecond(nanoseconds: int, shown: str) -> None:
    assert clock(nanoseconds) == shown
