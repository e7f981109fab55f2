"""`mcm doctor` against the simulator: what it finds, what it leaves alone, what it never tells."""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mcm import locks
from mcm.simulator.launch import Simulator, launch
from tests.processes.stack import NO_FACES, Mcm, Start, end_all, somewhere, wait_until

KEY = "never-to-be-seen-4711"
ONE_LINE = """
[upstream]
feed = "{feed}"
[[connections]]
name = "primary"
[[watchlists]]
name = "leaders"
channels = ["T", "Q"]
symbols = ["AAPL"]
"""

Findings = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with launch("--ticks-per-s", "100") as one:
        yield one


@pytest.fixture
def patient(simulator: Simulator) -> Iterator[Mcm]:
    """A folder with a configuration for the simulator, and the key in the environment; nothing runs."""
    with somewhere() as place:
        place.environment["MASSIVE_API_KEY"] = KEY
        configure(place, f"ws://127.0.0.1:{simulator.port}")
        yield place
        simulator.remote.accept_key()
        simulator.remote.plan()


def configure(patient: Mcm, feed: str, more: str = NO_FACES) -> None:
    patient.config.write_text(ONE_LINE.format(feed=feed) + more)


def examine(patient: Mcm, *options: str, run_dir: Path | None = None) -> tuple[int, Findings]:
    """(exit status, name → finding); of several with a name, the first that is not ok."""
    place = ("--config", str(patient.config), "--run-dir", str(run_dir or patient.run_dir))
    said = patient.command("doctor", *place, *options, "--json")
    assert KEY not in said.stdout + said.stderr
    assert said.stderr == ""
    document = json.loads(said.stdout)
    findings: Findings = {}
    for one in document["findings"]:
        if findings.get(one["name"], {"verdict": "ok"})["verdict"] == "ok":
            findings[one["name"]] = one
    assert (document["verdict"] == "problem") == (said.returncode == 1)
    return said.returncode, findings


def problems(findings: Findings) -> list[str]:
    return [name for name, one in findings.items() if one["verdict"] == "problem"]


def test_where_all_is_well_every_line_is_ok_and_one_connection_was_opened(simulator: Simulator, patient: Mcm) -> None:
    before = len(simulator.remote.report().dials)

    status, found = examine(patient)

    assert (status, problems(found)) == (0, [])
    for name in ("dns", "tcp", "http", "clock", "upgrade", "key for stocks", "channels of stocks", "libraries"):
        assert found[name]["verdict"] == "ok", found[name]
    assert found["channels of stocks"]["words"].startswith("T, Q, A, AM")
    report = simulator.remote.report()
    assert len(report.dials) == before + 1
    wait_until(lambda: not simulator.remote.report().open_connections(), because="it has closed the connection")
    said = patient.command("doctor", "--config", str(patient.config))
    assert said.stdout.splitlines()[-1].startswith("ok: ")
    assert KEY not in said.stdout


def test_a_refused_key_is_a_problem(simulator: Simulator, patient: Mcm) -> None:
    simulator.remote.refuse_key()

    status, found = examine(patient)

    assert (status, problems(found)) == (1, ["key for stocks"])
    assert "authentication failed" in found["key for stocks"]["words"]
    assert "MASSIVE_API_KEY" in found["key for stocks"]["mend"]


def test_a_channel_that_the_plan_lacks_is_a_problem_where_it_is_wanted(simulator: Simulator, patient: Mcm) -> None:
    simulator.remote.plan(lacks=("stocks.Q", "stocks.LULD"))

    status, found = examine(patient)

    assert (status, problems(found)) == (1, ["channels of stocks"])
    assert "Q (quotes): not authorized" in found["channels of stocks"]["words"]
    assert "not LULD" in found["channels of stocks"]["words"]


def test_a_port_that_somebody_has_is_a_problem_that_names_him(simulator: Simulator, patient: Mcm) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        more = f'[gateway]\nlisten = "127.0.0.1:{port}"\n[publish]\nendpoints = ["tcp://127.0.0.1:{port}"]\n'
        configure(patient, f"ws://127.0.0.1:{simulator.port}", more)

        _, found = examine(patient, "--no-dial")

    assert problems(found) == ["ports"]
    assert f"127.0.0.1:{port} is taken by" in found["ports"]["words"]
    assert found["key"]["verdict"] == "warning"


def test_a_process_that_is_left_over_is_named(patient: Mcm) -> None:
    logs = patient.run_dir / "logs"
    logs.mkdir(parents=True)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with (logs / "replay.log").open("wb") as log:
        # As its supervisor starts it, but without one that it would die with.
        command = [sys.executable, "-P", "-m", "workers.replay"]
        process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=log, stderr=log, env=patient.environment)
    try:
        _, found = examine(patient, "--no-dial")
    finally:
        ours.close()
        theirs.close()
        end_all([process.pid])
        process.wait()

    assert problems(found) == ["leftovers"]
    assert f"workers.replay, pid {process.pid}, is left over" in found["leftovers"]["words"]


