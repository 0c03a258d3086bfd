"""Two processes, and two threads, that grow into the same output at once: one wins, and the other is refused
in a sentence; what lies there is whole, and all of one run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from checkpoints import SMALL, digests, save, seen
from forking import side_by_side

from isogrow.errors import OutputError

SEEDS = (5, 7)
WON = "won"
# What a run may hear from another one: it is at work, it has just finished, or its output lies there.
SENTENCES = (
    "is being written by another process: wait for it, or name another folder",
    "was being written by another process just now: run again",
    "exists: name another folder, or give --overwrite to replace it",
    "appeared while it was being written: name another folder",
)


@dataclass(frozen=True)
class Round:
    """How both try it: `held` lets the one that writes wait until the other one has been answered."""

    name: str
    held: bool = False
    overwrite: bool = False
    resume: bool = False


ROUNDS = (
    Round("held", held=True),
    Round("free"),
    Round("held, over an old one", held=True, overwrite=True),
    Round("free, over an old one", overwrite=True),
    Round("free, going on", resume=True),
)


def meet(home: Path, me: int, other: int) -> None:
    """The job of a process: it meets the other one before each round, and writes down what became of it."""
    for number, each in enumerate(ROUNDS):
        mine, theirs = (home / f"{number}-{seed}" for seed in (me, other))
        subject = seen(home / "small")
        made = subject.plan(SMALL, seed=me)
        mine.with_suffix(".ready").touch()
        wait(theirs.with_suffix(".ready"))
        asked = [theirs.with_suffix(".said")] if each.held else []

        def progress(done: int, total: int, asked: list[Path] = asked) -> None:
            while asked:
                wait(asked.pop())

        options = {"overwrite": each.overwrite, "resume": each.resume}
        try:
            subject.grow(home / f"out-{number}", made, progress=progress, **options)
            said = WON
        except OutputError as error:
            said = str(error)
        mine.with_suffix(".part").write_text(json.dumps(said))
        mine.with_suffix(".part").rename(mine.with_suffix(".said"))
        wait(theirs.with_suffix(".said"))


def wait(path: Path) -> None:
    for _ in range(60_000):
        if path.exists():
            return
        time.sleep(0.001)
    raise TimeoutError(path)


def faults(
    said: Sequence[str],
    found: Mapping[str, str],
    left: Sequence[str],
    runs: Sequence[Mapping[str, str]],
    overwrite: bool,
) -> Iterator[str]:
    """What is wrong with an output (`found`, and what is `left` beside it) after two runs were answered."""
    winners = [run for run, answer in zip(runs, said, strict=True) if answer == WON]
    for answer in said:
        if answer != WON and not answer.endswith(SENTENCES):
            yield f"no such sentence: {answer}"
    if not winners:
        yield "nobody won"
    if len(winners) > 1 and not overwrite:
        yield "both won"
    if found not in winners:
        yield "the output is none of a run that won"
    if left:
        yield f"left behind: {', '.join(left)}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    save(folder / "small")
    return folder


@pytest.fixture(scope="module")
def alone(home: Path) -> list[dict[str, str]]:
    """What each of the two writes when it is alone."""
    subject = seen(home / "small")
    outs = (subject.grow(home / f"alone-{seed}", subject.plan(SMALL, seed=seed)) for seed in SEEDS)
    found = [digests(out) for out in outs]
    assert found[0] != found[1]
    return found


def beside(home: Path, out: Path) -> list[str]:
    """Files of a growth that should be gone."""
    return sorted(path.name for path in home.iterdir() if path.name.startswith(f".{out.name}"))


@pytest.mark.slow
def test_two_processes_grow_into_one_output(home: Path, alone: list[dict[str, str]]) -> None:
    before = digests(home / "small")
    for number, each in enumerate(ROUNDS):
        if each.overwrite:
            seen(home / "small").grow(home / f"out-{number}", {"ffn": 59})
    side_by_side(meet, [(home, *SEEDS), (home, *SEEDS[::-1])])
    for number, each in enumerate(ROUNDS):
        said = [json.loads((home / f"{number}-{seed}.said").read_text()) for seed in SEEDS]
        out = home / f"out-{number}"
        assert list(faults(said, digests(out), beside(home, out), alone, each.overwrite)) == [], each.name
        if each.held:
            assert sorted(answer.endswith(SENTENCES[0]) for answer in said) == [False, True], each.name
    assert digests(home / "small") == before


def test_two_threads_grow_into_one_output(home: Path, alone: list[dict[str, str]]) -> None:
    """The one that writes waits until the other has been refused; both work on the same open checkpoint."""
    subject, out = seen(home / "small"), home / "by-threads"
    said: dict[int, str] = {}
    met, answered = threading.Barrier(2), threading.Event()

    def grow(seed: int) -> None:
        made = subject.plan(SMALL, seed=seed)
        met.wait(60)
        try:
            subject.grow(out, made, progress=lambda done, total: answered.wait(60))
            said[seed] = WON
        except OutputError as error:
            said[seed] = str(error)
        answered.set()

    threads = [threading.Thread(target=grow, args=(seed,)) for seed in SEEDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    answers = [said[seed] for seed in SEEDS]
    assert list(faults(answers, digests(out), beside(home, out), alone, overwrite=False)) == []
    assert sum(answer.endswith(SENTENCES[0]) for answer in answers) == 1


def test_a_broken_output_is_seen(home: Path, alone: list[dict[str, str]]) -> None:
    """What two runs without a lock may leave, one fault at a time."""
    one, two = alone
    refused = f"{home}/out {SENTENCES[0]}"
    mixed = one | {name: two[name] for name in two if name.endswith(".safetensors")}
    assert mixed not in alone
    assert list(faults([WON, refused], one, [], alone, False)) == []
    for said, found, left, overwrite, fault in (
        ([WON, refused], mixed, [], False, "the output is none of a run that won"),
        ([WON, refused], two, [], False, "the output is none of a run that won"),
        ([WON, refused], {}, [], False, "the output is none of a run that won"),
        ([WON, WON], one, [], False, "both won"),
        ([WON, "No such file or directory"], one, [], True, "no such sentence: No such file or directory"),
        ([WON, refused], one, [".out.isogrow-lock"], False, "left behind: .out.isogrow-lock"),
    ):
        assert list(faults(said, found, left, alone, overwrite)) == [fault]
    assert "nobody won" in list(faults([refused, refused], one, [], alone, False))
