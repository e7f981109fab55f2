"""What is traded at the stand-in vendor: well-known symbols per market, their price level and price step.

Any other symbol may be named, too; it gets a level of its own from its name.
"""

from dataclasses import dataclass

from mcm.simulator.chance import key_of

__all__ = ["Instrument", "instrument", "universe"]


@dataclass(frozen=True)
class Instrument:
    """Attributes:
    level: price around which the tape walks.
    steps: price steps per unit: 100 is one cent, 4 is a quarter point.
    """

    level: float
    steps: int


_STOCKS = {
    "AAPL": 297, "MSFT": 511, "NVDA": 225, "AMZN": 231, "GOOGL": 284, "GOOG": 285, "META": 655, "TSLA": 402,
    "AVGO": 348, "BRK.B": 497, "LLY": 905, "JPM": 311, "V": 338, "XOM": 117, "UNH": 322, "MA": 548, "COST": 918,
    "HD": 371, "PG": 148, "JNJ": 191, "WMT": 102, "NFLX": 1105, "ABBV": 222, "BAC": 53, "CRM": 245, "ORCL": 221,
    "CVX": 155, "KO": 70, "AMD": 246, "PEP": 145, "CSCO": 77, "MRK": 90, "ADBE": 330, "TMO": 580, "LIN": 425,
    "MCD": 304, "ABT": 127, "INTC": 37, "DIS": 106, "QCOM": 174, "IBM": 306, "GE": 301, "CAT": 560, "F": 13,
    "T": 26, "PFE": 25, "UBER": 92, "SPY": 671, "QQQ": 609, "IWM": 242,
}  # fmt: skip
_INDICES = {
    "I:SPX": 6737, "I:NDX": 25059, "I:DJI": 47632, "I:RUT": 2420, "I:VIX": 17.4, "I:COMP": 23006, "I:OEX": 3368,
    "I:XAU": 289, "I:SOX": 7150, "I:NYA": 21560, "I:XSP": 673, "I:VXN": 22.9, "I:MID": 3260, "I:SML": 1450,
    "I:DJT": 16400, "I:DJU": 1101, "I:BKX": 154, "I:XOI": 2090, "I:HGX": 745, "I:UTY": 1160,
}  # fmt: skip
_FOREX = {
    "EUR/USD": 1.0850, "USD/JPY": 151.42, "GBP/USD": 1.3140, "AUD/USD": 0.6531, "USD/CAD": 1.4052, "USD/CHF": 0.8049,
    "NZD/USD": 0.5668, "EUR/JPY": 176.11, "EUR/GBP": 0.8801, "EUR/CHF": 0.9289, "GBP/JPY": 199.3, "AUD/JPY": 99.9,
    "USD/MXN": 18.43, "USD/SEK": 9.48, "USD/NOK": 10.13, "USD/SGD": 1.303, "USD/HKD": 7.773, "USD/CNH": 7.121,
    "USD/ZAR": 17.25, "USD/TRY": 42.2, "EUR/AUD": 1.772, "EUR/CAD": 1.623, "GBP/CHF": 1.055, "XAU/USD": 4075.1,
    "XAG/USD": 50.6,
}  # fmt: skip
_CRYPTO = {
    "BTC-USD": 101_950, "ETH-USD": 3_441, "SOL-USD": 157.2, "XRP-USD": 2.31, "DOGE-USD": 0.1741, "ADA-USD": 0.561,
    "AVAX-USD": 17.4, "LINK-USD": 15.6, "LTC-USD": 101.2, "BCH-USD": 509, "DOT-USD": 3.11, "UNI-USD": 8.2,
    "ATOM-USD": 3.04, "XLM-USD": 0.283, "ETC-USD": 15.9, "FIL-USD": 2.4, "NEAR-USD": 2.71, "APT-USD": 3.2,
    "ARB-USD": 0.274, "SHIB-USD": 0.00000981, "BTC-EUR": 88_010, "ETH-EUR": 2_971, "ETH-BTC": 0.03375,
    "SOL-BTC": 0.001542, "USDT-USD": 0.9999,
}  # fmt: skip
_FUTURES = {
    "ES": (6757, 4), "NQ": (25140, 4), "YM": (47700, 1), "RTY": (2428, 10), "CL": (60.2, 100), "NG": (4.36, 1000),
    "GC": (4080, 10), "SI": (50.7, 200), "HG": (5.06, 2000), "ZN": (112.6, 64), "ZB": (117.2, 32), "ZF": (109.2, 128),
    "ZT": (104.1, 256), "ZC": (4.34, 400), "ZS": (11.2, 400), "ZW": (5.36, 400), "6E": (1.157, 20000),
    "6B": (1.316, 10000), "6J": (0.00652, 2_000_000), "BTC": (102_400, 1), "MES": (6757, 4), "MNQ": (25140, 4),
}  # fmt: skip


def _contracts() -> list[str]:
    """Five underlyings, one expiry, five strikes, calls and puts: fifty options in OSI spelling."""
    return [
        f"O:{underlying}261218{side}{round(_STOCKS[underlying] * moneyness / 5) * 5 * 1000:08d}"
        for underlying in ("SPY", "QQQ", "AAPL", "NVDA", "TSLA")
        for side in "CP"
        for moneyness in (0.9, 0.95, 1, 1.05, 1.1)
    ]


_SYMBOLS: dict[str, list[str]] = {
    "stocks": list(_STOCKS),
    "options": _contracts(),
    "indices": list(_INDICES),
    "forex": list(_FOREX),
    "crypto": list(_CRYPTO),
    "futures": [f"{root}Z6" for root in _FUTURES],
}


def universe(market: str, channel: str) -> list[str]:
    """The symbols that ``*`` stands for, in the spelling of that channel, before anybody has named others.

    Launchpad bars and values spell currencies with a prefix (massive-protocol 5.3 and 5.6).
    """
    symbols = _SYMBOLS[market]
    if market == "forex" and channel in {"AM", "LV"}:
        return ["C:" + symbol.replace("/", "-") for symbol in symbols]
    if market == "forex" and channel == "FMV":
        return ["C:" + symbol.replace("/", "") for symbol in symbols]
    if market == "crypto" and channel in {"AM", "LV", "FMV"}:
        return ["X:" + symbol for symbol in symbols]
    return symbols


def instrument(market: str, symbol: str) -> Instrument:
    """Level and step of *symbol*, whether or not anybody has heard of it."""
    bare = symbol.removeprefix("C:").removeprefix("X:")
    chance = key_of(market, bare) % 10_000 / 10_000
    match market:
        case "stocks":
            return Instrument(_STOCKS.get(bare, 5 + 400 * chance), 100)
        case "options":
            return Instrument(0.5 + 20 * chance, 100)
        case "indices":
            return Instrument(_INDICES.get(bare, 100 + 5_000 * chance), 100)
        case "forex":
            level = _FOREX.get(bare.replace("-", "/")) or _FOREX.get(bare[:3] + "/" + bare[-3:], 0.5 + chance)
            return Instrument(level, 1_000 if level > 50 else 100_000)
        case "crypto":
            level = _CRYPTO.get(bare, 0.1 + 100 * chance)
            return Instrument(level, 100 if level > 10 else 10_000 if level > 0.1 else 1_000_000_000)
        case _:
            level, steps = _FUTURES.get(bare[:-2], (50 + 1_000 * chance, 4))
            return Instrument(level, steps)
