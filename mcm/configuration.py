"""From a configuration file, ``.env`` and the environment to checked settings and the API key; all I/O of it.

What the values mean, and which are refused, is decided in core.settings and core.overrides.
"""

import csv
import io
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from dotenv.parser import parse_stream

from mcm.core import overrides, settings
from mcm.core.errors import BadTopic, SettingsError
from mcm.core.settings import Settings
from mcm.core.settings_values import SIMULATOR, is_loopback, shown
from mcm.core.topics import check_symbol

__all__ = ["Configuration", "Secret", "load", "locate"]

_PACKAGED = Path(__file__).with_name("config.toml")
_CHECKOUT = Path(__file__).parent.with_name("config.toml")
_STAND_IN_KEY = "simulator"
_TOML_HINTS = {
    "Invalid value": 'texts stand in quotes, as in market = "stocks"',
    "Cannot overwrite a value": "a key stands only once in its table",
}
_TOKEN = re.compile(r"[!-~]{8,128}")
_SYMBOL_COLUMNS = {"symbol", "symbols", "ticker", "tickers"}


@dataclass(frozen=True)
class Secret:
    """A text that shows itself only when asked."""

    _value: str

    def reveal(self) -> str:
        """The text."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"


@dataclass(frozen=True)
class Configuration:
    """What mcm is to run.

    Attributes:
        path: the file it came from, absolute.
        run_dir: absolute; need not exist yet.
        api_key: for the upstream; a stand-in where none is needed.
        tokens: of the gateway, by their names.
        dashboard_token: None where it has none.
    """

    settings: Settings
    path: Path
    run_dir: Path
    api_key: Secret
    tokens: Mapping[str, Secret] = field(default_factory=dict)
    dashboard_token: Secret | None = None

    @property
    def has_key(self) -> bool:
        """Whether the key is one, and not the stand-in."""
        return self.api_key.reveal() != _STAND_IN_KEY


def locate(path: Path | None) -> Path:
    """*path* itself, or else ``./config.toml``, the packaged default, the one beside the package in a checkout."""
    if path is not None:
        return path.expanduser()
    return next((one for one in (Path("config.toml"), _PACKAGED) if one.is_file()), _CHECKOUT)


def load(path: Path | None, environment: Mapping[str, str], *, run_dir: Path | None = None) -> Configuration:
    """Read the configuration at *path* (see locate) with the overrides of *environment* and ``.env``.

    ``.env`` lies beside the file, and a variable of the environment wins over it.  The run directory is *run_dir*, or
    else ``MCM_RUN_DIR`` of the environment, which clients follow too, or else the file's, relative to the file.  With
    the packaged default, the current directory stands for the file's.

    Raises SettingsError; no text of it holds an API key.
    """
    file = locate(path)
    home = Path.cwd() if file == _PACKAGED else file.absolute().parent
    document = _parsed(file)
    if isinstance(universes := document.get("universes"), dict):
        document["universes"] = _with_files_read(universes, home, file)
    dotenv, in_dotenv = home / ".env", _dotenv(home / ".env")
    from_environment = {name: value for name, value in environment.items() if value.strip()}
    variables = in_dotenv | from_environment
    try:
        checked = _checked(document, str(file), variables)
        key = _api_key(checked, variables, dotenv)
        tokens = _tokens(checked, variables, dotenv)
        dashboard_token = _dashboard_token(checked, variables, dotenv)
    except SettingsError as error:
        if error.where in in_dotenv and error.where not in from_environment:
            raise SettingsError(str(dotenv), error.where, error.problem, error.hint) from None
        raise
    if run_dir is None and (variable := from_environment.get("MCM_RUN_DIR")) is not None:
        run_dir = Path(variable)
    place = run_dir.expanduser() if run_dir is not None else home / Path(checked.run_dir).expanduser()
    return Configuration(checked, file.absolute(), Path(os.path.abspath(place)), key, tokens, dashboard_token)


def _checked(document: Mapping[str, object], where: str, variables: Mapping[str, str]) -> Settings:
    result = overrides.override(settings.draft(document, where), variables)
    try:
        return settings.read(msgspec.to_builtins(result.settings), where)
    except SettingsError as error:
        raise result.blame(error) from None


def _api_key(checked: Settings, variables: Mapping[str, str], dotenv: Path) -> Secret:
    """The account's key.  The built-in simulator never gets it; other upstreams on this machine may do without."""
    feed, variable = checked.upstream.feed, checked.account.api_key_env
    key = variables.get(variable, "").strip()
    if feed == SIMULATOR or (not key and is_loopback(feed)):
        return Secret(_STAND_IN_KEY)
    if not key:
        raise _unset(variable, dotenv, f"the feed {shown(feed)} needs an API key")
    if not re.fullmatch(r"[!-~]+", key):
        raise SettingsError(variable, "", "holds a space or a character that no API key has", "copy the key once more")
    return Secret(key)


