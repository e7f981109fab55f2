"""Checks of the way to the upstream, step by step: name, TCP, TLS, HTTP with its clock, then key and channels.

Each step stands on the one before; where one fails, the rest is named as not checked.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp

from mcm import locks
from mcm.configuration import Configuration
from mcm.core import massive as vendor
from mcm.core.diagnosis import (
    Answer,
    Finding,
    judge_certificate,
    judge_clock,
    judge_entitlements,
    ok,
    problem,
    warning,
)
from mcm.core.dialling import Reason
from mcm.core.markets import MARKETS
from mcm.core.session import Accepted, Acknowledged, Ending, Greeting, Refused, Said
from mcm.core.settings_values import SIMULATOR
from mcm.core.topics import WILDCARD
from mcm.doctor import Patient

__all__ = ["upstream"]

STEP_S = 5.0
CHANNEL_S = 2.0  # an upstream says nothing at all about channels that it does not know
CLOSE_S = 1.0


def upstream(patient: Patient) -> Iterator[Finding]:
    """The whole way, as far as it goes."""
    configuration = patient.configuration
    if configuration is None:
        yield warning("upstream", "not checked: the configuration cannot be read", "mend that first")
    elif configuration.settings.upstream.feed == SIMULATOR:
        yield ok("upstream", "the built-in simulator, which starts with mcm")
    else:
        yield from asyncio.run(_examine(configuration, dials=patient.may_dial and patient.status is None))
        if not patient.may_dial and patient.status is None:
            yield warning("key", "not checked, nor its channels: no connection was to be opened", "leave out --no-dial")


class _Broken(Exception):
    """The way ends here."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.finding = finding


async def _examine(configuration: Configuration, *, dials: bool) -> list[Finding]:
    found: list[Finding] = []
    markets = dict.fromkeys(one.market for one in configuration.settings.connections if one.enabled)
    try:
        url = vendor.line_url(configuration.settings.upstream.feed, next(iter(markets)))
        async for finding in _way(url):
            found.append(finding)
        for market in markets if dials else ():
            found += await _converse(configuration, market)
    except _Broken as broken:
        found.append(broken.finding)
        rest = "the rest of the way, key and channels" if dials else "the rest of the way"
        found.append(warning("upstream", f"not checked: {rest}", "mend what is above first"))
    return found


async def _way(url: str) -> AsyncIterator[Finding]:
    parts = urlsplit(url)
    host, is_secure = parts.hostname or "", parts.scheme == "wss"
    port = parts.port or (443 if is_secure else 80)
    address = await _resolved(host, port)
    yield ok("dns", f"{host} is {address}")
    yield await _reached(host, port)
    if is_secure:
        yield await _encrypted(host, port)
    async for finding in _answered(url, host):
        yield finding


