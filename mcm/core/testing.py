"""The ``[testing]`` section; by itself, because every child gets it and none of them needs all of the settings."""

from typing import Annotated

from msgspec import Meta, Struct

__all__ = ["Testing"]


class Testing(Struct, frozen=True, forbid_unknown_fields=True):
    """``[testing]``: faults on purpose, for upstreams on this machine only.

    Attributes:
        drop_push: share of the batches that workers do not send to the router, which then has to read their files.
        drop_publish: share of the messages that the router does not send to subscribers, who then have to repair.
        high_water_mark: messages that workers' sockets may hold.
        poison: ``CONNECTION/NUMBER`` of a batch at which the router dies, to see that it is put aside.
        arbitrate: false: the router does not know that topics are carried twice.
        splice: false: a line that has come back is compared at once, as if it were in step.
        name_gaps: false: nobody is told of gaps.
        keep_links: link files are not deleted, so that a test can compare with what each line received.
        market_is_open: every market is taken for open all the time, so that silent lines are judged by that.
    """

    drop_push: Annotated[float, Meta(ge=0, le=1)] = 0.0
    drop_publish: Annotated[float, Meta(ge=0, le=1)] = 0.0
    high_water_mark: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000
    poison: str = ""
    arbitrate: bool = True
    splice: bool = True
    name_gaps: bool = True
    keep_links: bool = False
    market_is_open: bool = False
