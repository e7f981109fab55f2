"""Mechanisms switched off on purpose: the controls to the tests that say that nothing is lost and nothing repeated."""

import msgspec

from mcm.core.notices import CONTROL, CoverChange, LineMark, Notice, TopicMark, group_of, readable_notices
from mcm.core.testing import Testing
from mcm.core.wire import Batch

__all__ = ["is_wanted", "sabotaged"]


def is_wanted(testing: Testing) -> bool:
    """Whether any batch is to be changed."""
    return not (testing.arbitrate and testing.splice)


def sabotaged(batch: Batch, testing: Testing) -> Batch:
    """*batch*, without those of its notices by which the router would do what it is not to do."""
    groups = [
        group_of(CONTROL, _left(readable_notices(group.ticks), testing)) if group.topic == CONTROL else group
        for group in batch.groups
    ]
    return msgspec.structs.replace(batch, groups=groups)


def _left(notices: list[Notice], testing: Testing) -> list[Notice]:
    left: list[Notice] = []
    for notice in notices:
        match notice:
            case CoverChange() if not testing.arbitrate:
                pass
            case CoverChange(topics, lines) if not testing.splice:
                left.append(CoverChange(topics, lines, carried_by=lines))  # in step from the start, as it were
            case LineMark() | TopicMark() if not testing.splice:
                pass
            case _:
                left.append(notice)
    return left
