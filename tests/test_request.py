"""What a user may ask of a growth is one thing, by every door: Python or the shell, sizes or a plan."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from command import checkpoints, config, write
from command import isogrow as command
from torch import Tensor, nn
from transformers import LlamaForCausalLM

import isogrow
from isogrow.cli.options import AXES, Asked
from isogrow.errors import IsogrowError, SizeError
from isogrow.families import LAYOUTS
from isogrow.growth.opening import opened
from isogrow.planning.request import OWN, Planned, Request, Said, requested
from isogrow.plans.serial import to_json
from isogrow.plans.words import WORDS, flag

LARGER = {"hidden_size": 48, "intermediate_size": 90, "num_attention_heads": 8, "num_key_value_heads": 4}
Door = Callable[..., Mapping[str, Tensor]]


@pytest.fixture(scope="module")
def llama() -> Path:
    return checkpoints()["LlamaForCausalLM"]


# ── the doors ──


def in_memory(small: Path, out: Path, **request: Any) -> Mapping[str, Tensor]:
    return isogrow.grow(LlamaForCausalLM.from_pretrained(small), **request).state_dict()


def in_place(small: Path, out: Path, **request: Any) -> Mapping[str, Tensor]:
    model = LlamaForCausalLM.from_pretrained(small)
    isogrow.grow_(model, **request)
    return model.state_dict()


def in_training(small: Path, out: Path, **request: Any) -> Mapping[str, Tensor]:
    model = LlamaForCausalLM.from_pretrained(small)
    optimizer = torch.optim.AdamW(model.parameters())
    return isogrow.grow_training(model, optimizer=optimizer, **request).model.state_dict()


def on_disk(small: Path, out: Path, **request: Any) -> Mapping[str, Tensor]:
    isogrow.grow_checkpoint(small, out, **request)
    return LlamaForCausalLM.from_pretrained(out).state_dict()


def by_a_plan(small: Path, out: Path, **request: Any) -> Mapping[str, Tensor]:
    plan = isogrow.plan(small, **request)
    assert isogrow.plan(LlamaForCausalLM.from_pretrained(small), **request) == plan
    return in_memory(small, out, plan=plan)


def in_the_shell(small: Path, out: Path, **request: Any) -> Mapping[str, Tensor]:
    options = [part for name, value in request.items() for part in (flag(name), value)]
    ran = command("grow", small, out, *options, "--no-verify")
    assert ran.code == 0, ran.err
    return LlamaForCausalLM.from_pretrained(out).state_dict()


DOORS: tuple[Door, ...] = (in_memory, in_place, in_training, on_disk, by_a_plan, in_the_shell)


@pytest.fixture
def others(llama: Path, tmp_path: Path) -> Mapping[str, Any]:
    """A larger sibling's config and a saved plan, in every form in which they can be given."""
    sibling = config(llama, **LARGER)
    (tmp_path / "sibling").mkdir()
    path = write(tmp_path / "sibling" / "config.json", sibling)
    plan = isogrow.grow_checkpoint(llama, tmp_path / "recorded", to=path, seed=3)
    file = write(tmp_path / "plan.json", to_json(plan))
    return {
        "to a file": {"to": str(path), "seed": 3},
        "to a folder": {"to": path.parent, "seed": 3},
        "plan of a file": {"plan": file},
        "plan of a grown folder": {"plan": str(tmp_path / "recorded")},
        "to a dict": {"to": sibling, "seed": 3},
        "plan": {"plan": plan},
        "plan as data": {"plan": json.loads(file.read_text())},
    }


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_a_sibling_and_a_plan_are_taken_everywhere(
    door: Door, others: Mapping[str, Any], llama: Path, tmp_path: Path
) -> None:
    want = LlamaForCausalLM.from_pretrained(tmp_path / "recorded").state_dict()
    for what, request in others.items():
        if door is in_the_shell and not isinstance(next(iter(request.values())), str | Path):
            continue
        found = door(llama, tmp_path / what, **request)
        assert found.keys() == want.keys(), what
        assert all(torch.equal(x, found[name]) for name, x in want.items()), what


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_another_seed_draws_other_weights(door: Door, llama: Path, tmp_path: Path) -> None:
    """So it is the request that makes the weights above equal."""
    up = "model.layers.0.mlp.up_proj.weight"
    one, two = (door(llama, tmp_path / f"{seed}", ffn="x2", seed=seed)[up] for seed in (3, 4))
    assert torch.equal(one[:44], two[:44]) and not torch.equal(one[44:], two[44:])


# ── one list of what can be said ──