async def _resolved(host: str, port: int) -> str:
    """In a thread that nobody waits for: a resolver without a network may take half a minute to say so."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def settle(address: str | None, error: OSError | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(address or "")

    def resolve() -> None:
        address, failure = None, None
        try:
            address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
        except OSError as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has not waited
            loop.call_soon_threadsafe(settle, address, failure)

    threading.Thread(target=resolve, daemon=True, name="resolve").start()
    try:
        async with asyncio.timeout(STEP_S):
            return await answer
    except (OSError, TimeoutError) as error:
        words = f"the name {host} cannot be resolved ({_words(error)}): no network, or no such name"
        raise _Broken(problem("dns", words, "check network and DNS of this machine, and upstream.feed")) from error


async def _reached(host: str, port: int) -> Finding:
    began = time.monotonic()
    try:
        async with asyncio.timeout(STEP_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        words = f"{host}:{port} cannot be reached ({_words(error)})"
        mend = "is the address right, does a firewall stop it?"
        if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")):
            mend += " A proxy is set in the environment; mcm does not use it"
        raise _Broken(problem("tcp", words, mend)) from error
    took_ms = (time.monotonic() - began) * 1_000
    await _closed(writer)
    return ok("tcp", f"{host}:{port} answers in {took_ms:.0f} ms")


async def _encrypted(host: str, port: int) -> Finding:
    try:
        async with asyncio.timeout(STEP_S):
            context = ssl.create_default_context()
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    except (OSError, TimeoutError) as error:
        mend = "is the clock right, does a proxy decrypt? Its certificate has to be trusted by this machine then"
        raise _Broken(problem("tls", f"no trusted connection to {host}:{port} ({_words(error)})", mend)) from error
    certificate = writer.get_extra_info("peercert") or {}
    await _closed(writer)
    ends = ssl.cert_time_to_seconds(str(certificate.get("notAfter")))
    return judge_certificate(host, (ends - time.time()) / 86_400)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await writer.wait_closed()


async def _answered(url: str, host: str) -> AsyncIterator[Finding]:
    """A plain request, which is no connection that an account counts."""
    plain = url.replace("wss://", "https://", 1).replace("ws://", "http://", 1)
    timeout = aiohttp.ClientTimeout(total=STEP_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http:
            before = time.time()
            async with http.get(plain, allow_redirects=False) as response:
                now = (before + time.time()) / 2
                date = response.headers.get("Date", "")
                yield ok("http", f"{host} speaks HTTP (status {response.status} to a plain request)")
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        words = f"{host} does not speak HTTP ({_words(error)})"
        raise _Broken(problem("http", words, "is upstream.feed the address of a market-data server?")) from error
    try:
        told = parsedate_to_datetime(date).timestamp() + 0.5  # it tells whole seconds
    except ValueError:
        yield warning("clock", f"not checked: {host} tells no time", "compare it by hand: `timedatectl`")
        return
    yield judge_clock(now - told, host)


# --- one connection: key and channels


async def _converse(configuration: Configuration, market: str) -> list[Finding]:
    feed, key = configuration.settings.upstream.feed, configuration.api_key.reveal()
    directory = locks.slot_directory(vendor.slot_name(feed), key, market)
    if holders := locks.slot_holders(directory):
        words = f"not checked: another mcm uses this account ({'; '.join(holders)})"
        return [warning(f"key for {market}", words, "`mcm doctor --run-dir` of that one asks it instead")]
    slot = locks.acquire_slot(directory, 1)  # so that an mcm that starts now does not dial beside us
    if isinstance(slot, str):
        return [warning(f"key for {market}", f"not checked: {slot}", "try again")]
    try:
        return await _dial(configuration, market, vendor.line_url(feed, market))
    except _Broken as broken:
        return [broken.finding]
    finally:
        slot.release()


async def _dial(configuration: Configuration, market: str, url: str) -> list[Finding]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=STEP_S)) as http:
        try:
            async with asyncio.timeout(STEP_S):
                close = aiohttp.ClientWSTimeout(ws_close=CLOSE_S)
                socket = await http.ws_connect(url, decode_text=False, timeout=close)
        except aiohttp.WSServerHandshakeError as error:
            words = f"the upstream refused the upgrade of {market} with HTTP {error.status}"
            raise _Broken(problem("upgrade", words, "a proxy between, or an upstream that is not open")) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            words = f"no WebSocket of {market} ({_words(error)})"
            raise _Broken(problem("upgrade", words, "a proxy or firewall between may not let it pass")) from error
        async with socket:
            talk = _Talk(socket, market)
            found = [ok("upgrade", f"a WebSocket of {market} opens")]
            found.append(await _key(configuration, market, talk))
            found.append(await _channels(configuration, market, talk))
            return found


class _Talk:
    """One conversation: what the upstream says, one thing after the other."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse[bool]", market: str) -> None:
        self._socket, self._decoder = socket, vendor.FrameDecoder(market)
        self._heard: list[Said | str] = []

    async def send(self, message: str) -> None:
        with contextlib.suppress(ConnectionResetError):  # hearing says better why
            await self._socket.send_str(message)

    async def hear(self) -> Said | str:
        """The next word of it, or the item of a tick; raises _Broken when it has closed."""
        while not self._heard:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                code = self._socket.close_code
                raise _Broken(problem("upgrade", f"the upstream closed the connection (code {code})", "try again"))
            frame = self._decoder.decode(message.data)
            self._heard += [said for status in frame.statuses if (said := vendor.meaning(status)) is not None]
            self._heard += [f"{tick.event_type}.{tick.symbol}" for tick in frame.ticks]
        return self._heard.pop(0)


async def _key(configuration: Configuration, market: str, talk: _Talk) -> Finding:
    name, variable = f"key for {market}", configuration.settings.account.api_key_env
    try:
        async with asyncio.timeout(STEP_S):
            while True:
                match await talk.hear():
                    case Greeting():
                        await talk.send(vendor.auth_message(configuration.api_key.reveal()))
                    case Accepted():
                        return ok(name, f"{variable} is good")
                    case Ending(Reason.AUTH_FAILED, message):
                        words = f"the upstream refused it ({message})"
                        mend = f"put the right one into {variable}, or choose a plan that includes {market}"
                        raise _Broken(problem(name, words, mend))
                    case Ending(_, message):
                        raise _Broken(warning(name, f"not checked: the upstream ended it ({message})", "try again"))
    except TimeoutError as error:
        raise _Broken(
            problem(name, f"no answer within {STEP_S:.0f} s", "try again; is the feed the right one?")
        ) from error


async def _channels(configuration: Configuration, market: str, talk: _Talk) -> Finding:
    """One item of every channel; those of the watchlists with a symbol of theirs."""
    wanted: dict[str, str] = {}
    for watchlist in configuration.settings.watchlists:
        if watchlist.market == market:
            named = [one for one in watchlist.symbols if one != WILDCARD]
            for channel in watchlist.channels:
                wanted.setdefault(channel, named[0] if named else MARKETS[market].example)
    answers: dict[str, Answer] = {}
    for channel in MARKETS[market].channels:
        item = f"{channel}.{wanted.get(channel, MARKETS[market].example)}"
        await talk.send(vendor.subscribe_message([item]))
        try:
            async with asyncio.timeout(CHANNEL_S):
                answers[channel] = await _answer(talk, item, market)
        except TimeoutError:
            answers[channel] = Answer(is_taken=False)
    return judge_entitlements(market, wanted, answers)


async def _answer(talk: _Talk, item: str, market: str) -> Answer:
    while True:
        match await talk.hear():
            case Refused(message):
                return Answer(is_taken=False, words=message)
            case Ending(Reason.EVICTED, message):
                words = f"the upstream ended it ({message}): another program uses the account"
                mend = "find out who: another machine, another user? The account allows few connections"
                raise _Broken(warning(f"channels of {market}", words, mend))
            case Ending(_, message):
                raise _Broken(warning(f"channels of {market}", f"the upstream ended it ({message})", "try again"))
            case Acknowledged(subject, subscribed=True) if subject == item:
                return Answer(is_taken=True)
            case str(subject) if subject == item:
                return Answer(is_taken=True)


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
