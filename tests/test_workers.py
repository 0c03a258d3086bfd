"""Workers of which half compute: none of them, and nobody else, waits for a turn that can't come."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError

import pytest

from isogrow.stores import workers
from isogrow.stores.workers import computing, pool, results

SOON = 20.0  # seconds: it takes none, but for a machine that is busy


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 2)


def test_a_growth_inside_of_another_has_turns_of_its_own() -> None:
    """As of a user's function that grows another model."""

    def inner() -> int:
        with computing():
            return 3

    def outer() -> int:
        with computing(), pool() as inside:
            return inside.submit(inner).result(SOON)

    with pool() as outside:
        assert outside.submit(outer).result(SOON) == 3
    with ThreadPoolExecutor(1) as stranger:
        assert stranger.submit(outer).result(SOON) == 3
    assert outer() == 3


def test_half_of_the_workers_compute() -> None:
    meeting = Barrier(2)

    def work() -> bool:
        with computing():
            try:
                meeting.wait(0.1)
            except BrokenBarrierError:
                return False
            return True

    with pool() as two:
        assert list(results([work, work], two, 2)) == [False, False]


def test_an_error_gives_its_turn_back() -> None:
    def failing() -> None:
        with computing():
            raise KeyError("x")

    def work() -> int:
        with computing():
            return 1

    with pool() as two:
        for _ in range(3):
            with pytest.raises(KeyError):
                two.submit(failing).result(SOON)
        assert two.submit(work).result(SOON) == 1
