"""Tokens of the gateway, from the file and the variables to settings and secrets."""

from pathlib import Path

import pytest

from mcm import configuration
from mcm.core.errors import SettingsError

LINE = '[[connections]]\nname = "only"\n'
TOKEN = '[gateway.tokens.alice]\ntoken_env = "ALICE"\n'


def load(folder: Path, text: str, **variables: str) -> configuration.Configuration:
    (folder / "config.toml").write_text(LINE + text)
    return configuration.load(folder / "config.toml", variables)


def test_a_token_comes_from_its_variable_or_from_dotenv_and_shows_itself_nowhere(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BOB=bob-has-this-one\n")

    found = load(tmp_path, TOKEN + '[gateway.tokens.bob]\ntoken_env = "BOB"\n', ALICE="alice-has-this")

    assert {name: secret.reveal() for name, secret in found.tokens.items()} == {
        "alice": "alice-has-this",
        "bob": "bob-has-this-one",
    }
    assert "has-this" not in repr(found)


def test_a_gateway_that_is_off_needs_no_token(tmp_path: Path) -> None:
    assert load(tmp_path, "[gateway]\nenabled = false\n" + TOKEN).tokens == {}


def test_with_tokens_it_may_listen_for_other_machines(tmp_path: Path) -> None:
    text = '[gateway]\nlisten = "0.0.0.0:8766"\n'

    assert load(tmp_path, text + TOKEN, ALICE="alice-has-this").settings.gateway.listen == "0.0.0.0:8766"
    with pytest.raises(SettingsError, match="can be reached from outside"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "variables", "problem"),
    [
        (TOKEN, {}, "ALICE: is not set"),
        (TOKEN, {"ALICE": "short"}, "is no token"),
        (TOKEN, {"ALICE": "with a space"}, "is no token"),
        (TOKEN + '[gateway.tokens.bob]\ntoken_env = "ALICE"', {"ALICE": "alice-has-this"}, "of another program"),
        ('[gateway.tokens.alice]\ntoken_env = "alice-has-this"', {}, "is not the name of an environment variable"),
        ("[gateway.tokens.alice]\n", {}, "is missing"),
        ('[gateway.tokens."Alice B"]\ntoken_env = "ALICE"', {}, "cannot be a name"),
        (TOKEN + 'topics = ["T.AAPL"]', {"ALICE": "alice-has-this"}, "allows nothing"),
        (TOKEN + 'token = "alice-has-this"', {}, "there is no such key"),
        (TOKEN + f"topics = {['stocks.T.*'] * 2_000}", {"ALICE": "alice-has-this"}, "too many"),
    ],
)
def test_what_cannot_be_is_refused_and_no_token_repeated(
    tmp_path: Path, text: str, variables: dict[str, str], problem: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load(tmp_path, text, **variables)

    assert problem in str(refused.value)
    assert "alice-has-this" not in str(refused.value)
