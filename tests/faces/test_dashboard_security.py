"""Who may read and change what at the dashboard, and that it tells no secrets."""

import itertools
import json
from pathlib import Path

import pytest

from mcm import configuration
from mcm.core.errors import SettingsError
from mcm.core.web_api import PATHS
from tests.faces.dashboard import KEY, MARK, TOKEN, Board
from tests.processes.stack import wait_until

pytestmark = pytest.mark.xdist_group("dashboard security")  # one mcm for all of them
BEARER = f"Bearer {TOKEN}"
STATIC = sorted(Path(__file__).resolve().parent.parent.parent.joinpath("mcm", "web", "static").iterdir())
PAGE = ["/", *(f"/static/{path.name}" for path in STATIC if path.name != "index.html")]
READS = [path for path, operations in PATHS.items() if "get" in operations]


def places() -> list[str]:
    return [*PAGE, *(path.replace("{id}", "primary").replace("{topic}", "AAPL") for path in READS)]


def test_no_answer_no_event_and_no_log_holds_the_key_the_token_or_the_environment(locked: Board) -> None:
    said = b""
    for path in [*places(), "/api/nothing", "/api/topics/nothing"]:
        for headers in ({}, {"Authorization": BEARER}):
            answer = locked.web.get(path, **headers)
            said += answer.body + json.dumps(answer.headers).encode()
    for _, picture in itertools.islice(locked.web.events(Authorization=BEARER), 9):
        said += json.dumps(picture).encode()
    said += locked.web.get(f"/?token={TOKEN}").body + locked.web.get("/api/status?token=wrong").body
    said += locked.web.post("/api/move", {"what": "x", "connection": "y"}, Authorization=BEARER).body
    said += locked.mcm.logs().encode() + "".join(locked.mcm.processes().values()).encode()
    said += locked.mcm.cli("status", "--json").stdout.encode()

    assert len(said) > 20_000
    for secret in (KEY, TOKEN, MARK):
        assert secret.encode() not in said


def test_every_answer_has_the_headers_that_keep_pages_of_others_out(board: Board) -> None:
    for path in [*places(), "/api/nothing"]:
        headers = board.web.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == ("no-cache" if path in PAGE else "no-store"), path
        assert "aiohttp" not in headers["server"]


def test_a_page_that_is_known_already_is_not_sent_again(board: Board) -> None:
    tag = board.web.get("/").headers["etag"]

    assert board.web.get("/", If_None_Match=tag).status == 304


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}],
)
def test_a_page_of_another_origin_changes_nothing(board: Board, headers: dict[str, str]) -> None:
    for path in ("/api/websocket/rebalance", "/api/connections/primary/pause", "/api/subscribe"):
        assert board.web.post(path, {}, **headers).status == 403
    assert board.mcm.status().connections["primary"].state == "live"


def test_a_name_that_was_made_to_point_here_reads_and_changes_nothing(board: Board) -> None:
    assert board.web.get("/api/status", Host="evil.example").status == 421
    assert board.web.post("/api/connections/primary/pause", Host="evil.example").status == 421
    port = board.web.address.rpartition(":")[2]
    assert board.web.get("/api/status", Host=f"localhost:{port}").status == 200


def test_with_a_token_nothing_but_the_health_is_told_without_it(locked: Board) -> None:
    for path in [*places(), "/api/stream", "/api/nothing"]:
        assert locked.web.get(path).status == (200 if path == "/health" else 401), path
    assert locked.web.post("/api/connections/primary/pause").status == 401
    assert locked.web.get("/api/status", Authorization="Bearer wrong").status == 401
    assert locked.web.get("/api/status", Authorization=BEARER).status == 200
    assert "Authorization: Bearer" in locked.web.get("/api/status").json["hint"]


def test_a_token_in_the_address_becomes_a_cookie_and_leaves_the_address(locked: Board) -> None:
    opened = locked.web.get(f"/?token={TOKEN}&theme=dark")

    assert opened.status == 303
    assert opened.headers["location"] == "/?theme=dark"
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    value = cookie.partition(";")[0]
    assert locked.web.get("/", Cookie=value).status == 200
    assert locked.web.post("/api/websocket/rebalance", {"dry_run": True}, Cookie=value).status in {200, 400}
    evil = locked.web.post("/api/websocket/rebalance", {}, Cookie=value, Origin="http://evil.example")
    assert evil.status == 403
    assert locked.web.get("/?token=wrong-token").status == 401
    wait_until(lambda: locked.web.get("/ready", Cookie=value).status == 200, because="ticks have come")


# --- the settings -----------------------------------------------------------------------------------------------------


def load(folder: Path, text: str, **variables: str) -> configuration.Configuration:
    (folder / "config.toml").write_text('[[connections]]\nname = "only"\n' + text)
    return configuration.load(folder / "config.toml", variables)


def test_it_listens_for_other_machines_only_with_a_token(tmp_path: Path) -> None:
    text = '[dashboard]\nlisten = "0.0.0.0:8765"\n'

    found = load(tmp_path, text + 'token_env = "SECRET"\nhosts = ["desk.example.com"]\n', SECRET="has-eight-letters")

    assert found.dashboard_token is not None
    assert found.dashboard_token.reveal() == "has-eight-letters"
    assert "has-eight" not in repr(found)
    with pytest.raises(SettingsError, match=r"can be reached from outside.*dashboard\.token_env"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "variables", "problem"),
    [
        ('token_env = "SECRET"', {}, "SECRET: is not set"),
        ('token_env = "SECRET"', {"SECRET": "short"}, "is no token"),
        ('token_env = "the-token-itself"', {}, "is not the name of an environment variable"),
        ('hosts = ["desk:8765"]', {}, "is no host name"),
        ('listen = "8765"', {}, "is no address"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, text: str, variables: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(tmp_path, f"[dashboard]\n{text}\n", **variables)

    assert problem in str(refused.value)
    assert "the-token-itself" not in str(refused.value)


def test_a_dashboard_that_is_off_needs_no_token(tmp_path: Path) -> None:
    found = load(tmp_path, '[dashboard]\nenabled = false\ntoken_env = "SECRET"\n')

    assert found.dashboard_token is None
