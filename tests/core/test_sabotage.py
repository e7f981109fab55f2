"""The controls switch off what they say, and nothing else."""

from mcm.core.notices import CONTROL, CoverChange, LineMark, group_of, readable_notices
from mcm.core.sabotage import is_wanted, sabotaged
from mcm.core.testing import Testing
from mcm.core.wire import Batch, Group

TICKS = Group(b"stocks.T.A", 1, b"\x91\x01")
COVER, MARK = CoverChange(["stocks.T.A"], ["a", "b"], ["a"]), LineMark("a")
BATCH = Batch("supervisor", 1, 1, 0, 0, [group_of(CONTROL, [COVER, MARK]), TICKS])


def left_by(testing: Testing) -> list[object]:
    assert is_wanted(testing)
    control, ticks = sabotaged(BATCH, testing).groups
    assert ticks == TICKS
    return list(readable_notices(control.ticks))


def test_without_arbitration_the_router_hears_of_no_cover() -> None:
    assert left_by(Testing(arbitrate=False)) == [MARK]


def test_without_splice_every_line_is_in_step_from_the_start_and_stays_so() -> None:
    assert left_by(Testing(splice=False)) == [CoverChange(["stocks.T.A"], ["a", "b"], ["a", "b"])]


def test_by_default_nothing_is_switched_off() -> None:
    assert not is_wanted(Testing())
