"""README says what the code does: every key, default, command, option, order, field and channel, and its examples."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any, cast

import click
import msgspec
import pytest

from mcm.cli import main
from mcm.core import overrides, settings
from mcm.core.exits import Exit
from mcm.core.markets import MARKETS
from mcm.core.status import AccountStatus, ConnectionStatus, RouterStatus, Status
from mcm.simulator.__main__ import _parser
from mcm.simulator.orders import ORDERS, ConnectionOrder, Order

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text()
ROOT = cast(msgspec.inspect.StructType, msgspec.inspect.type_info(settings.Settings))


def section(title: str, level: int = 2) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    found = re.search(
        rf"^{'#' * level} {re.escape(title)}\n(.*?)(?=^#{{1,{level}}} |\Z)", README, re.MULTILINE | re.DOTALL
    )
    assert found is not None, title
    return found[1]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of the tables in *text*, by their first cell."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return {row[0]: row for row in cells}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


# --- configuration ---------------------------------------------------------------------------------------------------


def struct_of(kind: Any) -> msgspec.inspect.StructType | None:
    """The record that a key holds, or holds a list of."""
    match kind:
        case msgspec.inspect.StructType():
            return kind
        case msgspec.inspect.VarTupleType(item_type=msgspec.inspect.StructType() as inner):
            return inner
        case msgspec.inspect.UnionType(types=types):
            return next((found for inner in types if (found := struct_of(inner)) is not None), None)
        case _:
            return None


def sections() -> list[tuple[str, msgspec.inspect.Field]]:
    """(heading in README, key) for every key of the file."""
    found = []
    for field in ROOT.fields:
        kind = struct_of(field.type)
        if kind is None:
            heading = "[universes]" if field.name == "universes" else "Top of the file"
            found.append((heading, field))
        else:
            heading = f"[[{field.name}]]" if isinstance(field.type, msgspec.inspect.VarTupleType) else f"[{field.name}]"
            found += [(heading, inner) for inner in kind.fields]
    return found


def default_of(field: msgspec.inspect.Field) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "not set" if value is None else f"`{json.dumps(value)}`"


def bounds_of(kind: Any) -> str:
    match kind:
        case msgspec.inspect.Metadata(type=inner):
            return bounds_of(inner)
        case msgspec.inspect.UnionType(types=types):
            return bounds_of(types[0])
        case msgspec.inspect.IntType(ge=int(least), le=int(most)) | msgspec.inspect.FloatType(ge=least, le=most) if (
            least is not None and most is not None
        ):
            return f"{least:.0f} to {most:.0f}" if isinstance(least, float) else f"{least} to {most}"
        case _:
            return ""


@pytest.mark.parametrize(("heading", "field"), sections(), ids=lambda value: getattr(value, "name", value))
def test_every_key_stands_in_its_table_with_its_default_and_its_range(
    heading: str, field: msgspec.inspect.Field
) -> None:
    configuration = section("Configuration")
    parts = dict(re.findall(r"^\*\*`?([^`*]+)`?\*\*(.*?)(?=^\*\*|^###|\Z)", configuration, re.MULTILINE | re.DOTALL))

    row = rows(parts[heading])[f"`{field.name}`"]

    _, _, default, allowed, meaning = row
    assert default == default_of(field)
    assert bounds_of(field.type) in allowed
    assert meaning or field.name == "market"


def test_no_table_of_the_configuration_has_a_key_that_is_not_there() -> None:
    named = {cell.strip("`") for cell in rows(section("Configuration").partition("### Environment")[0])} - {
        "key",
        "---",
    }

    assert named == {field.name for _, field in sections()}


def test_a_key_that_can_be_one_of_some_words_names_them_all() -> None:
    routing = section("Configuration").partition("**`[routing]`**")[2]

    for word in settings.STRATEGIES:
        assert f"`{word}`" in routing


def test_every_variable_is_named() -> None:
    table = rows(section("Environment", 3))
    expected = set(overrides._GENERAL) | {f"WEBSOCKET_CONNECTION_n_{kind}" for kind in overrides._PER_CONNECTION}

    assert {name.strip("`") for name in table} >= expected | {"MASSIVE_API_KEY", "MCM_RUN_DIR"}


@pytest.mark.parametrize("text", blocks("toml"))
def test_what_is_shown_of_a_configuration_can_be_read(text: str) -> None:
    settings.draft(tomllib.loads(text), "README.md")


# --- commands and contracts -------------------------------------------------------------------------------------------


COMMANDS = main.list_commands(click.Context(main))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_table_with_every_option(name: str) -> None:
    heads = [head for head in rows(section("Commands")) if re.match(rf"`mcm {name}[ `]", head)]
    assert len(heads) == 1

    (head,) = heads
    command = main.get_command(click.Context(main), name)
    assert command is not None
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    parameters = [*command.params, *(parameter for one in inner for parameter in one.params)]
    for parameter in parameters:
        if isinstance(parameter, click.Option):
            assert f"[{parameter.opts[0]}" in head
        else:
            assert (parameter.name or "").upper() in head
    shown = set(re.findall(r"--[a-z-]+", head))
    assert shown == {opt for one in parameters if isinstance(one, click.Option) for opt in one.opts}


def test_every_exit_code_is_explained() -> None:
    assert {head for head in rows(section("Commands")) if head.isdigit()} == {str(code.value) for code in Exit}


@pytest.mark.parametrize("kind", [Status, ConnectionStatus, RouterStatus, AccountStatus])
def test_every_field_of_the_status_is_explained(kind: type[msgspec.Struct]) -> None:
    text = section("Status")

    assert [name for name in kind.__struct_fields__ if f"`{name}`" not in text] == []


@pytest.mark.parametrize("market", MARKETS)
def test_every_channel_is_named_in_the_table_of_topics(market: str) -> None:
    row = rows(section("Topics"))[f"`{market}`"]

    for channel, words in MARKETS[market].channels.items():
        assert f"`{channel}`" in row[1]
        assert words in row[1] or channel == "FMV"
    assert MARKETS[market].example in row[2]


def dependencies() -> dict[str, str]:
    """Package → mark: empty for what mcm needs to run, else the first group that has it, or where it is needed."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    groups = {"": project["project"]["dependencies"], **project["project"]["optional-dependencies"]}
    groups["build"] = project["build-system"]["requires"]
    found: dict[str, str] = {}
    for group, packages in groups.items():
        for wanted in packages:
            name, _, condition = wanted.partition(";")
            mark = "Windows" if "win32" in condition else group
            found.setdefault(re.split(r"[<>=~!\[ ]", name)[0], mark)
    return found


