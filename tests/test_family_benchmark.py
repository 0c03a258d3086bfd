"""The benchmarks of a family of sizes, and of a sunk model: what is counted, and what is to be run next."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.training import carrying, family, reaching, runs, smalls, sunk
from benchmarks.training.ceiling import Fit, led, seen
from benchmarks.training.contestants import TUNED, Contestant, Tuned, plain
from benchmarks.training.family import Chain, Course, Job, budget_of, made, pending, steps_of, table
from benchmarks.training.models import step_flops
from benchmarks.training.rows import current
from benchmarks.training.runs import begun
from benchmarks.training.scale import SCALES, chosen, halved
from isogrow.recipes.scaling import Law

GROWN = Chain("grown", ("small", "middle", "large"), "grow")
DEEPER = ("flat", "shallow", "large")
EACH = 0.1  # bytes for each parameter
COURSE = Course((GROWN,), Tuned(0.003, 0.05, 0.4), EACH, (1,), (0.4, 0.7, 1.0, 1.5, 2.0))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models of half of every width, budgets of some dozen steps, losses of few rows."""
    monkeypatch.setattr(runs, "WARMUP", 5)
    with chosen(halved(dataclasses.replace(SCALES["core"], held_rows=8, final_rows=8))):
        yield


def finished(course: Course, rows: dict[str, Any]) -> list[list[Job]]:
    rounds: list[list[Job]] = []
    while jobs := pending(course, rows):
        rounds.append(jobs)
        rows |= {job.key: json.loads(json.dumps(made(job))) for job in jobs}
    return rounds


@pytest.mark.slow
def test_a_family_is_counted_whole() -> None:
    rows: dict[str, Any] = {}
    rounds = finished(COURSE, rows)
    assert [len(jobs) for jobs in rounds] == [3, 1]
    (chain,) = rounds[1]
    row = rows[chain.key]
    scratch = [rows[job.key] for job in rounds[0]]
    assert [each["operations"] for each in scratch] == [budget_of(each["sizes"][0], EACH) for each in scratch]
    assert row["separate"] == sum(each["operations"] for each in scratch)
    assert chain.targets == tuple(each["losses"][0] for each in scratch)
    assert row["found"] and all(a <= b for a, b in zip(row["losses"], chain.targets, strict=True))
    own = [share * budget_of(size, EACH) for share, size in zip(row["shares"], GROWN.sizes, strict=True)]
    steps = sum(map(step_flops, GROWN.sizes))  # a step that would exceed a mark is not made
    assert sum(own) - steps <= row["operations"] - row["decays"] <= sum(own)
    decays = sum(0.2 * budget_of(size, EACH) for size in GROWN.sizes)
    assert decays - steps <= row["decays"] <= decays
    assert f"| {100 * (1 - row['operations'] / row['separate']):+.1f} |" in table(rows)


@pytest.mark.slow
def test_a_size_that_does_not_get_there_is_said() -> None:
    job = Job(GROWN, COURSE.tuned, EACH, (0.3, 0.5), 1, (0.1, 0.1, 0.1))
    row = made(job)
    assert not row["found"] and len(row["losses"]) == 1 and row["shares"] == [0.5]
    assert "| a size did not get there | 0.50 |" in table({job.key: row})
    easy = made(dataclasses.replace(job, targets=(9.0, 9.0, 9.0)))
    assert made(dataclasses.replace(job, targets=(9.0, 9.0, 9.0))) == easy  # the same run
    assert easy["found"] and easy["shares"] == [0.3, 0.3, 0.3]


@pytest.mark.slow
def test_a_first_size_that_is_decayed_as_scratch_is_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = made(family.from_scratch("small", COURSE.tuned, EACH, 1))
    tried: list[int] = []
    monkeypatch.setattr(family, "spans", lambda *given: tried.append(len(given[1])) or reaching.spans(*given))
    chain = dataclasses.replace(GROWN, decays=(0.4, None, None), released=True)
    row = made(Job(chain, COURSE.tuned, EACH, (0.5, 0.9), 1, (0.1, 9.0, 9.0)))
    assert row["found"] and row["shares"] == [0.6, 0.5, 0.5] and tried == [1, 2, 2]
    assert row["losses"][0] == pytest.approx(alone["losses"][0], rel=1e-3)  # rounding, over some dozen steps


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grow", "stack"])
def test_chains_in_depth(method: str) -> None:
    options = {"carry": True} if method == "stack" else {}
    chain = Chain(method, DEEPER, method, options, rates=(0.7, 0.5))
    row = made(Job(chain, COURSE.tuned, EACH, (0.5,), 1, (9.0, 9.0, 9.0)))
    assert row["found"] and len(row["losses"]) == 3


