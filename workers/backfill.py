"""Repairs closed gaps by REST: fetches what nobody received, drops what is known, publishes the rest as a link.

The thin shell around core.backfill.  What is known is read from the journal's files themselves, like a starting router
does, and not asked of the replay process: so subscribers that catch up do not wait behind it, and a new journal epoch
hides nothing.  How far to read is told by an empty batch that this process sends first: once that is journaled, so is
everything that its link (earlier lives included) and, being older, the lines had sent.
"""

import asyncio
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import msgspec
import yarl

from mcm import runtime
from mcm.core import backfill as core
from mcm.core.backfill import Job, Known, NotOffered, Refused, Retry
from mcm.core.control import BackfillReport, BackfillSettings, Down, Failed, Ready, Repair, Stop
from mcm.core.errors import BadTopic, McmError, UsageError
from mcm.core.events import Tick, tick_decoder
from mcm.core.exits import Exit
from mcm.core.gaps import GAP_TOPIC, GapRepaired
from mcm.core.notices import BACKFILL
from mcm.core.record import decode_record
from mcm.core.topics import parse_topic
from mcm.core.wire import Group, encode_ticks
from mcm.journal import Behind, EpochChanged, Reader, directory_of
from mcm.outlet import Outlet

log = logging.getLogger("mcm.backfill")

REPORT_S = 1.0
CONCURRENCY = 4
ANSWER_LIMIT_S = 30.0
AGAIN_S = 5.0  # REST lags the stream: what is fresh is asked for twice, so far apart
GIVE_UP_S = 3_600.0  # on a request that is put off again and again
MARKER_S = 10.0
READ_BYTES = 256 * 1024
CHUNK = 500  # ticks, or records, per batch; and events mapped between two looks at the loop
PAUSE_S = 0.01  # behind each batch: a router that takes 200,000 ticks/s shall not notice
UNFINISHED_NAMED = 5_000


class Unknowable(McmError):
    """What was published of a window cannot be found out, so nothing may be added to it."""


class NotRepaired(Exception):
    """A topic's window cannot be fetched, or not to its end."""


class Past:
    """What the journal has of some windows.  Read in a thread of its own, one request at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stopping = threading.Event()
        self._executor = ThreadPoolExecutor(1, "mcm:past")

    def learn(self, known: dict[bytes, Known], since_ns: int, mark: tuple[int, int]) -> asyncio.Future[None]:
        """Tell *known*, by topic, what was journaled from *since_ns* to our batch *mark*, once that is there.

        Its result, or Unknowable.
        """
        return asyncio.get_running_loop().run_in_executor(self._executor, self._learn, known, since_ns, mark)

    def _learn(self, known: dict[bytes, Known], since_ns: int, mark: tuple[int, int]) -> None:
        reader = Reader(self._directory)
        try:
            reader.seek_time(since_ns)
            expected: int | None = None
            while not self._stopping.is_set():
                try:
                    records = reader.read(READ_BYTES)
                except Behind:
                    raise Unknowable("the journal does not reach back to it") from None
                except EpochChanged:
                    expected = None
                    continue
                if any(damage.first_missing < damage.next_number for damage in reader.take_damage()):
                    raise Unknowable("the journal of that time is damaged")
                for number, _, payload in records:
                    if expected is not None and number > expected:
                        raise Unknowable("the journal has a hole there, its disk was full")
                    record = decode_record(payload)
                    expected = number + len(record.messages)
                    for message in record.messages:
                        if (wanted := known.get(message.topic)) is not None:
                            wanted.add(_ticks(message.topic, message.ticks))
                    if record.link == BACKFILL and record.link_epoch == mark[0] and record.sequence >= mark[1]:
                        return
                if not records:
                    self._stopping.wait(0.05)
        finally:
            reader.close()

    def close(self) -> None:
        """End what is being read."""
        self._stopping.set()
        self._executor.shutdown()


def _ticks(topic: bytes, encoded: bytes) -> list[Tick]:
    return tick_decoder(topic.partition(b".")[0].decode()).decode(encoded)


class Publisher:
    """Puts ticks and records on the link, in batches that nobody has to wait for."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def mark(self) -> tuple[int, int]:
        """Send an empty batch; (link epoch, sequence) of it."""
        self._send([])
        return self._outlet.epoch, self._outlet.sequence

    async def publish(self, topic: bytes, events: Sequence[Tick | GapRepaired]) -> None:
        """All *events* on *topic*, in their order."""
        for start in range(0, len(events), CHUNK):
            self.publish_at_once(topic, events[start : start + CHUNK])
            await asyncio.sleep(PAUSE_S)

    def publish_at_once(self, topic: bytes, events: Sequence[Tick | GapRepaired]) -> None:
        """As few events as one Repair has topics."""
        if events:
            self._send([Group(topic, len(events), encode_ticks(events))])

    def _send(self, groups: list[Group]) -> None:
        self._outlet.send(groups, received_ns=time.time_ns(), monotonic_ns=time.monotonic_ns())


