"""Does a parsed document have the shape of a record?  Names every key that is too many, missing or of another type.

msgspec would find the same faults but speak of ``$.account`` and ``int``; this speaks to people who edit TOML.
Single values are checked further by what their field carries in ``Meta(extra={"check": …})``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import inspect

from mcm.core.errors import SettingsError, UsageError
from mcm.core.settings_values import nearest, shown

__all__ = ["check_shape"]


def check_shape(document: Mapping[str, object], root: inspect.StructType, where: str) -> None:
    """Raise SettingsError unless *document*, the content of *where*, is a *root* in every part."""
    _Shape(where, root).check("", document, root)


class _Shape:
    def __init__(self, where: str, root: inspect.StructType) -> None:
        self._where, self._root = where, root

    def check(self, key: str, value: Any, kind: inspect.Type) -> None:
        match kind:
            case inspect.Metadata(type=inner):
                self.check(key, value, inner)
                self._check_value(key, value, kind.extra or {})
            case inspect.UnionType(types=types):
                if value is not None:  # TOML has no null: None is a field that was left out
                    self.check(key, value, next(one for one in types if not isinstance(one, inspect.NoneType)))
            case inspect.StructType() if isinstance(value, Mapping):
                self._check_table(key, value, kind)
            case inspect.DictType(key_type=key_type, value_type=value_type) if isinstance(value, Mapping):
                for name, inner_value in value.items():
                    self.check(_below(key, name), name, key_type)
                    self.check(_below(key, name), inner_value, value_type)
            case inspect.VarTupleType(item_type=item_type) if isinstance(value, (list, tuple)):
                for index, item in enumerate(value):
                    self.check(f"{key}[{index}]", item, item_type)
            case _ if not _is_of(value, kind):
                raise SettingsError(
                    self._where, key, f"{shown(value)} is not {_wanted(kind)}", _advice(key, value, kind)
                )

    def _check_value(self, key: str, value: Any, extra: Mapping[str, Any]) -> None:
        try:
            extra["check"](value)
        except UsageError as error:
            raise SettingsError(self._where, key, error.problem, error.hint) from None

    def _check_table(self, key: str, table: Mapping[str, Any], kind: inspect.StructType) -> None:
        fields = {field.name: field for field in kind.fields}
        for name in table:
            if name not in fields:
                hint = self._other_place(name, kind) or _known(name, fields)
                raise SettingsError(self._where, _below(key, name), "there is no such key", hint)
        for name, field in fields.items():
            if name in table:
                self.check(_below(key, name), table[name], field.type)
            elif field.required:
                raise SettingsError(self._where, _below(key, name), "is missing", f"give {_wanted(field.type)}")

    def _other_place(self, name: str, kind: inspect.StructType) -> str:
        """Where a key belongs that stands in the wrong table: all that follows a ``[header]`` is that header's."""
        if kind is not self._root and any(field.name == name for field in self._root.fields):
            return "it belongs to the top of the file, above the first [section]"
        tables = [
            field.name
            for field in self._root.fields
            if isinstance(field.type, inspect.StructType) and any(name == inner.name for inner in field.type.fields)
        ]
        return f"it belongs below [{tables[0]}]" if len(tables) == 1 else ""


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _known(name: str, fields: Mapping[str, object]) -> str:
    if near := nearest(name, fields):
        return f"did you mean {near}?"
    return f"known here: {', '.join(fields)}" if fields else "no key is known here yet"


def _is_of(value: Any, kind: inspect.Type) -> bool:
    match kind:
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType(ge=least, le=most):
            return isinstance(value, int) and not isinstance(value, bool) and _is_within(value, least, most)
        case inspect.FloatType(ge=least, le=most):
            return isinstance(value, int | float) and not isinstance(value, bool) and _is_within(value, least, most)
        case _:
            return False


def _is_within(value: float, least: float | None, most: float | None) -> bool:
    return (-math.inf if least is None else least) <= value <= (math.inf if most is None else most)


def _wanted(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(type=inner):
            return _wanted(inner)
        case inspect.UnionType(types=types):
            return _wanted(types[0])
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=least, le=most):
            return f"a whole number{_range(least, most)}"
        case inspect.FloatType(ge=least, le=most):
            return f"a number{_range(least, most)}"
        case inspect.VarTupleType(item_type=inspect.StructType()):
            return "a list of tables"
        case inspect.VarTupleType():
            return "a list of texts"
        case inspect.StructType() | inspect.DictType():
            return "a table"
        case _:
            return "a text in quotes"


def _range(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return ""
    return f" from {_number(least)} to {_number(most)}"


def _number(value: float) -> str:
    return f"{value:_}"


def _advice(key: str, value: Any, kind: inspect.Type) -> str:
    """How to write what was likely meant."""
    last = key.rpartition(".")[2]
    match kind, value:
        case inspect.VarTupleType(item_type=inspect.StructType()), Mapping():
            return f"write [[{last}]], with two brackets, once for each of them"
        case inspect.VarTupleType(), str():
            items: Sequence[str] = [part.strip() for part in value.split(",") if part.strip()]
            return f"write {last} = [{', '.join(map(shown, items))}]"
        case inspect.IntType() | inspect.FloatType() | inspect.BoolType(), str():
            return "write it without quotes"
        case inspect.StructType() | inspect.DictType(), list():
            return f"write [{last}], with one bracket"
        case _:
            return ""