def test_sizes_and_steps_have_rates_of_their_own() -> None:
    course = dataclasses.replace(
        COURSE, faster={"small": 1.5}, chains=(dataclasses.replace(GROWN, rates=(1.0, 0.5)),)
    )
    rates = {job.chain.sizes: job.tuned.rate / COURSE.tuned.rate for job in pending(course, {})}
    assert rates == pytest.approx({("small",): 1.5, ("middle",): 1.0, ("large",): 1.0})
    rows = {job.key: {"losses": [9.0]} for job in pending(course, {})}
    (chain, *_) = pending(course, rows)
    assert chain.tuned.rate == pytest.approx(1.5 * COURSE.tuned.rate)
    assert [growth.rate for growth in steps_of(chain.chain)] == [1.0, 0.5]
    assert [growth.rate for growth in steps_of(GROWN)] == [1.0, 1.0]


@pytest.mark.slow
def test_what_is_released_goes_on_from_the_end_of_its_decay() -> None:
    """So no decay is beside the run, and a size that is cut from a larger one pays for its teacher."""
    chain = Chain("pruned", ("large", "middle"), "prune", {"taught": True}, decays=(0.4, 0.2), released=True)
    row = made(Job(chain, COURSE.tuned, EACH, (0.5,), 1, (9.0, 9.0)))
    large, middle = (budget_of(size, EACH) for size in chain.sizes)
    assert row["found"] and row["decays"] == 0
    taught = step_flops("middle") + step_flops("large") // 3
    looks = 3 * step_flops("middle")
    assert looks > 4 / 3 * step_flops("large") > looks - step_flops("middle")
    most = large + 0.7 * middle + looks
    assert most - 2 * step_flops("large") - 2 * taught < row["operations"] <= most