@pytest.mark.parametrize(
    ("feed", "step"),
    [("wss://no-such-host.invalid", "dns"), ("ws://127.0.0.1:{free}", "tcp"), ("wss://127.0.0.1:{plain}", "tls")],
)
def test_without_a_way_to_the_upstream_it_says_where_the_way_ends(
    simulator: Simulator, patient: Mcm, feed: str, step: str
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        configure(patient, feed.format(free=unused.getsockname()[1], plain=simulator.port))

        status, found = examine(patient)

    assert (status, problems(found)) == (1, [step])
    assert found["upstream"]["words"] == "not checked: the rest of the way, key and channels"
    assert found["libraries"]["verdict"] == "ok"


@contextlib.contextmanager
def wrong_clock(offset_s: float, certificate: Path | None = None) -> Iterator[int]:
    """An upstream that has another time, and no WebSocket; with a *certificate* (and its key in the file) by TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(503)
            self.send_header("Date", formatdate(time.time() + offset_s, usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_clock_that_is_off_is_a_problem_and_so_is_a_refused_upgrade(patient: Mcm) -> None:
    with wrong_clock(-3_600.0) as port:
        configure(patient, f"ws://127.0.0.1:{port}")

        _, found = examine(patient)

    assert problems(found) == ["clock", "upgrade"]
    assert found["clock"]["words"].startswith("3600.") or found["clock"]["words"].startswith("3599.")
    assert "refused the upgrade of stocks with HTTP 503" in found["upgrade"]["words"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes certificates, is not installed")
def test_a_certificate_is_a_problem_unless_it_is_trusted_and_a_warning_when_it_ends_soon(patient: Mcm) -> None:
    file = patient.folder / "certificate.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", "-subj", "/CN=localhost"]
    request += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(file), "-out", str(file) + ".crt"]
    subprocess.run(request, check=True, capture_output=True)
    file.write_text(file.read_text() + Path(str(file) + ".crt").read_text())

    with wrong_clock(0.0, file) as port:
        configure(patient, f"wss://localhost:{port}")
        _, distrusted = examine(patient, "--no-dial")
        patient.environment["SSL_CERT_FILE"] = str(file)
        _, trusted = examine(patient, "--no-dial")

    assert problems(distrusted) == ["tls"]
    assert "self-signed certificate" in distrusted["tls"]["words"]
    assert problems(trusted) == []
    assert trusted["tls"]["verdict"] == "warning"
    assert "ends in 3.0 days" in trusted["tls"]["words"]
    assert trusted["clock"]["verdict"] == "ok"


def test_while_mcm_runs_it_is_asked_and_no_connection_is_opened(
    vendor: Callable[..., Simulator], start: Start, mcm: Mcm
) -> None:
    simulator = vendor("--key", KEY)
    mcm.environment["MASSIVE_API_KEY"] = KEY
    start(ONE_LINE.format(feed=f"ws://127.0.0.1:{simulator.port}"))
    mcm.wait_ready()

    status, found = examine(mcm)
    other, beside = examine(mcm, run_dir=mcm.folder / "other")

    assert (status, problems(found)) == (0, [])
    assert found["mcm"]["words"].startswith(f"runs, pid {mcm.status().pid}, ready")
    assert found["key for stocks"]["words"] == "good: primary live"
    assert found["channels of stocks"]["words"] == "all 2 topics confirmed"
    assert other == 0
    assert "another mcm uses this account (pid " in beside["key for stocks"]["words"]
    assert len(simulator.remote.report().dials) == 1


def test_what_was_learned_of_the_account_is_told(patient: Mcm) -> None:
    patient.config.write_text(patient.config.read_text() + '[[connections]]\nname = "secondary"\n')
    patient.run_dir.mkdir(mode=0o700)
    (patient.run_dir / "live.json").write_text('{"allowed": {"stocks": 1}}')

    status, found = examine(patient, "--no-dial")

    assert status == 0
    assert "allow 1 of the 2 configured" in found["allowance of stocks"]["words"]


def test_a_mistake_in_the_configuration_does_not_keep_it_from_the_rest(patient: Mcm) -> None:
    patient.config.write_text("[routing]\nstratgy = 1\n")

    status, found = examine(patient)

    assert (status, problems(found)) == (1, ["configuration"])
    assert "did you mean strategy" in found["configuration"]["mend"]
    assert found["python"]["verdict"] == "ok"


def test_a_run_directory_that_cannot_be_is_a_problem(patient: Mcm) -> None:
    (patient.folder / "file").write_text("in the way")

    _, in_the_way = examine(patient, "--no-dial", run_dir=patient.folder / "file" / "run")
    _, too_long = examine(patient, "--no-dial", run_dir=patient.folder / ("x" * 100))

    assert "run directory" in problems(in_the_way)
    assert "run directory" in problems(too_long)
    assert "longer than 107 bytes" in too_long["run directory"]["words"]


def test_the_places_of_an_account_are_seen_and_left_as_they_are(tmp_path: Path) -> None:
    assert locks.slot_holders(tmp_path) == []

    held = locks.acquire_slot(tmp_path / "account", 2)

    assert isinstance(held, locks.Held)
    assert len(locks.slot_holders(tmp_path / "account")) == 1
    held.release()
    assert locks.slot_holders(tmp_path / "account") == []
