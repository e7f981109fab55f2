"""The replay process beside a long past: nobody waits for the whole of it who wants a part."""

from pathlib import Path

import pytest

from mcm import bus
from mcm.core.replaying import AskHeads, AskRange, Heads, Messages, decode_answer, encode
from mcm.journal import directory_of, extents
from tests.processes.stack import wait_until
from tests.processes.test_matrix_files import write_past
from workers import replay as process
from workers.replay import Past, Replay


def test_a_long_past_is_read_in_pieces_and_a_range_needs_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that read all of it in one turn was taken for a hang, and began again for ever."""
    write_past(directory_of(tmp_path), 6 * process.FOLLOW_BYTES)
    context: bus.Context[bus.Socket[bytes]] = bus.Context()
    try:
        past = Past(directory_of(tmp_path))
        replay = Replay(bus.replay_server(context, tmp_path), past)
        heads, ranges = (bus.replay_client(context, tmp_path) for _ in range(2))
        begins = past.head
        heads.send(encode(AskHeads(1, (b"",))))
        wait_until(replay.receive, because="the request for heads is there")
        assert past.epoch is not None
        ranges.send(encode(AskRange(2, past.epoch, 1, 10, (b"",), 100)))
        wait_until(replay.receive, because="the request for a range is there")

        is_asked, read_so_far = replay.is_waiting, past.head
        assert is_asked
        assert read_so_far == begins, "asking reads nothing of it"
        replay.stream()
        piece = decode_answer(ranges.recv())
        assert isinstance(piece, Messages)
        assert piece.is_end
        assert len(piece.frames) == 10
        turns = 0
        while past.follow():
            turns += 1
        assert turns >= 5, "each turn reads a piece"
        replay.caught_up()
        answer = decode_answer(heads.recv())
        assert isinstance(answer, Heads)
        assert answer.head == past.head > begins
        assert not replay.is_waiting
        assert past.begins == extents(directory_of(tmp_path))[0].first
    finally:
        context.destroy(linger=0)
