from typing import Any

import msgspec
import pytest

from mcm.core.web_access import Access, Asked

HERE = "127.0.0.1:8765"
TOKEN = "a-token-for-tests"


def status(access: Access, asked: Asked, *, is_open: bool = False) -> int:
    denied = access.judge(asked, is_open=is_open)
    return denied.status if denied is not None else 200


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765", "127.0.0.1", "desk:9000"])
def test_without_a_token_this_machine_is_known_by_its_own_names(host: str) -> None:
    assert status(Access(hosts=["desk"]), Asked(host=host)) == 200


@pytest.mark.parametrize("host", ["evil.example:8765", "", "10.1.2.3:8765", "127.0.0.1.evil.example", "[", "a@b"])
def test_a_page_whose_name_was_made_to_point_here_reads_nothing(host: str) -> None:
    assert status(Access(), Asked(host=host)) == 421


@pytest.mark.parametrize("origin", ["", "http://127.0.0.1:8765"])
def test_programs_and_the_page_itself_may_write(origin: str) -> None:
    assert status(Access(), Asked(is_write=True, host=HERE, origin=origin)) == 200


@pytest.mark.parametrize(
    ("origin", "fetch_site"),
    [
        ("http://evil.example", ""),
        ("http://127.0.0.1:9999", ""),
        ("null", ""),
        ("", "cross-site"),
        ("", "same-site"),
        ("http://127.0.0.1:8765", "cross-site"),
    ],
)
@pytest.mark.parametrize("token", ["", TOKEN])
def test_pages_of_other_origins_write_nothing_with_a_token_or_without(origin: str, fetch_site: str, token: str) -> None:
    access = Access(token)
    asked = Asked(is_write=True, host=HERE, origin=origin, fetch_site=fetch_site, cookie=access.cookie)

    assert status(access, asked) == 403


def test_with_a_token_nothing_but_the_health_is_told_without_it() -> None:
    access = Access(TOKEN)

    assert status(access, Asked(host=HERE)) == 401
    assert status(access, Asked(host=HERE, authorization="Bearer wrong-token")) == 401
    assert status(access, Asked(host=HERE, authorization=TOKEN)) == 401
    assert status(access, Asked(host=HERE, cookie=TOKEN)) == 401, "the cookie is not the token"
    assert status(access, Asked(host=HERE), is_open=True) == 200


@pytest.mark.parametrize(
    "key", [{"authorization": f"Bearer {TOKEN}"}, {"in_query": TOKEN}, {"cookie": Access(TOKEN).cookie}]
)
def test_the_token_opens_everything_from_anywhere(key: dict[str, Any]) -> None:
    access = Access(TOKEN)

    assert status(access, Asked(host="10.1.2.3:8765", **key)) == 200
    assert status(access, Asked(is_write=True, host=HERE, **key)) == 200


def test_the_token_cannot_be_read_off_the_cookie_or_the_rules() -> None:
    assert TOKEN not in Access(TOKEN).cookie
    assert TOKEN not in repr(Access(TOKEN))


def test_what_is_denied_says_what_helps() -> None:
    denied = Access(TOKEN).judge(Asked(host=HERE))

    assert denied is not None
    assert "Authorization: Bearer" in denied.hint
    assert msgspec.to_builtins(denied)["status"] == 401
