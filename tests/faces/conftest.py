"""What programs that know nothing of mcm see: the faces, against real processes with the simulator as the vendor."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from mcm.simulator.launch import launch
from tests.faces.dashboard import CONFIGURATION, KEY, MARK, MARKUP, TOKEN, Board, Web
from tests.faces.gateway import EVERY_MARKET, TICKS_PER_S, GatewayProcess, Program, Scene
from tests.processes.conftest import mcm, start, vendor
from tests.processes.stack import somewhere, wait_until

__all__ = ["mcm", "start", "vendor"]  # fixtures of the whole, used here, too


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """A vendor and an mcm with a line for every market and the gateway on a free port; for all tests of a module."""
    with (
        launch("--ticks-per-s", str(TICKS_PER_S), "--minute-bars-every-s", "0.5") as simulator,
        somewhere() as stack,
    ):
        stack.config.write_text(
            EVERY_MARKET.format(feed=f"ws://127.0.0.1:{simulator.port}", rest_url=simulator.rest_url)
        )
        started = stack.cli("start", "--detach", "--config", str(stack.config))
        assert started.returncode == 0, started.stderr + stack.logs()
        status = stack.wait(
            lambda status: status.gateway is not None and status.gateway.is_open,
            because="it lets clients in",
        )
        assert status.gateway is not None
        yield Scene(simulator, stack, status.gateway.address)


@contextlib.contextmanager
def _board(more: str = "") -> Iterator[Board]:
    with launch("--ticks-per-s", "600") as simulator, somewhere() as stack:
        stack.environment |= {"MASSIVE_API_KEY": KEY, "DASHBOARD_TOKEN": TOKEN, "SOMETHING": MARK}
        stack.config.write_text(CONFIGURATION.format(feed=f"ws://127.0.0.1:{simulator.port}", more=more, markup=MARKUP))
        started = stack.cli("start", "--detach", "--config", str(stack.config))
        assert started.returncode == 0, started.stderr + stack.logs()
        status = stack.wait(
            lambda status: status.state == "ready" and status.dashboard is not None and bool(status.dashboard.address),
            because="it is ready, and the dashboard listens",
        )
        assert status.dashboard is not None
        web = Web(status.dashboard.address)
        wait_until(
            lambda: web.get("/ready", Authorization=f"Bearer {TOKEN}").status == 200, because="ticks have come, too"
        )
        yield Board(simulator, stack, web)


@pytest.fixture(scope="session")
def board() -> Iterator[Board]:
    """A vendor and an mcm with three lines and the dashboard on a free port; for all tests, which leave it as it was.

    Without failover, so that a line that has been down carries at once what it had before.
    """
    with _board() as board:
        yield board


@pytest.fixture
def fresh_board() -> Iterator[Board]:
    """Another one, for a test that leaves its vendor with other topics."""
    with _board() as board:
        yield board


@pytest.fixture(scope="module")
def locked() -> Iterator[Board]:
    """The same, with a token."""
    with _board('token_env = "DASHBOARD_TOKEN"') as board:
        yield board


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Starts programs with the vendor's client; they end with the test."""
    with contextlib.ExitStack() as stack:

        def begin(address: str, market: str, *items: str, key: str = "any") -> Program:
            program = Program(address, market, *items, key=key)
            stack.callback(program.end)
            return program

        yield begin


@pytest.fixture
def gateway(scene: Scene) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts more gateways on the mcm of the scene, with settings of their own; they end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(GatewayProcess(scene.mcm.run_dir, **settings))
