"""The board: numbers that processes share, by worker and replica."""

import os
import subprocess
import sys

from secondsource.gateway.workers.board import PLACES, Board, Places, Reads, Tally, new_board
from secondsource.gateway.workers.messages import ReplicaName


def test_each_sees_what_the_others_have() -> None:
    board = new_board(3)
    tallies = [Tally(board, worker, 7) for worker in (1, 2, 3)]
    for worker, tally in enumerate(tallies, 1):
        tally.write(worker)
    assert [tally.others() for tally in tallies] == [5, 4, 3]
    assert Tally(board, 1, 8).others() == 0
    board.wipe(2)
    assert [tally.others() for tally in tallies] == [3, 4, 1]
    board.close()


def test_each_sees_until_when_a_replica_reads_what_others_sent() -> None:
    board = new_board(3)
    reads = [Reads(board, worker, 7) for worker in (1, 2, 3)]
    for worker, one in enumerate(reads, 1):
        one.write(10.0 * worker)
    assert [one.others() for one in reads] == [30.0, 30.0, 20.0]
    assert Reads(board, 1, 8).others() == 0.0
    assert Tally(board, 1, 7).others() == 0
    board.wipe(3)
    assert [one.others() for one in reads] == [20.0, 10.0, 20.0]
    board.close()


def test_another_process_sees_it() -> None:
    board = new_board(2)
    board.write(1, PLACES - 1, 42)
    code = "import sys; from secondsource.gateway.workers.board import *; "
    code += "board = Board(int(sys.argv[1]), 2); print(board.others(2, PLACES - 1)); board.write(2, 0, 5)"
    command = [sys.executable, "-c", code, str(board.descriptor)]
    told = subprocess.run(command, pass_fds=[board.descriptor], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout == "42\n"
    again = Board(os.dup(board.descriptor), 2)
    assert again.others(1, 0) == 5
    again.close()
    board.close()


def test_guests_of_a_worker_that_is_gone_are_forgotten() -> None:
    board = new_board(2)
    board.guests(1).keep(7, 10.0, 20.0, 0.0)
    board.guests(2).keep(8, 10.0, 20.0, 0.0)
    board.write(1, 3, 5)
    board.wipe(2)
    known = board.guests(2)
    assert known.find(7) is not None
    assert known.find(8) is None
    assert board.others(2, 3) == 5


def test_a_replica_keeps_its_place_and_those_beyond_the_board_have_none() -> None:
    places, names = Places(), [ReplicaName("p", f"http://r{number}") for number in range(PLACES + 1)]
    assert places.of(names[:2]) == [(names[0], 0), (names[1], 1)]
    assert places.of([names[3], names[1]]) == [(names[3], 2), (names[1], 1)]
    assert len(places.of(names)) == PLACES
