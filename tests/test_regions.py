"""A user's own function for free entries: what it is given, what it may give, and where its name is known."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import command
import families as F
import numpy as np
import pytest
import torch
import transformers
from test_module import change, inputs, live
from transformers import PreTrainedModel

import isogrow
from isogrow import Init, MlpExpansion, Region, plan_of
from isogrow.errors import SizeError
from isogrow.growth.models import anatomy_of, lineage_of
from isogrow.interpreters import oracle as reference
from isogrow.numbers.filling import fill_
from isogrow.numbers.statistics import statistics
from isogrow.plans.pieces import Block, whole
from isogrow.plans.plan import Entry, Free, Plan, Step, rewritten
from isogrow.plans.regions import Initializer
from isogrow.plans.serial import from_json, to_json
from isogrow.stores.binding import reader, viewer
from isogrow.stores.store import StateDict

SIZES: dict[str, Any] = {"hidden": 36, "ffn": 51, "layers": "+1"}


def noisy(region: Region) -> np.ndarray:
    """Around the matched mean, and nowhere near the built-in numbers."""
    noise = np.random.default_rng(region.seed).standard_normal(region.shape)
    return 3.0 + region.mean + 0.5 * region.std * noise


def seen(small: Any, init: Initializer = noisy, **sizes: Any) -> list[Region]:
    """The regions that a growth asks for."""
    found: list[Region] = []

    def kept(region: Region) -> Any:
        found.append(region)
        return init(region)

    isogrow.grow(small, init=kept, **sizes)
    return found


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    monkeypatch.setattr("isogrow.plans.regions._REGISTERED", {})
    return isogrow.register_initializer


# What it is given


def test_a_region_says_what_is_to_be_filled() -> None:
    small = live("llama")
    regions = {(r.slot, r.index, r.axis): r for r in seen(small, **SIZES)}
    up = small.model.layers[2].mlp.up_proj.weight.detach().double()
    wide = regions["mlp.up", (("layers", 2),), "hidden"]
    assert (wide.axes, wide.shape, wide.mean) == (("ffn", "hidden"), (37, 6), 0.0)
    assert wide.std == pytest.approx(up.std(correction=0).item(), rel=1e-12)
    assert np.array_equal(wide.old(), up.numpy())
    assert regions["mlp.up", (("layers", 2),), "ffn"].shape == (14, 36)
    assert regions["mlp.up", (("layers", 3),), "layers"].shape == (51, 36)
    gain, s = regions["mlp_norm", (("layers", 0),), "hidden"], (30 / 36) ** 0.5
    old = small.model.layers[0].post_attention_layernorm.weight.detach().double().numpy()
    assert np.allclose(gain.old(), s * old, rtol=1e-15)
    assert (gain.mean, gain.std) == pytest.approx((s * old.mean(), s * old.std()), rel=1e-12)
    assert len({r.key for r in regions.values()}) == len({r.seed for r in regions.values()}) == len(regions)
    assert all(0 <= r.seed < 1 << 63 for r in regions.values())


def test_the_std_that_was_asked_for() -> None:
    assert {r.std for r in seen(live("llama"), ffn=51, init_std=0.25)} == {0.25}
    assert {r.seed for r in seen(live("llama"), ffn=51, seed=1)}.isdisjoint(
        r.seed for r in seen(live("llama"), ffn=51)
    )


# What becomes of it


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "olmo2", "qwen3", "mixtral"])
def test_the_numbers_are_the_functions_own_and_the_model_the_same(name: str, named: Any) -> None:
    family = F.FAMILIES[name]
    small = live(name, dtype=torch.float64)
    large = isogrow.grow(small, init=noisy, **family.together)
    assert change(small, large, inputs(name)) < F.EXACT
    anatomy, made = lineage_of(large) or pytest.fail()
    read = viewer(anatomy, small.state_dict().__getitem__)
    blocks = [block for stored in anatomy.stored for _, block in stored.blocks(anatomy.sizes)]
    old = {block: read(block).numpy() for block in blocks if block.slot in anatomy.slots}
    with pytest.raises(SizeError, match="is not known"):
        reference.grow(made, old)
    named(f"{__name__}.noisy", noisy)
    ours = viewer(anatomy_of(large), large.state_dict().__getitem__)
    for block, x in reference.grow(made, old).items():
        assert np.allclose(ours(block).numpy(), x, rtol=1e-13, atol=1e-15), block


@pytest.mark.slow
def test_whatever_grows_takes_the_same_numbers(named: Any, tmp_path: Path) -> None:
    """In memory, in place, on disk, an average, as objects, by name, by a plan."""
    small = live("llama")
    small.save_pretrained(tmp_path / "small")
    want = isogrow.grow(small, init=noisy, **SIZES).state_dict()
    assert (want["model.layers.3.mlp.up_proj.weight"] > 1.0).all()

    def same(found: Any) -> bool:
        return all(torch.equal(x, found[key]) for key, x in want.items())

    placed, optimizer = live("llama"), torch.optim.AdamW
    made = isogrow.grow_(placed, optimizer=optimizer(placed.parameters()), init=noisy, **SIZES)
    assert same(placed.state_dict())
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", init=noisy, **SIZES)
    assert same(type(small).from_pretrained(tmp_path / "large").state_dict())
    large, *_, average = isogrow.grow_training(
        small, optimizer=optimizer(small.parameters()), ema=live("llama"), init=noisy, **SIZES
    )
    assert same(large.state_dict()) and same(average.state_dict())
    steps = isogrow.HiddenExpansion(36), MlpExpansion(51), isogrow.LayerAddition("+1")
    assert same(isogrow.grow(small, *steps, init=noisy).state_dict())
    read = from_json(json.loads(json.dumps(to_json(made))))
    assert read == made
    assert same(isogrow.grow(small, plan=read, init=noisy).state_dict())
    named(f"{__name__}.noisy", noisy)
    assert same(isogrow.grow(small, plan=read).state_dict())
    assert same(isogrow.grow(small, init=f"{__name__}.noisy", **SIZES).state_dict())


@pytest.mark.slow
def test_a_stored_plan_is_verified_where_its_function_is_unknown(tmp_path: Path) -> None:
    live("llama").save_pretrained(tmp_path / "small")
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", init=noisy, **SIZES)
    report = isogrow.verify(tmp_path / "small", tmp_path / "large")
    assert report.passed, report.failed
    weights = next(check for check in report.checks if check.name == "weights")
    assert "with free entries of their own" in weights.detail


# What is refused


def given(value: Any) -> Initializer:
    return lambda region: value(region) if callable(value) else value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda r: np.zeros(r.shape[::-1]), "gives an array of shape [30, 14] for the new entries of"),
        (0.5, "gives an array of shape [] for the new entries of mlp.up layers=0 when ffn grows"),
        (lambda r: torch.full(r.shape, torch.inf), "gives numbers that are not finite"),
        (lambda r: np.full(r.shape, np.nan), "return finite numbers of shape [14, 30]"),
        (None, "gives a NoneType, which is no array of numbers"),
        ("wide", "gives a str, which is no array of numbers"),
        (lambda r: np.ones(r.shape) * 1j, "gives complex numbers"),
    ],
)
def test_what_is_no_region_is_refused(value: Any, said: str) -> None:
    def init(region: Region) -> Any:
        return given(value)(region) if region.slot == "mlp.up" else np.zeros(region.shape)

    small = live("llama")
    with pytest.raises(SizeError) as refused:
        isogrow.grow(small, init=init, ffn=51)
    assert said in str(refused.value) and "init" in str(refused.value)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.int64, np.float16, list])
def test_any_array_will_do(kind: Any) -> None:
    def init(region: Region) -> Any:
        x = np.ones(region.shape)
        if kind is list:
            return x.tolist()
        return x.astype(kind) if kind is np.float16 else torch.tensor(x).to(kind)

    large = isogrow.grow(live("llama"), init=init, ffn=51)
    assert (large.model.layers[1].mlp.gate_proj.weight[37:] == 1.0).all()


def by(plan: Plan, name: str) -> Plan:
    """The same growth with another initializer."""

    def entry(step: Step, slot: str, label: str, entry: Entry) -> Entry:
        return replace(entry, init=replace(entry.init, kind=name)) if isinstance(entry, Free) else entry

    return rewritten(plan, entry)


def test_numbers_that_change_are_refused(named: Any) -> None:
    """r and -r on copies cancel only if both are the same r."""
    generator, small = np.random.default_rng(0), live("bert", dtype=torch.float64)
    named("new", lambda r: generator.standard_normal(r.shape))
    named("same", noisy)
    sizes: dict[str, Any] = {"hidden": "x3", "heads": "x3"}
    assert change(small, isogrow.grow(small, init="same", **sizes), inputs("bert")) < F.EXACT
    with pytest.raises(SizeError, match="'new' gives other numbers for .* when .* region.seed"):
        isogrow.grow(small, init="new", **sizes)
    block = Block("attn.q", (("layers", 0),), ("heads", "key_dim", "hidden"))
    anatomy, known = lineage_of(isogrow.grow(small, init="same", **sizes)) or pytest.fail()
    for name in ("same", "new"):
        made = by(known, name)
        read = reader(anatomy, StateDict(small.state_dict()))
        stats = statistics(made, [block], read)
        for _ in range(2):
            out = torch.empty(block.shape(made.target))
            if name == "same":
                fill_(out, block, whole(tuple(out.shape)), made, read, stats)
                continue
            with pytest.raises(SizeError, match="'new' gives other numbers for attn.q when .* region.seed"):
                fill_(out, block, whole(tuple(out.shape)), made, read, stats)


@pytest.mark.parametrize(
    ("init", "said"),
    [
        ("zeros", "init 'zeros' is not known: give one of normal, uniform, copy, orthogonal, a function"),
        (0.02, "init 0.02 is no initializer"),
        (None, "init None is no initializer"),
        (isogrow.GradMax, "init is the class GradMax, not an initializer: give GradMax("),
    ],
)
def test_what_is_no_initializer_is_refused(init: Any, said: str) -> None:
    with pytest.raises(SizeError) as refused:
        isogrow.grow(live("llama"), init=init, ffn=51)
    assert said in str(refused.value)


def test_names(named: Any) -> None:
    small = live("llama")
    with pytest.raises(SizeError, match="'normal' can't be registered: isogrow has an initializer of that"):
        named("normal", noisy)
    with pytest.raises(SizeError, match="'mine' can't be registered: 3 is no function"):
        named("mine", 3)
    large = isogrow.grow(small, init=noisy, ffn=51)
    made = plan_of(large) or pytest.fail()
    with pytest.raises(
        SizeError, match=r"by 'test_regions.noisy', which is not registered here: call isogrow"
    ):
        isogrow.grow(small, plan=made)
    named("mine", noisy)
    with pytest.raises(SizeError, match="not registered"):
        isogrow.grow(small, plan=made)
    isogrow.grow(small, init="mine", ffn=51)


def test_the_command_line_refuses_a_plan_whose_function_is_not_there(tmp_path: Path) -> None:
    small = live("llama")
    small.save_pretrained(tmp_path / "small")
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", init=noisy, ffn=51)
    for verb, out in (("plan", []), ("grow", [tmp_path / "other"])):
        ran = command.isogrow(verb, tmp_path / "small", *out, "--plan", tmp_path / "large")
        assert ran.code == 2 and "'test_regions.noisy', which is not registered here" in " ".join(
            ran.err.split()
        )
    assert not (tmp_path / "other").exists()


def test_a_region_too_large_to_be_made_whole_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isogrow.numbers.initializers.WHOLE_LIMIT", 300)
    with pytest.raises(SizeError, match="needs a new block of 420 entries whole, and at most 300"):
        isogrow.grow(live("llama"), init=noisy, ffn=51)


def both_grow(rounds: int) -> int:
    """Two threads that grow at once, until transformers is no longer as it was; the rounds that it took."""
    real = PreTrainedModel.tie_weights
    small = live("gpt2")
    try:
        for done in range(rounds):
            threads = [
                threading.Thread(target=isogrow.grow, args=(small,), kwargs={"ffn": "x2"}) for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            if PreTrainedModel.tie_weights is not real:
                return done
        return rounds
    finally:
        PreTrainedModel.tie_weights = real  # type: ignore[method-assign]


@pytest.mark.slow
def test_two_threads_leave_transformers_as_it_was() -> None:
    """It replaces its own functions while it loads a model, and puts back what it found."""
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    assert both_grow(8) == 8
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_loads_at_once_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: the same without the lock, after a few rounds."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    monkeypatch.setattr("isogrow.quiet._BUILDING", nullcontext())
    try:
        assert both_grow(200) < 200
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def test_two_threads_fill_by_functions_of_one_name() -> None:
    """Two lambdas of a module have the same name; each growth asks its own."""
    small, started, found = live("llama"), threading.Barrier(2), {}

    def grow(value: float) -> None:
        def fill(region: Region) -> np.ndarray:
            if value not in found:
                found[value] = None
                started.wait(60)  # until both growths have begun
            return np.full(region.shape, value)

        fill.__qualname__ = "fill"
        large = isogrow.grow(small, init=fill, ffn=51)
        found[value] = set(large.model.layers[1].mlp.gate_proj.weight[37:].flatten().tolist())

    threads = [threading.Thread(target=grow, args=(value,)) for value in (1.0, 2.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {1.0: {1.0}, 2.0: {2.0}}


# Initializers that look at the model


class Looking:
    """Fills with a number that it reads off the model."""

    name = "looking"

    def fitted(self, model: Any, plan: Plan) -> Initializer:
        found = float(model.lm_head.weight.detach().abs().max()) + len(plan.steps)
        return lambda region: np.full(region.shape, found)


@pytest.mark.slow
def test_an_initializer_may_look_at_the_model_first(tmp_path: Path) -> None:
    small = live("llama")
    large = isogrow.grow(small, init=Looking(), ffn=51)
    wanted = small.lm_head.weight.abs().max() + 1.0
    assert torch.allclose(large.model.layers[1].mlp.gate_proj.weight[37:], wanted)
    placed = live("llama")
    isogrow.grow_(placed, init=Looking(), ffn=51)
    assert all(torch.equal(x, placed.state_dict()[key]) for key, x in large.state_dict().items())
    assert isogrow.verify(small, large, liveness=False).passed
    small.save_pretrained(tmp_path / "small")
    with pytest.raises(SizeError, match="init 'looking' looks at the model while it runs, .* isogrow.grow"):
        isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", init=Looking(), ffn=51)
    assert not (tmp_path / "large").exists()


def test_a_plan_of_another_initializer_is_not_looked_at() -> None:
    small = live("llama")
    made = plan_of(isogrow.grow(small, ffn=51)) or pytest.fail()
    found = isogrow.grow(small, plan=made, init=Looking()).state_dict()
    assert all(torch.equal(x, found[key]) for key, x in isogrow.grow(small, ffn=51).state_dict().items())


def test_init_is_data() -> None:
    assert Init("mine", 0.5) == Init("mine", 0.5) != Init("mine")