def test_every_dependency_stands_in_its_table_with_its_mark_and_its_reason() -> None:
    table = rows(section("Dependencies"))
    table.pop("package")

    marked = {re.sub(r" \*(\w+)\*$", r" \1", head): row[1] for head, row in table.items()}

    assert set(marked) == {f"{name} {mark}".strip() for name, mark in dependencies().items()}
    assert all(len(reason) > 30 for reason in marked.values())


# --- the simulator ----------------------------------------------------------------------------------------------------


def test_every_option_of_the_simulator_is_named() -> None:
    text = section("The simulator")

    options = [option for action in _parser()._actions for option in action.option_strings if option.startswith("--")]
    assert [option for option in options if option != "--help" and f"`{option}`" not in text] == []


@pytest.mark.parametrize(("name", "kind"), ORDERS.items())
def test_every_order_stands_in_the_table_with_its_fields_and_a_body_that_is_accepted(
    name: str, kind: type[Order]
) -> None:
    table = rows(section("Orders", 3))
    mark = " °" if issubclass(kind, ConnectionOrder) else ""

    _, body, meaning = table[f"`{name}`{mark}"]

    if body:
        assert isinstance(msgspec.json.decode(body.strip("`"), type=kind), kind)
    common = {"connection", "market", "key"} if mark else set()
    missing = {field for field in kind.__struct_fields__ if f'"{field}"' not in body and f"`{field}`" not in meaning}
    assert missing <= common
    required = {field.name for field in msgspec.structs.fields(kind) if field.required}
    assert set(re.findall(r"\*\*`(\w+)`\*\*", meaning)) == required


def test_every_call_of_curl_names_an_order_or_a_path_that_is_there() -> None:
    calls = re.findall(r"^curl (?:-d '(.*?)' |-X POST )http://127\.0\.0\.1:9001/orders/(\S+)$", README, re.MULTILINE)

    assert len(calls) >= 3
    for body, name in calls:
        msgspec.json.decode(body or "{}", type=ORDERS[name])


# --- examples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", blocks("python"))
def test_every_example_in_python_can_be_compiled(text: str) -> None:
    compile(text, "README.md", "exec")


def test_the_plain_subscriber_has_ten_lines() -> None:
    example = next(text for text in blocks("python") if "zmq.SUB" in text)

    assert len([line for line in example.splitlines() if line.strip()]) == 10


def test_every_link_leads_somewhere() -> None:
    root = Path(__file__).resolve().parent.parent
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }

    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.removeprefix("#") in anchors if target.startswith("#") else (root / target).exists(), target