@pytest.mark.parametrize("count", [1, 2, 9, 30])
def test_where_the_loss_is_reached_is_found(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the search begins; the trunk is made once, no longer than the stages that are tried, which are
    few."""
    run = begun(Contestant("", "", "small"), COURSE.tuned, 1, 0)
    made: list[float] = []
    tried: list[float] = []

    def advance(run: Any, until: float) -> None:
        made.append(until)
        run.spent = until

    def decayed(run: Any, until: float) -> float:
        tried.append(run.spent)
        loss, run.spent = 1 - run.spent, until
        return loss

    def restore(run: Any, kept: Any) -> None:
        run.spent = kept[1].spent

    monkeypatch.setattr(reaching, "restore_", restore)
    monkeypatch.setattr(reaching, "state_of", lambda run: {})  # pyright: ignore[reportUnknownLambdaType]
    monkeypatch.setattr(reaching, "advance_", advance)
    monkeypatch.setattr(reaching, "decayed", decayed)
    places = [i / count for i in range(count)]
    stages = reaching.spans(0, [i / count / 2 for i in range(count)], 2.5, 2)
    for wanted in range(count):
        for near in range(count):
            run.spent = 0
            made.clear(), tried.clear()
            found = reaching.first(run, stages, 1 - places[wanted], near)
            assert wanted <= found.mark <= min(wanted + reaching.STRIDE, count - 1)
            assert found.loss == 1 - places[found.mark] and found.before[1].spent == places[found.mark]
            assert found.decay == pytest.approx(5)
            if found.mark >= reaching.STRIDE or found.beyond:  # a stage before it was tried
                assert found.beyond == pytest.approx(places[found.mark] - places[wanted], abs=1e-12)
            assert max(made, default=0) <= places[min(max(near, wanted + reaching.STRIDE), count - 1)]
            back = max(near - wanted, 0) // reaching.STRIDE  # what is far ahead is on a line
            assert made == sorted(set(made)) and len(tried) <= 4 + back
    run.spent = 0
    assert reaching.first(run, stages, -1.0).mark == count - 1  # the last, where none has it


def test_a_stage_that_is_a_decay_is_run_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its beginning each time: there is no trunk."""
    run = begun(Contestant("", "", "small"), COURSE.tuned, 1, 0)
    run.spent = 7
    seen: list[tuple[int, float]] = []

    def decayed(run: Any, until: float) -> float:
        seen.append((run.spent, until))
        run.spent = until
        return -until

    monkeypatch.setattr(reaching, "decayed", decayed)
    stages = reaching.spans(7, (0.5, 1.0, 1.5, 2.0), None, 10)
    found = reaching.first(run, stages, -20.0, 3)
    assert found.mark == 3 and found.decay == 20 and found.before[1].spent == 7
    assert found.beyond == pytest.approx(7) and seen == [(7, 27), (7, 12)]


def test_a_run_that_broke_encloses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(Contestant("", "", "small"), COURSE.tuned, 1, 0)
    losses = iter([1.0, math.inf])
    monkeypatch.setattr(reaching, "decayed", lambda run, until: next(losses))  # pyright: ignore
    found = reaching.first(run, reaching.spans(0, [0.1 * i for i in range(1, 7)], None, 10), 2.0, 5)
    assert found.mark == 5 and found.beyond == 0.0


def test_what_is_to_be_run_follows_from_the_rows() -> None:
    course = dataclasses.replace(family.FULL, seeds=(1, 2))
    scratch = pending(course, {})
    assert len(scratch) == 5 * 2 and {len(job.chain.sizes) for job in scratch} == {1}  # large is of both
    rows: dict[str, Any] = {job.key: {"losses": [1.5 + 0.1 * job.seed]} for job in scratch}
    assert pending(course, dict(list(rows.items())[1:])) == scratch[:1]
    jobs = pending(course, rows)
    chains, others = jobs[: len(course.chains)], jobs[len(course.chains) :]
    assert {(job.seed, job.targets, job.near) for job in chains} == {(1, (1.6, 1.6, 1.6), ())}
    assert {(job.seed, job.targets, job.near) for job in others} == {(2, (1.7, 1.7, 1.7), ())}
    assert len(others) == len(chains)
    places = (0.05, 0.1, 0.2)
    for job in chains:
        name, sizes = job.chain.name, list(job.chain.sizes)
        rows[job.key] = dict(name=name, sizes=sizes, shares=places, found=job.chain.method == "grow")
    left = pending(course, rows)
    marks = family.FULL.marks
    later = [marks[marks.index(place) + reaching.STRIDE // 2] for place in places]
    assert [[marks[i] for i in job.near] for job in left] == [later, [], []]
    assert [dataclasses.replace(job, near=()) for job in left] == others
    assert {job.key for job in others} == {job.key for job in left}
    assert pending(course, rows | {job.key: {} for job in left}) == []


def law_like(size: str, loss: float, tokens: float) -> Fit:
    """A law by which a size has this loss after so many bytes."""
    return Fit(Law(0.0, 0.0, 1.0, loss * tokens**0.5, 0.5), 0.0, 0, ())


def test_a_carry_is_what_was_saved_of_what_the_smaller_size_had() -> None:
    sizes, per = ("small", "middle", "large"), 14.0
    budgets = [budget_of(size, per) for size in sizes]
    row = dict(key="a", stage="family", name="grown", sizes=sizes, seed=1, losses=[1.5, 1.3, 1.2], decays=0)
    row |= dict(separate=sum(budgets), operations=1.0, shares=[0.6, 0.9, 0.75], found=True)
    row["falling"] = [False, True, True]
    law = law_like("middle", 1.5, 0.2 * per * seen("middle").parameters)
    first, second = family.carries(law, [row])
    assert first == "0.50"  # a tenth of a fifth
    at_second = led(law, "large", 1.3, budgets[2])
    assert float(second) == pytest.approx(0.25 / at_second, abs=0.006) and 0 < at_second < 1
    assert f"| grown | small, middle, large | 1 | +100.0 | 0.60, 0.90, 0.75 | {first}, {second} |" in table(
        {"a": row}, law
    )
    other = {**row, "shares": [0.6, 1.0, 0.75], "seed": 2}
    both = list(family.carries(law, [row, other]))
    assert both[0].startswith("0.25 ± ") and both[1].endswith(" ± 0.00")
    unknown = {name: value for name, value in row.items() if name != "falling"}
    assert list(family.carries(law, [unknown])) == []
    assert list(family.carries(law, [{**row, "sizes": sizes[::-1]}])) == []


def test_a_second_stage_has_a_ceiling_and_a_carry() -> None:
    budget = budget_of("large", 10.0)
    law = law_like("large", 1.4, 0.5 * 10.0 * seen("large").parameters)
    row = dict(
        key="a",
        stage="sunk",
        name="grown",
        seed=1,
        goal=10.0,
        separate=budget,
        operations=0.8 * budget,
        sunk=0.4 * budget,
    )
    row |= dict(share=0.8, small=1.4, found=True, second=dict(size="large", learned=14.0, method="grow"))
    assert (
        sunk.table({"a": row}, law).splitlines()[-1]
        == "| grown | 14 | 1.4000 | 40 | 10 | 1 | +20.0 | 50 | 0.40 |"
    )
    assert sunk.table({"a": row}).splitlines()[-1] == "| grown | 14 | 1.4000 | 40 | 10 | 1 | +20.0 |  |  |"
    lost = {**row, "found": False}
    assert sunk.table({"a": lost}, law).splitlines()[-1].endswith("| 0 of 1 seeds got there | 50 |  |")
    assert led(law, "large", 0.1, budget) == 1.0
    alone = {**row, "second": dict(size="middle", learned=14.0, method="stay")}
    assert (
        sunk.table({"a": alone}, law).splitlines()[-1]
        == "| grown | 14 | 1.4000 | 40 | 10 | 1 | +20.0 |  |  |"
    )


def test_what_a_second_stage_saves_is_told_by_the_law() -> None:
    law = law_like("large", 1.3, 0.65 * 14.0 * seen("large").parameters)
    rows = dict[str, Any]()
    for second, loss, seed in ((carrying.scratch(1.0), 1.28, 1), (carrying.grown("grown", 0.7), 1.26, 1)):
        own = dict(key=second.name, stage=carrying.STAGE, name=second.name, second=dataclasses.asdict(second))
        rows[second.name] = own | dict(tuned=plain(TUNED), goal=14.0, share=0.65, seed=seed, losses=[loss])
    grown = rows["grown, 0.7 x the rate"]
    longer = 0.65 * (1.3 / 1.28) ** 2 - 0.65
    assert carrying.saved(law, grown, rows["scratch, 1 x the rate"]) == pytest.approx(longer)
    said = carrying.table(rows, law).splitlines()
    assert said[2].endswith(f"| 1.2600 | {100 * longer:+.0f} |") and said[3].endswith("| 1.2800 |  |")
    grown["tuned"] = {"matrices": "Muon"}
    assert carrying.table(rows, law).splitlines()[2].endswith("| 1.2600 |  |")


def test_a_name_is_no_part_of_a_row_and_a_target_is() -> None:
    job = Job(GROWN, COURSE.tuned, EACH, (0.5,), 1, (1.0,))
    renamed = dataclasses.replace(job, chain=dataclasses.replace(GROWN, name="another"))
    assert renamed.key == job.key
    for other in (dict(targets=(1.1,)), dict(seed=2), dict(marks=(0.6,)), dict(per_parameter=0.4)):
        assert dataclasses.replace(job, **other).key != job.key


SECOND = smalls.Second("grown", "middle", "large", 0.15)
SUNK = sunk.Course(
    (
        sunk.Asked(SECOND, EACH, 0.4),
        sunk.Asked(dataclasses.replace(SECOND, name="grown, decayed", decayed=True, rewarm=3), EACH),
        sunk.Asked(dataclasses.replace(SECOND, name="alone", size="middle", method="stay"), EACH),
    ),
    COURSE.tuned,
    (1,),
    (0.4, 1.0, 1.4),
)


def jobs_of(course: sunk.Course, rows: dict[str, Any]) -> list[sunk.Job]:
    """Its second stages, as if none had been made."""
    scratch = {key: row for key, row in rows.items() if row["stage"] == family.STAGE}
    return [job for job in sunk.pending(course, scratch) if isinstance(job, sunk.Job)]


@pytest.mark.slow
def test_of_a_sunk_model_the_second_stage_is_counted() -> None:
    rows: dict[str, Any] = {}
    while jobs := sunk.pending(SUNK, rows):
        rows |= {job.key: json.loads(json.dumps(sunk.made(job))) for job in jobs}
    own = [row for row in rows.values() if row["stage"] == sunk.STAGE]
    (scratch,) = (row for row in rows.values() if row["stage"] == family.STAGE)
    assert [row["name"] for row in own] == ["grown", "grown, decayed", "alone"] and len(rows) == 4
    steps = step_flops("middle") + step_flops("large")
    for row in own:  # what stays small is to reach the larger one's loss, too
        assert row["separate"] == scratch["operations"] and row["target"] == scratch["losses"][0]
        until = budget_of("middle", 0.15)
        assert until - steps <= row["sunk"] <= until
        counted = (row["share"] + SUNK.decay) * row["separate"]
        assert counted - 2 * steps <= row["operations"] <= counted
        assert row["found"] is (row["losses"][0] <= row["target"]) and row["small"] > 0
    assert own[0]["losses"] != own[1]["losses"]
    said = sunk.table(rows)
    assert "| grown | 0.15 | " in said and "| grown, decayed | 0.15 | " in said and "| 0.1 | 1 | " in said
    unmet = {"x": {**own[0], "found": False}}
    assert "0 of 1 seeds got there" in sunk.table(unmet)


def test_what_a_sunk_model_is_to_reach_follows_from_the_rows() -> None:
    scratch = sunk.pending(sunk.FULL, {})
    goals = {asked.goal for asked in sunk.FULL.asked}
    assert len(scratch) == len(sunk.FULL.seeds) * len(goals) and all(isinstance(job, Job) for job in scratch)
    rows: dict[str, Any] = {job.key: {"stage": "family", "losses": [1.5 + 0.1 * job.seed]} for job in scratch}
    left_out = sunk.pending(sunk.FULL, dict(list(rows.items())[1:]))
    assert left_out[0] == scratch[0] and not any(isinstance(job, Job) for job in left_out[1:])
    jobs: list[sunk.Job] = []
    while left := [job for job in sunk.pending(sunk.FULL, rows) if isinstance(job, sunk.Job)]:
        assert left == sorted(left, key=lambda job: job.second.learned)
        kinds = [(job.second.learned, job.goal, job.second.name) for job in left]
        turn = [left[0]]
        same = [job.seed for job, kind in zip(left, kinds, strict=True) if kind == kinds[0]]
        assert same == sorted(same) and len(set(same)) == len(same)  # side by side from several seeds' models
        assert kinds[: len(same)] == [kinds[0]] * len(same)
        jobs += turn
        for job in turn:
            own = dict(stage=sunk.STAGE, name=job.second.name, second=dataclasses.asdict(job.second))
            rows[job.key] = dict(own, goal=job.goal, share=0.1, found=job.second.method == "grow")
    assert len(jobs) == len(sunk.FULL.asked) * len(sunk.FULL.seeds) == len({job.key for job in jobs})
    assert {job.target for job in jobs} == {1.5 + 0.1 * seed for seed in sunk.FULL.seeds}
    marks, guess = sunk.FULL.marks, {(each.second.learned, each.goal): each.near for each in sunk.FULL.asked}
    for job in jobs:
        told = job.seed > 1 and job.second.method == "grow"
        wanted = marks.index(0.1) + reaching.STRIDE // 2
        assert job.near == (wanted if told else marks.index(guess[job.second.learned, job.goal]))
    assert len({dataclasses.replace(job, near=0).key for job in jobs}) == len(jobs)
    one = jobs[0]
    renamed = dataclasses.replace(one, second=dataclasses.replace(one.second, name="another"))
    assert renamed.key == one.key != dataclasses.replace(one, target=1.0).key


@pytest.mark.slow
def test_second_stages_of_one_length() -> None:
    seconds = (
        carrying.scratch(0.5),
        carrying.grown("grown", 0.7, learned=0.1),
        carrying.released("grown", 1.0),
    )
    short = dataclasses.replace(seconds[2], learned=0.1)
    whole = carrying.falling(seconds[1])
    courses = (
        carrying.Course((*seconds[:2], short), (whole,), 0.8, (1,), COURSE.tuned, EACH),
        carrying.Course((seconds[1],), (), 0.8, (2,), COURSE.tuned, EACH),
    )
    jobs = carrying.pending(courses, {})
    assert [(job.second.name, job.seed) for job in jobs] == [
        ("grown, 0.7 x the rate, falling from the beginning", 1),
        ("scratch, 0.5 x the rate", 1),
        ("grown, 0.7 x the rate", 1),
        ("grown, decayed, 1 x the rate", 1),
        ("grown, 0.7 x the rate", 2),
    ]
    rows = {job.key: json.loads(json.dumps(carrying.made(job))) for job in jobs}
    assert carrying.pending(courses, rows) == [] and len({row["losses"][0] for row in rows.values()}) == 5
    said = carrying.table(rows).splitlines()
    assert (
        said[0] == "| to | share | of bytes | second stage | seed 1 | seed 2 | mean | saved, % |"
        and len(said) == 6
    )
    assert said[2].startswith(
        "| large | 0.8 | 0.1 | grown, 0.7 x the rate | "
    )  # of whom most seeds tell comes first
    from_scratch = family.made(Job(Chain("", ("large",), decays=(0.4,)), COURSE.tuned, EACH, (), 1))
    warmed = dataclasses.replace(carrying.scratch(1.0), rewarm=runs.WARMUP)
    same = carrying.made(dataclasses.replace(jobs[1], second=warmed, share=1.0))
    assert same["losses"] == from_scratch["losses"]


@pytest.mark.parametrize("decayed", [False, True])
def test_a_small_model_is_made_once_for_all_that_start_from_it(decayed: bool, tmp_path: Path) -> None:
    second = dataclasses.replace(SECOND, decayed=decayed)
    job = carrying.Job(second, COURSE.tuned, EACH, 0.8, 1)
    kept = tmp_path / "kept"
    first = carrying.made(job, kept)
    (file,) = kept.iterdir()
    before = file.stat().st_mtime_ns
    assert carrying.made(job, kept)["losses"] == first["losses"]  # from the one that was kept
    assert [path.stat().st_mtime_ns for path in kept.iterdir()] == [before]
    assert carrying.made(job)["losses"] == first["losses"]  # from one made anew
    carrying.made(dataclasses.replace(job, second=dataclasses.replace(second, rate=0.5)), kept)
    assert len(list(kept.iterdir())) == 1  # what comes after it is not of it
    for other in (dataclasses.replace(second, learned=0.1), dataclasses.replace(second, decayed=not decayed)):
        smalls.small_of(other, COURSE.tuned, 1, kept)
    smalls.small_of(second, COURSE.tuned, 2, kept)
    assert len(list(kept.iterdir())) == 4


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("family", "saved in all"),
        ("sunk", "second stage saved"),
        ("carry", "| to | share | of bytes | second stage |"),
    ],
)
def test_the_command_takes_it(
    what: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from benchmarks.training import __main__ as command

    asked: list[Path] = []
    monkeypatch.setattr("benchmarks.training.ceiling.DRAWS", 0)  # no interval of the law is told here
    monkeypatch.setattr(command, "run_all", lambda path, *_, **__: asked.append(path))
    monkeypatch.setattr("sys.argv", ["training", what, "--rows", str(tmp_path / "rows.jsonl")])
    command.main()
    assert asked == [tmp_path / "rows.jsonl"] and said in capsys.readouterr().out


def test_rows_of_another_course_are_not_told_by_the_name_of_this_ones() -> None:
    course = carrying.Course((carrying.scratch(1.0), carrying.scratch(0.5)), (), 0.8, (1,))
    jobs = carrying.pending((course,), {})
    rows = {job.key: {"key": job.key, "name": job.second.name} for job in jobs}
    earlier = {"key": "earlier", "name": jobs[0].second.name}
    before = {"key": "before", "name": "what was tried before"}
    found = current(
        lambda rows: carrying.pending((course,), rows), {**rows, "earlier": earlier, "before": before}
    )
    assert found == {**rows, "before": before}


def test_a_second_stage_that_has_the_loss_at_once_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    job = sunk.Job(SECOND, COURSE.tuned, EACH, None, (0.4, 1.0), 1, math.inf, 0)
    monkeypatch.setattr(sunk, "first", lambda *_: pytest.fail("nothing is left to learn"))
    row = sunk.made(job)
    assert (row["operations"], row["share"], row["found"]) == (0, 0.0, True)
    assert row["losses"] == [row["at_once"]] and row["at_once"] == pytest.approx(row["small"], rel=1e-6)


def test_the_page_tells_of_courses_whose_rows_tell_something(tmp_path: Path) -> None:
    from benchmarks.training import __main__ as command

    job = carrying.pending(carrying.COURSES, {})[0]
    own = dict(
        key=job.key,
        stage=carrying.STAGE,
        name=job.second.name,
        seed=100,
        losses=[1.25],
        share=0.65,
        goal=14.0,
    )
    own["second"] = dataclasses.asdict(job.second)
    (tmp_path / "rows-carry.jsonl").write_text(json.dumps(own) + "\n")
    alone = dict(key="x", stage=family.STAGE, sizes=["large"], name="large from scratch", seed=1)
    (tmp_path / "rows-family.jsonl").write_text(json.dumps(alone) + "\n")  # what a family is held against
    told = command.tables(tmp_path)
    assert list(told) == ["What raises the carry"] and "| 1.2500 |" in told["What raises the carry"]
