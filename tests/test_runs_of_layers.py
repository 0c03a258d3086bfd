"""Lists with one entry a layer that a config writes as runs: [entries, how often they come]."""

from __future__ import annotations

from typing import Any

import families as F
import pytest

from isogrow.errors import SizeError
from isogrow.layouts.config import edited
from isogrow.plans.plan import Plan

KINDS = ["global", "local", "local"]
RUNS = {
    "one run": [[KINDS, 1]],
    "entries one by one": [[[kind], 1] for kind in KINDS],
    "a run that comes twice": [[["global"], 1], [["local"], 2]],
}


def neo(**changes: Any) -> F.Subject:
    return F.subject(F.FAMILIES["gpt_neo"], "", F.FAMILIES["gpt_neo"].json(**changes), spread=0.1)


def entered(runs: Any) -> list[str]:
    """As GPT-Neo's config class reads them."""
    return F.FAMILIES["gpt_neo"].config.expand_attention_types_params(runs)


@pytest.mark.slow
@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("at", ["start", "even", "end", (1, 1), (0, 2)])
def test_layers_keep_their_kind(runs: str, at: str | tuple[int, ...]) -> None:
    """A config.json of version 4 holds the list, too."""
    subject = neo(attention_types=RUNS[runs])
    assert subject.source["attention_layers"] == KINDS
    plan = subject.plan({"layers": 5}, at=at)
    kinds = kept(plan)
    assert kinds == plan.config["attention_layers"] == entered(plan.config["attention_types"])
    assert subject.error(plan) < F.EXACT
    swapped = {"attention_types": [[kinds[::-1], 1]], "attention_layers": kinds[::-1]}
    other = edited(subject.source, {**plan.config, **swapped})
    assert kinds == kinds[::-1] or subject.error(plan, other) > F.BROKEN


def kept(plan: Plan) -> list[str]:
    """The kinds that the old layers had, and new ones after the layer before them."""
    return [KINDS[plan.steps[0].source(i)[0]] for i in range(5)]


def test_a_config_without_the_list() -> None:
    subject = neo(attention_types=[[KINDS, 1]])
    del subject.source["attention_layers"]
    plan = subject.plan({"layers": 5}, at="start")
    assert "attention_layers" not in plan.config
    assert subject.error(plan) < F.EXACT


@pytest.mark.slow
def test_what_the_class_computes_is_written_out() -> None:
    """It takes 24 layers, whatever the number of layers is."""
    sizes = dict(num_layers=24, hidden_size=20, attention_types=None)
    source = {
        key: value for key, value in F.FAMILIES["gpt_neo"].json(**sizes).items() if "attention_" not in key
    }
    subject = F.subject(F.FAMILIES["gpt_neo"], "", source, spread=0.1)
    plan = subject.plan({"layers": 25})
    assert entered(plan.config["attention_types"]) == [*["global", "local"] * 12, "local"]
    assert subject.error(plan) < F.EXACT


def test_runs_of_another_number_of_layers_are_refused() -> None:
    subject = neo()
    subject.source["attention_types"] = [[["global", "local"], 2]]
    with pytest.raises(SizeError, match="'attention_types' lists 4 layers, but the model has 3: correct"):
        subject.plan({"layers": 5})
