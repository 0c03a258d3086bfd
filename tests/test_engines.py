"""Engines' tables: sound as data, and what they announce of a growth held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from engine_cells import Cell, cells, growth, small

from isogrow.engines import ENGINES, announced
from isogrow.planning.planner import draft
from isogrow.plans.expansions import expansions
from isogrow.plans.plan import Plan

CELLS = tuple(cells())
GROWN: Sequence[Cell] = [cell for cell in CELLS if cell.axis != "baseline"]


def grown(cell: Cell, usual: bool = True) -> Plan:
    return draft(small(cell.family, cell.keys, usual), expansions(*growth(cell.family, cell.axis)))


def said(cell: Cell) -> list[str]:
    return announced(grown(cell), small(cell.family, cell.keys), cell.engine)


def said_before(cell: Cell) -> list[str]:
    """What is announced of the growth as it was when it was measured."""
    plan, anatomy = grown(cell, usual=False), small(cell.family, cell.keys, usual=False)
    config = {
        path: value for path, value in plan.config.items() if path != "rope_theta" or path in anatomy.config
    }
    return announced(replace(plan, config=config), anatomy, cell.engine)


@pytest.mark.parametrize("engine", sorted({cell.engine for cell in CELLS}))
def test_what_was_measured_is_announced_and_nothing_else(engine: str) -> None:
    """Each cell where the engine ran the small model: wrong or refused iff a line says so."""
    own = [cell for cell in GROWN if cell.engine == engine]
    assert own and {cell.version for cell in own} == {ENGINES[engine].version}
    missed = [cell for cell in own if cell.verdict in ("off", "refused") and not said(cell)]
    false = [(cell, said(cell)) for cell in own if cell.verdict in ("ok", "mended") and said(cell)]
    unmended = [cell for cell in own if cell.verdict == "mended" and not said_before(cell)]
    assert (missed, false, unmended) == ([], [], [])
