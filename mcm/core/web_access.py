"""Who may ask the dashboard what: decided from a request's head alone.

Without a token, it serves programs and pages of this machine only.  A browser on this machine also runs pages of
others, which must neither read (DNS rebinding: their name would stand in Host) nor write (Origin says whose it is).
With a token, whoever has it may come from anywhere, but still no page of others may use the cookie of a person.
"""

import hashlib
import ipaddress
import urllib.parse
from collections.abc import Collection
from dataclasses import dataclass, field

from mcm.core.settings_values import is_local

__all__ = ["Access", "Asked", "Denied"]

_FETCHED_BY_US = {"", "none", "same-origin"}


@dataclass(frozen=True)
class Asked:
    """What of a request matters here; absent headers are empty.

    Attributes:
        is_write: whether it changes something.
        authorization, cookie, host, origin: as the headers have them; cookie is the value of ours.
        fetch_site: ``Sec-Fetch-Site``, which browsers set and pages cannot.
        in_query: the token in the address.
    """

    is_write: bool = False
    host: str = ""
    origin: str = ""
    fetch_site: str = ""
    authorization: str = ""
    cookie: str = ""
    in_query: str = ""


@dataclass(frozen=True)
class Denied:
    """HTTP status, what is wrong, and what helps."""

    status: int
    problem: str
    hint: str


@dataclass(frozen=True)
class Access:
    """The rules of one dashboard.

    Attributes:
        token: empty for none.
        hosts: names by which browsers may call it, besides addresses and those of loopback.
    """

    token: str = field(default="", repr=False)
    hosts: Collection[str] = ()

    def judge(self, asked: Asked, *, is_open: bool = False) -> Denied | None:
        """None for what may be answered; *is_open* is for what everybody may know who reaches it."""
        if not self._knows(asked.host):
            hint = "call it by its address, as in http://127.0.0.1:8765, or add the name to dashboard.hosts"
            return Denied(421, "this name is not one of the dashboard's", hint)
        if asked.is_write and not _is_same_origin(asked):
            return Denied(403, "a page of another origin must not change anything here", "use the dashboard itself")
        if is_open or not self.token:
            return None
        if self.opens(asked.in_query) or self.opens(_bearer(asked.authorization)) or self._is_cookie(asked.cookie):
            return None
        hint = "send the header `Authorization: Bearer TOKEN`, or open the page once with ?token=TOKEN"
        return Denied(401, "the token is missing or wrong", hint)

    def opens(self, token: str) -> bool:
        """Whether this is the token; compared by digests, whose time to compare tells nothing."""
        return bool(self.token) and _digest(token) == _digest(self.token)

    @property
    def cookie(self) -> str:
        """What a browser keeps in place of the token: it opens this dashboard, and the token cannot be read off it."""
        return _digest(f"cookie of the dashboard: {self.token}")

    def _is_cookie(self, text: str) -> bool:
        return _digest(text) == _digest(self.cookie)

    def _knows(self, host: str) -> bool:
        try:
            name = urllib.parse.urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if name is None:
            return False
        if is_local(name) or name in self.hosts:
            return True
        return bool(self.token) and _is_address(name)  # an address cannot be rebound


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _is_same_origin(asked: Asked) -> bool:
    """Programs send neither header; browsers send Origin with every write, and current ones Sec-Fetch-Site."""
    if asked.fetch_site not in _FETCHED_BY_US:
        return False
    return not asked.origin or urllib.parse.urlsplit(asked.origin).netloc.lower() == asked.host.lower()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
