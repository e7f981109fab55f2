"""The supervisor: starts every process of mcm, watches them, starts them again, and answers the control socket.

It reads no market data and imports neither aiohttp nor the workers, which it starts by module name.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import msgspec

import mcm
from mcm import bus, configuration, locks
from mcm.children import Child, Recipe, log_path, open_log
from mcm.configuration import Configuration
from mcm.console import Console
from mcm.control_server import ControlServer
from mcm.core import restart, status, surveying
from mcm.core.control import (
    BackfillSettings,
    BatchesLost,
    DashboardReport,
    DashboardSettings,
    Down,
    GatewayReport,
    GatewaySettings,
    GatewayToken,
    Ready,
    ReplayReport,
    ReplaySettings,
    RouterReport,
    RouterSettings,
    SimulatorReport,
    SimulatorSettings,
    Up,
)
from mcm.core.errors import McmError, UsageError
from mcm.core.exits import Exit
from mcm.core.gaps import GapClosed
from mcm.core.live import described
from mcm.core.settings import Testing, Upstream
from mcm.core.settings_values import is_loopback
from mcm.core.status import DashboardStatus, GatewayStatus
from mcm.faces import Face
from mcm.herald import Herald
from mcm.lines import Lines
from mcm.logs import FORMAT_VARIABLE, FORMATS, formatter, log_whatever_ends_us
from mcm.operations import Operations
from mcm.repairs import Repairs
from mcm.runtime import RepeatFilter
from mcm.systemd import Notifier
from mcm.terminal import Terminal

log = logging.getLogger("mcm.supervisor")

TURN_S = 0.05
TIDY_S = 1.0
SERVICES_WAIT_S = 3.0
KNOWN = (
    "status, plan, gaps {names?}, is_safe {topic}, why {what}, stop, restart {name}, "
    "subscribe {topics, connection?, copies?}, unsubscribe {topics}, move {what, connection}, pause {name}, "
    "resume {name}, add_connection {connection}, remove_connection {name}, rebalance {dry_run}, "
    "preview, apply, lease {holder, topics}, release {holder}, configured, topics {first, count}"
)
ROUTER, REPLAY, BACKFILL, SIMULATOR = "router", "replay", "backfill", "simulator"
GATEWAY, DASHBOARD = "gateway", "dashboard"
WORKER_PATIENCE_S, ROUTER_PATIENCE_S, SERVICE_PATIENCE_S = 2.0, 1.9, 1.0


class Supervisor:
    """All processes of one run directory.

    Attributes:
        exit: what this process will say by leaving.
    """

    def __init__(self, settings: Configuration) -> None:
        self._configuration = settings
        self._started = time.monotonic()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._was_ready = False
        self._tidy_at = 0.0
        self._running = settings.run_dir / "running"  # touched once a second; left behind by a kill
        self.exit = Exit.OK
        self._systemd = Notifier(os.environ)
        rng = Random()
        self._router = Child(ROUTER, self._router_recipe(), self, rng)
        self._router_report = RouterReport()
        self._replay = Child(REPLAY, self._replay_recipe(), self, rng)
        self._gateway = Face(GATEWAY, settings.settings.gateway.listen, GatewayReport())
        if settings.settings.gateway.enabled:
            self._gateway.child = Child(GATEWAY, self._gateway_recipe(), self, rng)
        self._dashboard = Face(DASHBOARD, settings.settings.dashboard.listen, DashboardReport())
        if settings.settings.dashboard.enabled:
            self._dashboard.child = Child(DASHBOARD, self._dashboard_recipe(), self, rng)
        self._simulator: Child | None = None
        self._simulator_ports = (settings.settings.simulator.port, settings.settings.simulator.orders_port)
        self._herald = Herald(settings.run_dir, settings.settings.testing or Testing())
        self._repairs = Repairs(lambda: Child(BACKFILL, self._backfill_recipe(), self, rng))
        self._lines = Lines(settings, self._herald, rng, changed=self._wake.set, closed=self._gap_closed)
        self._operations = Operations(
            settings, self._lines, lambda: configuration.load(settings.path, os.environ, run_dir=settings.run_dir)
        )
        self._has_terminal = has_terminal()
        feed = settings.settings.upstream.feed
        if feed == SIMULATOR:
            self._simulator = Child(SIMULATOR, self._simulator_recipe(), self, rng)
        else:
            self._lines.feed = feed

    def _router_recipe(self) -> Recipe:
        run_dir = self._configuration.run_dir
        settings = self._configuration.settings
        first = RouterSettings(
            str(run_dir),
            settings.publish.endpoints,
            settings.journal.retention_bytes,
            settings.journal.retention_hours,
            settings.testing or Testing(),
        )
        return self._recipe(ROUTER, "workers.router", lambda: first, restart.ROUTER)

    def _replay_recipe(self) -> Recipe:
        first = ReplaySettings(str(self._configuration.run_dir))
        return self._recipe(REPLAY, "workers.replay", lambda: first, restart.SERVICE)

    def _gateway_recipe(self) -> Recipe:
        configuration = self._configuration
        tokens = tuple(
            GatewayToken(configuration.tokens[name].reveal(), name, one.topics, one.conflate_ms, one.backfilled)
            for name, one in configuration.settings.gateway.tokens.items()
        )

        def first() -> GatewaySettings:
            return GatewaySettings(str(configuration.run_dir), self._gateway.address, tokens)

        return self._recipe(GATEWAY, "workers.gateway", first, restart.SERVICE)

    def _dashboard_recipe(self) -> Recipe:
        configuration = self._configuration
        token, hosts = configuration.dashboard_token, configuration.settings.dashboard.hosts
        text = token.reveal() if token is not None else ""

        def first() -> DashboardSettings:
            return DashboardSettings(str(configuration.run_dir), self._dashboard.address, text, hosts)

        return self._recipe(DASHBOARD, "workers.dashboard", first, restart.SERVICE)

    def _backfill_recipe(self) -> Recipe:
        configuration = self._configuration
        settings = configuration.settings
        first = BackfillSettings(
            str(configuration.run_dir),
            configuration.api_key.reveal(),
            self._rest_url() or "",
            channels=settings.backfill.channels,
            requests_per_s=settings.backfill.requests_per_s,
            delay_s=settings.upstream.delay_s,
            testing=settings.testing or Testing(),
        )
        return self._recipe(BACKFILL, "workers.backfill", lambda: first, restart.SERVICE)

    def _rest_url(self) -> str | None:
        """Where the past is asked for: the simulator's own, the configured one; None where there is none."""
        upstream = self._configuration.settings.upstream
        if self._simulator is not None:
            return f"http://127.0.0.1:{self._simulator_ports[1]}"
        is_ours = is_loopback(upstream.feed) and upstream.rest_url == Upstream().rest_url
        return None if is_ours else upstream.rest_url

    def _gap_closed(self, gap: GapClosed, rank: int) -> None:
        if self._configuration.settings.backfill.enabled and self._rest_url() is not None:
            self._repairs.gap_closed(gap, rank)

    def _simulator_recipe(self) -> Recipe:
        wish = self._configuration.settings.simulator
        first = SimulatorSettings(wish.seed, wish.ticks_per_s, wish.port, wish.orders_port, wish.cap)
        return self._recipe(SIMULATOR, "mcm.simulator", lambda: first, restart.SERVICE)

    def _recipe(self, name: str, module: str, first: Callable[[], Down], policy: restart.Policy) -> Recipe:
        return Recipe(
            module=module,
            settings=first,
            policy=policy,
            log_path=log_path(self._configuration.run_dir, name),
            hidden=(self._configuration.settings.account.api_key_env, *self._token_variables()),
        )

    def _token_variables(self) -> Iterator[str]:
        settings = self._configuration.settings
        yield from (token.token_env for token in settings.gateway.tokens.values())
        if settings.dashboard.token_env is not None:
            yield settings.dashboard.token_env

    @property
    def _services(self) -> list[Child]:
        """Every child that is no connection, in the order in which they start."""
        children = (
            self._router, self._replay, self._repairs.child, self._gateway.child, self._dashboard.child,
            self._simulator,
        )  # fmt: skip
        return [child for child in children if child is not None]

    # --- what the children say: see children.Owner ---

    def heard(self, child: Child, record: Up) -> None:
        """Take a report of a service."""
        match record:
            case _ if child is self._repairs.child:
                self._repairs.heard(record)
            case Ready(port, orders_port) if child is self._simulator:
                self._simulator_ports = port, orders_port
                self._lines.feed = f"ws://127.0.0.1:{port}"
            case RouterReport():
                self._router_report = record
                self._herald.heard(record.acknowledged_epoch, record.acknowledged)
                for name in record.lagging:
                    self._lines.hang_up(name, "it lags by more than 20 s")
            case BatchesLost():
                self._lines.carrying.batches_lost(record)
            case Ready() if child is self._router:
                self._lines.carrying.router_started()
            case GatewayReport():
                self._gateway.heard(record)
            case DashboardReport():
                self._dashboard.heard(record)
            case Ready() | ReplayReport() | SimulatorReport():
                pass
            case _:
                log.error("%s: unexpected report %s", child.name, type(record).__name__)
        if child.state == "ready" and child.healthy_since is None:
            child.healthy_since = time.monotonic()
        self._wake.set()

    def lost(self, child: Child) -> None:
        """The router or a service has ended."""
        if child is self._router:
            self._router_report = RouterReport()
        if child is self._gateway.child:
            self._gateway.lost()
        if child is self._dashboard.child:
            self._dashboard.lost()
        self._wake.set()

    def refused(self, child: Child) -> None:
        """A service cannot work as configured; nothing depends on the dashboard."""
        if child is self._dashboard.child:
            log.error("%s: %s", child.name, child.reason)
            return
        log.error("%s: %s; stopping", child.name, child.reason)
        self.stop(Exit.USAGE)

    def gave_up(self, child: Child) -> None:
        """There is no service without the router."""
        log.error("%s cannot live (%s); stopping. %s says why", child.name, child.reason, child.recipe.log_path)
        self.stop(Exit.GAVE_UP)

    # --- the process ---

    async def run(self, console: Console) -> None:
        """Supervise until told to stop, then end everything in order."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled, number)
        if self._running.exists():  # it was not stopped in order
            self._lines.carrying.unwatched(self._running.stat().st_mtime_ns)
        async with contextlib.AsyncExitStack() as stack:
            server = ControlServer(self._configuration.run_dir, self._answer)
            await stack.enter_async_context(server)
            console.open(self._configuration)
            stack.callback(console.close)
            try:
                await self._turn_for_ever(console)
            finally:
                self._systemd.stopping()
                await self._end_children()
                self._running.unlink(missing_ok=True)

    async def _turn_for_ever(self, console: Console) -> None:
        while not self._stopping.is_set():
            now = time.monotonic()
            for child in self._services:
                # At the start the lines need the processor more than those whom nobody can ask for anything yet.
                may_wait = child in (self._replay, self._gateway.child, self._dashboard.child)
                if not may_wait or self._was_ready or now - self._started > SERVICES_WAIT_S:
                    child.turn(now)
            self._repairs.turn(now)
            self._lines.turn(now)
            self._operations.turn(now)
            if self._lines.is_started and self._router.state == "ready" and not self._was_ready:
                self._was_ready = True
                log.info("ready after %.2f s", now - self._started)
                self._systemd.ready()
            if now >= self._tidy_at:
                self._tidy_at = now + TIDY_S
                self._herald.tidy()
                self._running.touch()
            self._systemd.turn(now, lambda: status.summary(self.status()))
            console.turn(now, self.status)
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_S):
                    await self._wake.wait()

    async def _end_children(self) -> None:
        """Workers first, so that the router publishes what they still send; the upstream last."""
        log.info("stopping")
        await self._lines.stop(WORKER_PATIENCE_S)
        self._herald.close()
        await self._router.stop(ROUTER_PATIENCE_S)
        await asyncio.gather(*(child.stop(SERVICE_PATIENCE_S) for child in self._services))
        log.info("stopped")

    def stop(self, code: Exit = Exit.OK) -> None:
        """Stop in order, within five seconds."""
        self.exit = max(self.exit, code)
        self._stopping.set()
        self._wake.set()

    def _signalled(self, number: signal.Signals) -> None:
        if self._stopping.is_set():
            log.warning("second %s: killing everything", number.name)
            for child in (*self._lines.children.values(), *self._services):
                child.kill()
            return
        if number is signal.SIGHUP and self._has_terminal == has_terminal():
            with self._systemd.reloading():
                try:
                    self._operations.apply()
                except McmError as error:
                    log.error("nothing was changed: %s", error)
            return
        log.info("%s: stopping", number.name)
        self.stop()

    # --- the control socket ---

    def _answer(self, op: str, args: dict[str, object]) -> object:
        match op, args:
            case "status", {}:
                return self.status()
            case "plan", {}:
                return self._lines.carrying.plan.carries
            case "gaps", {"names": int(names)}:
                return surveying.brief_gaps(self._lines.carrying.gaps, self._lines.carrying.recent, names)
            case "gaps", {}:
                carrying = self._lines.carrying
                return {
                    "open": [msgspec.to_builtins(gap) for gap in carrying.gaps.open.values()],
                    "recent": [msgspec.to_builtins(record) for record in carrying.recent],
                }
            case "is_safe", {"topic": str(topic)}:
                return self._lines.carrying.safety(topic, self._lines.live)._asdict()
            case "stop", {}:
                asyncio.get_running_loop().call_later(0.05, self.stop)  # the answer goes out first
                return {"pid": os.getpid()}
            case "restart", {"name": str(name)}:
                self._restart(name)
                return {"name": name}
            case _:
                if (answer := self._operations.answer(op, args)) is None:
                    problem = f"there is no operation {op!r} with these arguments"
                    raise UsageError(problem, f"this mcm offers {KNOWN}")
                self._wake.set()
                return answer

    def _restart(self, name: str) -> None:
        services = {child.name: child for child in self._services}
        if name in self._lines.children:
            self._lines.revive(name)
        elif name in services:
            services[name].revive()
        else:
            names = ", ".join([*self._lines.children, *services])
            raise UsageError(f"nothing here is called {name!r}", f"it is one of {names}")
        log.info("%s: restart asked for", name)
        self._wake.set()

    def status(self) -> status.Status:
        """What ``mcm status`` shows."""
        now = time.monotonic()
        connections, carrying = self._lines.status(now), self._lines.carrying
        state, reason = status.overall(
            connections, self._router.state, len(carrying.plan.unplaced), was_ready=self._was_ready
        )
        report = self._router_report
        return status.Status(
            state="stopping" if self._stopping.is_set() else state,
            pid=os.getpid(),
            uptime_s=round(now - self._started, 3),
            connections=connections,
            router=status.RouterStatus(
                pid=self._router.pid,
                state=self._router.state,
                received=report.received,
                published=report.published,
                restarts=self._router.restarts,
                lost_batches=report.lost_batches,
                rejected=report.rejected,
                skipped=report.skipped,
                not_durable_since=report.not_durable_since,
                duplicates=report.duplicates,
                held=report.held,
                descriptors=report.descriptors,
                descriptor_limit=report.descriptor_limit,
            ),
            replay=status.ProcessStatus(self._replay.pid, self._replay.state, self._replay.restarts),
            account=self._lines.account(),
            reason=reason,
            is_started=self._was_ready,
            unplaced=carrying.plan.unplaced,
            simulator=self._simulator_addresses(),
            version=mcm.__version__,
            run_dir=str(self._configuration.run_dir),
            short=carrying.plan.short,
            stuck=carrying.placement.stuck,
            gaps=sum(len(gap.topics) for gap in carrying.gaps.open.values()),
            live=list(described(self._operations.live)),
            leases=dict(self._operations.leases.holders),
            gateway=self._gateway_status(),
            dashboard=self._dashboard_status(),
        )

    def _gateway_status(self) -> GatewayStatus | None:
        child, report = self._gateway.child, self._gateway.report
        if child is None:
            return None
        return GatewayStatus(
            pid=child.pid,
            state=child.state,
            restarts=child.restarts,
            address=report.address,
            clients=report.clients,
            problem=self._gateway.problem,
            is_open=report.is_open,
            slow=report.slow,
            lost=report.lost,
        )

    def _dashboard_status(self) -> DashboardStatus | None:
        child, report = self._dashboard.child, self._dashboard.report
        if child is None:
            return None
        return DashboardStatus(
            child.pid, child.state, child.restarts, report.address, report.pages, self._dashboard.problem
        )

    def _simulator_addresses(self) -> dict[str, str]:
        if self._simulator is None or self._simulator.state != "ready":
            return {}
        port, orders_port = self._simulator_ports
        return {"feed": f"ws://127.0.0.1:{port}", "orders": f"http://127.0.0.1:{orders_port}"}


def prepare(run_dir: Path) -> locks.Held:
    """Make the run directory and take it for this process; raises UsageError or RunDirectoryTaken."""
    for name in (bus.TICKS, bus.INLET, bus.CONTROL):
        bus.endpoint(run_dir, name)  # too long a path is better said before anything runs
    try:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (run_dir / "logs").mkdir(mode=0o700, exist_ok=True)
        return locks.lock_run_directory(run_dir)
    except OSError as error:
        raise UsageError(
            f"the run directory {run_dir} cannot be used: {error.strerror}", "choose another one with --run-dir"
        ) from error


def start_logging(run_dir: Path, terminal: Terminal, form: str) -> None:
    """Everything into the log file, warnings to the terminal as well; *form* is one of logs.FORMATS."""
    file = logging.StreamHandler(os.fdopen(open_log(log_path(run_dir, "supervisor")), "w", buffering=1))
    text = f"%(asctime)s supervisor[{os.getpid()}] %(levelname)s %(message)s"
    file.setFormatter(formatter(form, "supervisor", text=text))
    terminal.setLevel(logging.WARNING)
    short = "%(asctime)s %(levelname)s %(message)s"
    terminal.setFormatter(formatter(form, "supervisor", text=short, clock="%H:%M:%S"))
    terminal.addFilter(RepeatFilter())
    logging.basicConfig(level=logging.INFO, handlers=[file, terminal])
    os.environ[FORMAT_VARIABLE] = form
    if form == "json":
        log_whatever_ends_us(log)


def has_terminal() -> bool:
    """Whether a terminal belongs to this process: a SIGHUP that comes when it is gone says so, any other one asks."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _fail(problem: object, code: Exit) -> int:
    sys.stderr.write(f"mcm: {problem}\n")
    return code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mcm.supervisor", description="What `mcm start` runs.")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--quiet", action="store_true", help="no summary on stdout")
    parser.add_argument("--log-format", choices=FORMATS, default=FORMATS[0], help="of every log line")
    return parser.parse_args()


def main() -> int:
    """Run the supervisor; the exit status is one of core.exits."""
    arguments = _arguments()
    if not (sys.platform == "linux" and hasattr(os, "pidfd_open")):
        return _fail("`mcm start` needs Linux 5.3 or newer; elsewhere, `import mcm` and subscribing work", Exit.USAGE)
    try:
        settings = configuration.load(arguments.config, os.environ, run_dir=arguments.run_dir)
        held = prepare(settings.run_dir)
    except locks.RunDirectoryTaken as taken:
        return _fail(taken, Exit.LOCKED)
    except McmError as error:
        return _fail(error, Exit.USAGE)
    terminal = Terminal()
    start_logging(settings.run_dir, terminal, arguments.log_format)
    try:
        supervisor = Supervisor(settings)
        asyncio.run(supervisor.run(Console(terminal, quiet=arguments.quiet)))
        code = supervisor.exit
    except Exception:
        log.exception("mcm has a bug; please report the lines below")
        code = Exit.INTERNAL
    finally:
        held.release()
    if not terminal.end():
        os._exit(code)  # the interpreter would wait for what the terminal does not take
    return code


if __name__ == "__main__":
    sys.exit(main())