class Rest:
    """The vendor's REST side, as slowly as the budget allows.

    Attributes:
        requests: sent so far.
        refused: market or ``market.channel`` → why it is not asked for any more.
    """

    def __init__(self, http: aiohttp.ClientSession, settings: BackfillSettings) -> None:
        self._http, self._settings = http, settings
        self._budget = core.Budget(settings.requests_per_s)
        self._turn = asyncio.Lock()  # first come, first served: else one could wait for ever
        self.requests = 0
        self.refused: dict[str, str] = {}

    async def pages(self, job: Job) -> AsyncIterator[core.Page]:
        """Every page of the job's window; raises NotRepaired where there is no next one and should be."""
        base = yarl.URL(self._settings.rest_url.rstrip("/") + job.plan.path, encoded=True)
        url: str | None = str(base.with_query(job.plan.parameters))
        while url is not None:
            body = await self._get(job, url)
            try:
                page = core.read_page(body)
                url = core.following(page, url)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise NotRepaired(f"the answer is no page: {error}") from error
            except NotOffered as error:
                raise NotRepaired(str(error)) from error
            yield page

    async def _get(self, job: Job, url: str) -> bytes:
        give_up_at = time.monotonic() + GIVE_UP_S
        attempt = 0
        while time.monotonic() < give_up_at:
            await self._permit(job)
            status, body, after = await self._ask(url)
            if status == 200:
                return body
            match core.judge(job.topic, status, body, attempt=attempt, after_s=core.retry_after_s(after)):
                case Retry(after_s, for_all=True):
                    log.warning("REST asks for fewer requests (429): nothing for %.1f s", after_s)
                    self._budget.pause(time.monotonic() + after_s)
                case Retry(after_s):
                    attempt += 1
                    await asyncio.sleep(after_s)
                case Refused(reason, scope):
                    if scope and scope not in self.refused:
                        self.refused[scope] = reason
                        log.error("REST refuses %s: %s; its gaps are not repaired any more", scope, reason)
                    raise NotRepaired(reason)
        raise NotRepaired(f"put off for {GIVE_UP_S / 60:.0f} minutes")

    async def _permit(self, job: Job) -> None:
        async with self._turn:
            while (wait_s := self._budget.take(time.monotonic())) > 0:  # noqa: ASYNC110  # it is time that we wait for
                await asyncio.sleep(wait_s)
        self.check(job)

    def check(self, job: Job) -> None:
        """Raise NotRepaired where it is known that this job would be refused."""
        for scope in (job.topic.market, f"{job.topic.market}.{job.topic.channel}"):
            if (reason := self.refused.get(scope)) is not None:
                raise NotRepaired(reason)

    async def _ask(self, url: str) -> tuple[int, bytes, str | None]:
        """(status, body, Retry-After) of one request; status 0 when no whole answer came."""
        self.requests += 1
        headers = {"Authorization": f"Bearer {self._settings.api_key}"}
        try:
            # Verbatim, and never to where a redirect leads: the key would go with it.
            async with self._http.get(yarl.URL(url, encoded=True), headers=headers, allow_redirects=False) as response:
                return response.status, await response.read(), response.headers.get("Retry-After")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("no answer from REST: %s", type(error).__name__)
            return 0, b"", None