def _tokens(checked: Settings, variables: Mapping[str, str], dotenv: Path) -> dict[str, Secret]:
    """The gateway's local keys, by their names."""
    found: dict[str, str] = {}
    for name, token in checked.gateway.tokens.items() if checked.gateway.enabled else ():
        variable = token.token_env
        value = _token(variable, f"[gateway.tokens.{name}] needs it", variables, dotenv)
        if value in found.values():
            raise SettingsError(variable, "", "holds the token of another program", "give each its own")
        found[name] = value
    return {name: Secret(value) for name, value in found.items()}


def _dashboard_token(checked: Settings, variables: Mapping[str, str], dotenv: Path) -> Secret | None:
    variable = checked.dashboard.token_env
    if variable is None or not checked.dashboard.enabled:
        return None
    return Secret(_token(variable, "dashboard.token_env names it", variables, dotenv))


def _token(variable: str, why: str, variables: Mapping[str, str], dotenv: Path) -> str:
    value = variables.get(variable, "").strip()
    if not value:
        raise _unset(variable, dotenv, why)
    if not _TOKEN.fullmatch(value):
        problem = "is no token (and is not repeated here)"
        raise SettingsError(variable, "", problem, "take 8 to 128 printable characters without spaces")
    return value


def _unset(variable: str, dotenv: Path, why: str) -> SettingsError:
    hint = f"run `export {variable}=…`, or write the line {variable}=… into {dotenv}"
    return SettingsError(variable, "", f"is not set, and {why}", hint)


# --- files -----------------------------------------------------------------------------------------------------------


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # editors of another system begin with a mark
    except FileNotFoundError:
        raise SettingsError(str(path), "", "there is no such file", f"name {what}") from None
    except OSError as error:
        raise SettingsError(str(path), "", f"cannot be read: {error.strerror}", f"name {what}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingsError(f"{path}, line {line}", "", "is not UTF-8", "save the file as UTF-8") from None


def _parsed(file: Path) -> dict[str, object]:
    text = _text(file, "a configuration file; without --config, mcm takes ./config.toml or its own")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem, line, column = _place(str(error), text)
        hint = _TOML_HINTS.get(problem, "")
        raise SettingsError(f"{file}, line {line}, column {column}", "", f"no TOML: {problem}", hint) from None


def _place(message: str, text: str) -> tuple[str, int, int]:
    """Problem, line and column: until Python 3.14, the message is the only place that has them."""
    if (found := re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)) is not None:
        return found[1], int(found[2]), int(found[3])
    lines = text.split("\n")
    return message.removesuffix(" (at end of document)"), len(lines), len(lines[-1]) + 1


def _dotenv(path: Path) -> dict[str, str]:
    """The variables in ``.env`` that are set to something; none without the file."""
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(_text(path, "a readable .env, or remove it"))):
        if binding.error:
            line = f"{path}, line {binding.original.line}"
            raise SettingsError(line, "", "this is no variable", "write NAME=value, with quotes around spaces")
        if binding.key is not None and binding.value is not None and binding.value.strip():
            found[binding.key] = binding.value
    return found


def _with_files_read(universes: Mapping[str, object], home: Path, file: Path) -> dict[str, object]:
    """Universes with lists where the file had paths; anything else stays, for core.settings to refuse."""
    lists = dict(universes)
    for key, value in universes.items():
        if isinstance(value, str):
            path = home / Path(value).expanduser()
            if not path.is_file():
                hint = "write a list of symbols, or a path relative to this file"
                raise SettingsError(str(file), f"universes.{key}", f"there is no file {path}", hint)
            lists[key] = _universe(path)
    return lists


def _universe(path: Path) -> list[str]:
    text = _text(path, "a text or CSV file")
    try:
        found = list(_csv_symbols(path, text) if path.suffix.lower() == ".csv" else _text_symbols(text))
    except csv.Error as error:
        raise SettingsError(str(path), "", f"no CSV: {error}", "write one symbol per line") from None
    for line, symbol in found:
        try:
            check_symbol(symbol)
        except BadTopic as error:
            raise SettingsError(f"{path}, line {line}", "", error.problem, error.hint) from None
    if not found:
        raise SettingsError(str(path), "", "holds no symbols", "write one per line")
    return [symbol for _, symbol in found]


def _text_symbols(text: str) -> Iterator[tuple[int, str]]:
    """Symbols parted by spaces, commas or lines; ``#`` begins a comment."""
    for number, line in enumerate(text.splitlines(), start=1):
        for symbol in line.partition("#")[0].replace(",", " ").split():
            yield number, symbol


def _csv_symbols(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """The column headed ``symbol`` or ``ticker``, or the only one."""
    reader = csv.reader(io.StringIO(text, newline=""))
    column: int | None = None
    for row in reader:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if column is None:
            headed = [index for index, cell in enumerate(cells) if cell.lower() in _SYMBOL_COLUMNS]
            if not headed and len(cells) > 1:
                place = f"{path}, line {reader.line_num}"
                raise SettingsError(place, "", f"which of {len(cells)} columns?", 'head the one to take with "symbol"')
            column = headed[0] if headed else 0
            if headed:
                continue
        if column < len(cells) and cells[column]:
            yield reader.line_num, cells[column]
