"""Records that end the router: it must not die of them for ever, and must not blame the innocent."""

from pathlib import Path

import pytest

from mcm.quarantine import Quarantine


def die_at(run_dir: Path, *records: tuple[int, int]) -> None:
    """A router that takes these records and dies at the last of them."""
    quarantine = Quarantine(run_dir)
    for record in records:
        quarantine.end()
        quarantine.begin(*record)


def test_a_record_at_which_two_routers_died_is_put_aside_and_stays_so(tmp_path: Path) -> None:
    die_at(tmp_path, (7, 1), (7, 2))
    assert not Quarantine(tmp_path).keeps("primary", 7, 2, b"poison")

    die_at(tmp_path, (7, 2))
    third = Quarantine(tmp_path)

    assert not third.keeps("primary", 7, 1, b"fine")
    assert third.keeps("primary", 7, 2, b"poison")
    assert third.has_condemned(7)
    assert not third.has_condemned(8)
    (path,) = (tmp_path / "quarantine").iterdir()
    assert path.name == "primary-0000000000000007-2.record"
    assert path.read_bytes() == b"poison"
    die_at(tmp_path, (7, 3), (7, 4))
    assert Quarantine(tmp_path).keeps("primary", 7, 2, b"poison")


@pytest.mark.parametrize(
    "deaths",
    [
        [],
        [[(7, 1)]],
        [[(7, 1)], [(7, 2)]],
        [[(7, 1)], [(7, 2)], [(7, 1)]],
    ],
)
def test_records_at_which_only_one_router_in_a_row_died_are_taken(
    tmp_path: Path, deaths: list[list[tuple[int, int]]]
) -> None:
    for records in deaths:
        die_at(tmp_path, *records)

    assert not any(Quarantine(tmp_path).keeps("primary", 7, number, b"") for number in (1, 2))


def test_a_router_that_dies_between_records_blames_none(tmp_path: Path) -> None:
    for _ in range(3):
        quarantine = Quarantine(tmp_path)
        quarantine.begin(7, 1)
        quarantine.end()

    assert not Quarantine(tmp_path).keeps("primary", 7, 1, b"")


def test_without_a_place_for_its_notes_the_router_works(tmp_path: Path) -> None:
    (tmp_path / "at-work").mkdir()

    quarantine = Quarantine(tmp_path)
    quarantine.begin(7, 1)

    assert not quarantine.keeps("primary", 7, 1, b"")
