"""Growths that are killed at any moment: nothing that looks finished is left, the source is as it was, and a
later run, a new one or one that goes on, writes what an undisturbed one does."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import sweeping
from checkpoints import SMALL, digests, save, seen
from forking import PROCESSES
from test_train import log, written

from isogrow.cli import app
from isogrow.errors import OutputError
from isogrow.stores.staging import lock_of, partial_of
from isogrow.train import trainer

KILLS = sweeping.KILLS
MANY = 100 if sweeping.EVERYTHING else KILLS // 3  # kills that hit a growth at work
GROWING = 20  # kills of a training run while it grows
OPTIONS = {"max_shard_size": "30KB", "hash_files": True}

pytestmark = [pytest.mark.slow, pytest.mark.sweep("examples")]


def work(small: Path, out: Path, resume: bool) -> None:
    """The job of a process that may be killed."""
    seen(small).grow(out, SMALL, resume=resume, **OPTIONS)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = save(tmp_path_factory.mktemp("kills") / "small")
    before = digests(folder)
    yield folder
    assert digests(folder) == before


@pytest.fixture(scope="module")
def whole(small: Path) -> dict[str, str]:
    return digests(seen(small).grow(small.parent / "whole", SMALL, **OPTIONS))


@pytest.fixture(scope="module")
def lasting(small: Path) -> float:
    """How long a growth takes, from where its folder appears until the output does."""
    out = small.parent / "timed"
    process = started(small, out)
    begun = waited(lambda: partial_of(out).exists() or out.exists())
    process.join()
    assert out.exists()
    return time.monotonic() - begun


def started(small: Path, out: Path, resume: bool = False) -> BaseProcess:
    process = PROCESSES.Process(target=work, args=(small, out, resume))
    process.start()
    return process


def waited(until: Callable[[], bool]) -> float:
    limit = time.monotonic() + 60
    while not until():
        assert time.monotonic() < limit
        time.sleep(0.0005)
    return time.monotonic()


def kill(process: BaseProcess, out: Path, after: float) -> bool:
    """Kill it so long after its folder appeared; whether it was still at work."""
    waited(lambda: partial_of(out).exists() or out.exists() or not process.is_alive())
    time.sleep(after)
    process.kill()
    process.join()
    return process.exitcode != 0


def test_kills_at_any_moment(small: Path, whole: dict[str, str], lasting: float, tmp_path: Path) -> None:
    drawn, killed = random.Random(7), 0
    for turn in range(KILLS):
        out = tmp_path / f"{turn}"
        again = drawn.randint(0, 2)  # kills of runs that go on, too
        killed += kill(started(small, out), out, drawn.uniform(0, 1.1) * lasting)
        for _ in range(again):
            killed += kill(started(small, out, resume=True), out, drawn.uniform(0, 1) * lasting)
        if out.exists():
            assert digests(out) == whole
        else:
            work(small, out, resume=drawn.random() < 0.5)
        assert digests(out) == whole
        assert not partial_of(out).exists()
    assert killed >= MANY, "hardly any was killed while it was at work"
    outputs = {f"{turn}" for turn in range(KILLS)}
    locks = {lock_of(tmp_path / name).name for name in outputs}
    assert {path.name for path in tmp_path.iterdir()} <= outputs | locks


def test_two_at_once_of_which_one_is_killed(
    small: Path, whole: dict[str, str], lasting: float, tmp_path: Path
) -> None:
    """The other one is refused or writes all of it; whoever comes after it finds a place that works."""
    drawn = random.Random(11)
    for turn in range(KILLS // 4):
        out = tmp_path / f"{turn}"
        both = [started(small, out) for _ in range(2)]
        kill(both[turn % 2], out, drawn.uniform(0, 1) * lasting)
        both[1 - turn % 2].join()
        if out.exists():
            assert digests(out) == whole
            with pytest.raises(OutputError, match="exists"):
                work(small, out, resume=False)
        else:
            work(small, out, resume=True)
        assert digests(out) == whole


# ── growths inside a training run ──


def trained(recipe: Path, begun: Path, done: Path) -> None:
    """The job of a process that trains, and tells when it grows."""
    grow = trainer.grow_

    def told(*given: Any, **options: Any) -> Any:
        begun.touch()
        found = grow(*given, **options)
        done.touch()
        return found

    trainer.grow_ = told
    app(["train", str(recipe), "--json"])


@pytest.mark.sweep("whole")
def test_kills_of_a_run_that_is_growing(tmp_path: Path) -> None:
    """The run goes on from its last checkpoint, grows anew, and ends as one that nothing stopped."""
    marks = tmp_path / "begun", tmp_path / "done"
    run = PROCESSES.Process(target=trained, args=(written(tmp_path / "whole"), *marks))
    run.start()
    run.join()
    wanted, drawn = log(tmp_path / "whole"), random.Random(13)
    lasted = marks[1].stat().st_mtime - marks[0].stat().st_mtime  # of the last growth
    recipe, inside, kills = written(tmp_path / "killed"), 0, 0
    while inside < GROWING:
        for mark in marks:
            mark.unlink(missing_ok=True)
        run = PROCESSES.Process(target=trained, args=(recipe, *marks))
        run.start()
        waited(lambda run=run: marks[0].exists() or not run.is_alive())
        time.sleep(drawn.uniform(0, lasted))
        run.kill()
        run.join()
        inside += run.exitcode != 0 and marks[0].exists() and not marks[1].exists()
        kills += run.exitcode != 0
        assert kills < 10 * GROWING
        if (tmp_path / "killed" / "run" / "outcome.json").exists():
            assert log(tmp_path / "killed") == wanted
            shutil.rmtree(tmp_path / "killed" / "run")
    run = PROCESSES.Process(target=trained, args=(recipe, *marks))
    run.start()
    run.join()
    assert log(tmp_path / "killed") == wanted