def test_every_keyword_is_a_size_or_a_field_of_the_request() -> None:
    fields = {field.name for field in dataclasses.fields(Request)}
    stacks = {f"{stack}_layers" for layout in LAYOUTS.values() for stack in layout.stacks}
    assert set(Said.__annotations__) == {*WORDS, *stacks, *OWN, "plan"}
    assert {*OWN, "saved"} <= fields and fields == {*OWN, "saved", "sizes", "expansions", "say"}


def test_every_option_is_a_keyword() -> None:
    options = {field.name for field in dataclasses.fields(Asked)}
    assert options - {"size"} <= set(Said.__annotations__)  # --size says any axis
    assert set(AXES) <= set(WORDS) and {*OWN, "plan"} <= options


def test_what_is_given_is_what_is_asked() -> None:
    given: dict[str, Any] = {"layers_at": 1, "init": "copy", "init_std": 0.5, "seed": 7, "allow_dead": True}
    asked = requested((), {"layers": "+1", "plan": None, **given})
    assert asked == Request({"layers": "+1"}, **given)
    assert hash(dataclasses.replace(asked, sizes=())) and asked.saved is None


# ── what it says ──


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "give one, like ffn='x2', or to= or plan="),
        ({"sizes": {"ffn": 88}, "to": "x.json"}, "to= gives every size: leave out ffn=, or to="),
        ({"expansions": (isogrow.MlpExpansion(88),), "to": "x.json"}, "leave out MlpExpansion, or to="),
        ({"saved": {}, "sizes": {"ffn": 88}, "init_std": 0.5}, "leave out ffn=, init_std=, or plan="),
        ({"saved": {}, "to": "x.json", "init": "copy"}, "leave out to=, init=, or plan="),
        ({"sizes": {"ffn": 88}, "layers_at": "end"}, "layers_at= says where .*: give layers= too"),
    ],
    ids=str,
)
def test_a_refusal_writes_names_as_the_asker_does(asked: dict[str, Any], said: str, llama: Path) -> None:
    anatomy = opened(llama).anatomy
    with pytest.raises(SizeError, match=said):
        Request(**asked).plan(anatomy)
    with pytest.raises(SizeError) as refused:
        Request(**asked, say=flag).plan(anatomy)
    assert "=" not in str(refused.value).replace("--", "") and "--" in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["head_dim", "heads"])
@pytest.mark.parametrize("size", ["11", "5", "3", "x1.1", "much", "13"])
def test_heads_and_head_dim_are_what_is_spoken_of(word: str, size: str, llama: Path, tmp_path: Path) -> None:
    """By every door: never of what they are made of."""
    heard = [command("plan", llama, flag(word), size).err]
    for ask in (isogrow.plan, isogrow.grow):
        with pytest.raises(IsogrowError) as refused:
            given: Any = llama if ask is isogrow.plan else LlamaForCausalLM.from_pretrained(llama)
            ask(given, **{word: size})
        heard.append(str(refused.value))
    for said in heard:
        assert word in said
        assert not any(inner in said for inner in ("key_dim", "value_dim", "group=")), said


def test_a_function_of_ones_own_stands_beside_a_plan_that_names_it(llama: Path) -> None:
    def half(region: isogrow.Region) -> Any:
        return 0.5 + 0 * region.old() if region.old().shape == region.shape else torch.full(region.shape, 0.5)

    anatomy = opened(llama).anatomy
    plan = Request({"ffn": "x2"}, init=half).plan(anatomy)
    assert Request(saved=plan, init=half).plan(anatomy) == plan
    with pytest.raises(SizeError, match="is not registered here"):
        Request(saved=plan).plan(anatomy)


# ── what was planned is not planned again ──


def test_a_plan_that_was_checked_is_taken_as_it_is_for_that_model_alone(llama: Path) -> None:
    found = opened(llama)
    planned = Request({"ffn": "x2"}).planned(found.anatomy)
    assert planned.learns_by == 2 and Request(saved=planned).planned(found.anatomy) is planned
    again = Request(saved=planned).planned(opened(llama).anatomy)
    assert isinstance(again, Planned) and again is not planned and again.plan == planned.plan
    with pytest.raises(SizeError, match="says everything itself"):
        Request(saved=planned, seed=1).planned(found.anatomy)
    other = opened(checkpoints()["Qwen3ForCausalLM"])
    with pytest.raises(SizeError, match="the plan is for 'llama'"):
        Request(saved=planned).planned(other.anatomy)


def test_opening_what_is_open(llama: Path) -> None:
    found = opened(llama)
    assert opened(found) is found


def test_results_have_names() -> None:
    model = nn.Linear(2, 2)
    made = isogrow.Training(model, None, None, None)
    assert made.model is model and made.optimizer is made.scheduler is made.ema is None
