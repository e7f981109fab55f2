"""Which API key may do what.  Keys are looked up, never printed: reports show their last four characters."""

from dataclasses import dataclass

__all__ = ["EVERYTHING", "Entitlement", "Keys", "tail_of"]


@dataclass(frozen=True)
class Entitlement:
    """What a plan includes.

    Attributes:
        markets: the markets it covers; None for all.
        lacks: channels left out, as ``market.channel``, e.g. ``stocks.Q``.
    """

    markets: frozenset[str] | None = None
    lacks: frozenset[str] = frozenset()

    def covers(self, market: str) -> bool:
        return self.markets is None or market in self.markets


EVERYTHING = Entitlement()


class Keys:
    """The key table.  With no list of accepted keys, every key is good but those that begin with ``bad``."""

    def __init__(self, accepted: tuple[str, ...] | None) -> None:
        self._accepted = None if accepted is None else set(accepted)
        self._refused: set[str] = set()
        self._plans: dict[str, Entitlement] = {}
        self._refuses_all = False

    def entitlement(self, key: str) -> Entitlement | None:
        """What *key* may do, or None for a key that is not known."""
        if not key or self._refuses_all or key in self._refused:
            return None
        is_good = not key.startswith("bad") if self._accepted is None else key in self._accepted
        return self._plans.get(key) or self._plans.get("*", EVERYTHING) if is_good else None

    def refuse(self, key: str) -> None:
        """Refuse *key* from now on; ``*`` refuses all.  Living connections are left alone, as at the vendor."""
        if key == "*":
            self._refuses_all = True
        self._refused.add(key)

    def accept(self, key: str) -> None:
        """Take a refusal back; ``*`` takes all of them back."""
        if key == "*":
            self._refuses_all = False
            self._refused.clear()
        else:
            self._refused.discard(key)
            if self._accepted is not None:
                self._accepted.add(key)

    def entitle(self, key: str, plan: Entitlement) -> None:
        """Give *key* a plan; ``*`` stands for every key without one."""
        self._plans[key] = plan


def tail_of(key: str) -> str:
    """Enough of a key to recognise it by."""
    return "…" + key[-4:] if len(key) > 8 else "…"
