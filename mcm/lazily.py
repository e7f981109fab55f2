"""Names of a package that are loaded when they are first used: a program pays for what it names and nothing else."""

from collections.abc import Callable, Mapping

__all__ = ["attributes"]


def attributes(package: str, where: Mapping[str, str]) -> Callable[[str], object]:
    """The ``__getattr__`` of *package*, whose names are in the modules that *where* says."""

    def load(name: str) -> object:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415

        return getattr(import_module(where[name]), name)

    return load
