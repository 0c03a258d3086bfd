"""When a run grows, and at which rate it learns: read off its log alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from isogrow.errors import SizeError
from isogrow.train.schedule import Growth, Plateau, check, due, grown, last_growth, share

FIRST, SECOND = Growth({"hidden": "x2"}, at=20), Growth({"layers": "+1"}, at=50)


def losses(slope: float, steps: range) -> list[dict[str, Any]]:
    """A loss that falls by `slope` a step, with a ripple that the fit must see through."""
    return [{"step": step, "loss": 9.0 - slope * step + 0.01 * (-1) ** (step // 5)} for step in steps]


def test_growths_come_in_their_order() -> None:
    growths, log = (FIRST, SECOND), list[dict[str, Any]]()
    assert due(growths, log, 19) is None
    assert due(growths, log, 20) is FIRST
    log.append({"step": 20, "growth": 1})
    assert (grown(log), last_growth(log)) == (1, 20)
    assert due(growths, log, 20) is None
    assert due(growths, log, 51) is SECOND
    assert due(growths, [*log, {"step": 51, "growth": 2}], 99) is None


def test_a_stage_without_growth_counts() -> None:
    log: list[dict[str, Any]] = [{"step": 20, "growth": 1}, {"step": 30, "stage": 3}]
    assert (grown(log), last_growth(log)) == (2, 30)


@pytest.mark.parametrize(
    ("growths", "logged", "said"),
    [
        ((SECOND, FIRST), 5, "growth 2 is at step 20, after one at step 50: give growths in order"),
        (
            (Growth({"ffn": 9}, at=-1),),
            5,
            "growth 1 is at step -1: give 0, which is before the first step, or",
        ),
        ((Growth({"ffn": 9}, at=True),), 5, "growth 1 is at True: give the number of a step, as an int, or"),
        ((Growth({}, at=4.0),), 5, r"growth 1 is at 4.0: give the number of a step, as an int"),  # type: ignore
        ((FIRST, Growth({}, Plateau(1e-3, 400))), 34, "growth 2 waits for a plateau of 100 steps.* every 34"),
        ((Growth({}, Plateau(1e-3, 400)),), None, "growth 1 .* the loss is not logged by steps: make"),
        ((Growth({}, Plateau("1e-3", 400)),), 5, "growth 1 waits for a plateau with below='1e-3': give a"),  # type: ignore
        ((Growth({}, Plateau(1e-3, None)),), 5, "with at_most=None: give a number of steps, as an int"),  # type: ignore
    ],
)
def test_growths_that_can_not_come_are_refused(
    growths: tuple[Growth, ...], logged: int | None, said: str
) -> None:
    with pytest.raises(SizeError, match=said):
        check(growths, logged)


def test_growths_that_can_come_are_not_refused() -> None:
    check((FIRST, FIRST, SECOND, Growth({}, Plateau(1e-3, 400))), 33)
    check((Growth({}, Plateau(0.0, 5, 5, 5)),), None)  # its number of steps alone decides


@pytest.mark.parametrize(("slope", "flat"), [(2e-3, False), (5e-4, True), (-1e-3, True)])
def test_a_plateau_is_a_fitted_slope(slope: float, flat: bool) -> None:
    growth = Growth({"hidden": "x2"}, Plateau(below=1e-3, at_most=1000, window=100))
    assert (due([growth], losses(slope, range(5, 300, 5)), 300) is growth) == flat


def test_a_plateau_waits_and_does_not_wait_for_ever() -> None:
    growth = Growth({"hidden": "x2"}, Plateau(below=1e-3, at_most=400, window=50, at_least=200))
    flat, steep = (losses(slope, range(5, 500, 5)) for slope in (0.0, 1e-2))
    assert due([growth], flat, 199) is None
    assert due([growth], flat, 200) is growth
    assert due([growth], steep, 399) is None
    assert due([growth], steep, 400) is growth


def test_a_plateau_looks_no_further_back_than_the_last_growth() -> None:
    later = Growth({"layers": "+1"}, Plateau(below=1e-3, at_most=1000, window=100))
    log = [*losses(1e-1, range(5, 300, 5)), {"step": 300, "growth": 1}]
    assert due([FIRST, later], [*log, *losses(0.0, range(305, 395, 5))], 395) is None
    assert due([FIRST, later], [*log, *losses(0.0, range(305, 405, 5))], 400) is later


def test_the_rate_warms_up_holds_and_decays() -> None:
    shares = [share(step, 4, 5, 20) for step in range(21)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    assert set(shares[4:16]) == {1.0}
    assert shares[15:] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    assert all(a >= b for a, b in itertools.pairwise(shares[3:]))
    assert {share(step, 4, 5, None) for step in range(4, 99)} == {1.0}