class Tally:
    """What has become of one job so far."""

    def __init__(self, job: Job, known: Known) -> None:
        self.job, self.known = job, known
        self.fetched = self.published = self.unreadable = 0
        self.again_at: float | None = None  # monotonic: REST may not have had all of it the first time

    def count(self, fetched: int, published: int, unreadable: int) -> None:
        """So many more."""
        self.fetched += fetched
        self.published += published
        self.unreadable += unreadable

    def record(self, how: str) -> GapRepaired:
        """For everybody."""
        job = self.job
        return GapRepaired(
            job.id, str(job.topic), job.since_ns, job.until_ns, self.fetched, self.fetched - self.published,
            self.published, how,
        )  # fmt: skip


class Worker:
    """The process: takes demands, works them off in their order, reports."""

    def __init__(
        self, settings: BackfillSettings, channel: runtime.Channel[Down], outlet: Outlet, rest: Rest, past: Past
    ) -> None:
        self._settings, self._channel, self._outlet, self._rest, self._past = settings, channel, outlet, rest, past
        self._publisher = Publisher(outlet)
        self._queue = core.Queue()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._taken = 0
        self._totals: Counter[str] = Counter()

    async def run(self) -> None:
        """Work until told to stop, or until the supervisor is gone; what is not finished then is asked for again."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._take_commands)
        self._channel.send(Ready())
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._report_for_ever(), name="report"),
                tasks.create_task(self._work_for_ever(), name="work"),
            ]
            await self._stopping.wait()
            for task in running:
                task.cancel()
        loop.remove_reader(self._channel.fileno())
        self._report()

    # --- commands and reports

    def _take_commands(self) -> None:
        for record in self._channel.receive():
            match record:
                case Repair():
                    self._take(record)
                case Stop():
                    self._stopping.set()
                case _:
                    log.error("unexpected command %s", type(record).__name__)
        if self._channel.closed:
            self._stopping.set()
        self._wake.set()

    def _take(self, repair: Repair) -> None:
        self._taken += 1
        refused = []
        for text in repair.topics:
            try:
                self._put(repair, text)
            except (BadTopic, NotOffered) as error:
                how = f"not repaired: {error}"
                refused.append(GapRepaired(repair.id, text, repair.since_ns, repair.until_ns, 0, 0, 0, how))
        self._publisher.publish_at_once(GAP_TOPIC, refused)

    def _put(self, repair: Repair, text: str) -> None:
        topic, settings = parse_topic(text), self._settings
        plan = core.plan(topic, repair.since_ns, repair.until_ns, delay_s=settings.delay_s, limit=settings.page_limit)
        if topic.channel not in settings.channels:
            raise NotOffered(f"back-filling {topic.channel} is not enabled")
        job = Job(self._taken, repair.id, topic, repair.since_ns, repair.until_ns, plan)
        if not self._queue.put(job, repair.rank):
            raise NotOffered("queue full")

    async def _report_for_ever(self) -> None:
        while True:
            self._report()
            self._outlet.tidy()
            await asyncio.sleep(REPORT_S)

    def _report(self) -> None:
        """Tell the supervisor how things stand; called by the main loop once a second, as its heartbeat."""
        errors = Counter({
            "batches that no file holds": self._outlet.lost,
            "results that could not be read": self._totals["unreadable"],
        })  # fmt: skip
        report = BackfillReport(
            taken=self._taken,
            unfinished=tuple(self._queue.unfinished[:UNFINISHED_NAMED]),
            queued=len(self._queue),
            requests=self._rest.requests,
            fetched=self._totals["fetched"],
            known=self._totals["fetched"] - self._totals["published"],
            published=self._totals["published"],
            refused=dict(self._rest.refused),
            errors=dict(+errors),
        )
        self._channel.send(report, replace=True)
        self._channel.flush()

    # --- work

    async def _work_for_ever(self) -> None:
        while True:
            self._wake.clear()
            if batch := self._queue.take(time.time_ns()):
                await self._repair(batch)
                continue
            try:
                async with asyncio.timeout(self._queue.ready_in_s(time.time_ns())):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _repair(self, batch: list[Job]) -> None:
        """Everything about these jobs, to the record that says what became of each."""
        tallies = [Tally(job, Known(job.plan.first_ms, job.plan.end_ms)) for job in batch]
        try:
            await self._learn(tallies)
        except Unknowable as error:
            for tally in tallies:
                await self._finish(tally, f"not repaired: {error}")
            return
        await self._fetch_all(tallies, is_again=False)
        await self._fetch_all([tally for tally in tallies if tally.again_at is not None], is_again=True)
        log.info(
            "%d topics of gaps worked off: %d events fetched, %d published; %d topics wait",
            len(batch), sum(tally.fetched for tally in tallies), sum(tally.published for tally in tallies),
            len(self._queue),
        )  # fmt: skip

    async def _fetch_all(self, tallies: list[Tally], *, is_again: bool) -> None:
        waiting = iter(tallies)
        async with asyncio.TaskGroup() as tasks:
            for number in range(CONCURRENCY):
                tasks.create_task(self._draw(waiting, is_again=is_again), name=f"fetch:{number}")

    async def _learn(self, tallies: list[Tally]) -> None:
        """Read from the journal what is known, when everything that is on its way has come to be there."""
        known = {str(tally.job.topic).encode(): tally.known for tally in tallies}
        since_ns = min(tally.job.plan.journal_ns for tally in tallies)
        learning = self._past.learn(known, since_ns, self._publisher.mark())
        while not (await asyncio.wait({learning}, timeout=MARKER_S))[0]:
            self._publisher.mark()  # the first one is never journaled if the disk was full
        learning.result()

    async def _draw(self, tallies: Iterator[Tally], *, is_again: bool) -> None:
        for tally in tallies:
            try:
                self._rest.check(tally.job)
                await self._fetch(tally, is_again=is_again)
            except NotRepaired as error:
                tally.again_at = None
                how = "back-filled, but for what REST did not have yet" if is_again else "not repaired"
                await self._finish(tally, f"{how}: {error}")
            else:
                if is_again or tally.again_at is None:
                    tally.again_at = None
                    left = f", {tally.unreadable} results could not be read" if tally.unreadable else ""
                    await self._finish(tally, f"back-filled{left}")

    async def _fetch(self, tally: Tally, *, is_again: bool) -> None:
        """Publish what is new of the job's window, page by page."""
        job, now = tally.job, time.monotonic()
        if is_again and tally.again_at is not None:
            await asyncio.sleep(tally.again_at - now)
        elif time.time_ns() - job.until_ns < core.REST_LAG_S * 1e9:
            tally.again_at = now + AGAIN_S
        tally.known.begin_pass()
        async for page in self._rest.pages(job):
            results = page.results or []
            for start in range(0, len(results), CHUNK):
                ticks, problems = core.ticks_of(job.topic, results[start : start + CHUNK])
                if problems:
                    log.warning("%d results could not be read, for instance: %s", len(problems), problems[0])
                count, new = tally.known.take_new(ticks)
                if is_again:  # the others were counted before
                    count, problems = len(new), []
                tally.count(count, len(new), len(problems))
                self._totals += Counter(fetched=count, published=len(new), unreadable=len(problems))
                await self._publisher.publish(str(job.topic).encode(), new)
                await asyncio.sleep(0)

    async def _finish(self, tally: Tally, how: str) -> None:
        await self._publisher.publish(GAP_TOPIC, [tally.record(how)])
        self._queue.finish(tally.job)
        log.debug("gap %s, %s: %s; %d events, %d of them new", tally.job.id, tally.job.topic, how, tally.fetched,
                  tally.published)  # fmt: skip


async def serve(settings: BackfillSettings, channel: runtime.Channel[Down]) -> None:
    """Run the worker; raises UsageError when somebody else writes its link files."""
    run_dir = Path(settings.run_dir)
    outlet = Outlet(run_dir, BACKFILL, settings.testing)
    past = Past(directory_of(run_dir))
    try:
        timeout = aiohttp.ClientTimeout(total=ANSWER_LIMIT_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            await Worker(settings, channel, outlet, Rest(http, settings), past).run()
    finally:
        past.close()
        outlet.close()


def main() -> None:
    """Run as a child of the supervisor."""
    channel = runtime.start_child("backfill")
    settings = runtime.await_settings(channel, BackfillSettings)
    try:
        asyncio.run(serve(settings, channel))
    except UsageError as error:
        log.error("%s", error)
        channel.send(Failed(str(error)))
        sys.exit(Exit.USAGE)


if __name__ == "__main__":
    main()
