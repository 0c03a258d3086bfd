"""GradMax: of all rows of their norms, those of new units have the largest gradients on their switches."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import families as F
import numpy as np
import pytest
import torch
from test_module import assert_same, change, inputs, live, snapshot
from torch import Tensor

import isogrow
from isogrow import GradMax, Region, plan_of
from isogrow.errors import IsogrowError
from isogrow.gradmax import Fitted, fitting, loss_of
from isogrow.plans.regions import Initializer

CLOSE = 1e-10
WIDTH = {"hidden_size": 36}  # of which both 6 and 9 heads are a divisor
HEADS: dict[str, Any] = {"heads": 9, "kv_heads": 3}


def batches(count: int = 2) -> list[Tensor]:
    return [torch.randint(43, (3, 11), generator=torch.Generator().manual_seed(9 + i)) for i in range(count)]


def loss(model: Any, ids: Tensor) -> Tensor:
    logits = model(input_ids=ids).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def grown(small: Any, sizes: dict[str, Any], init: Any = None, **options: Any) -> tuple[Any, Fitted]:
    """A model grown with GradMax (or another initializer), and what GradMax found."""
    found: list[Fitted] = []
    with F.float64():
        init = init or GradMax(batches(), loss, tell=found.append)
        large = isogrow.grow(small, init=init, **sizes, **options)
    return large, found[0] if found else Fitted((), {})


def gradients(large: Any, *ends: str) -> float:
    """Σ of squared gradients over all zeros of these weights: the switches."""
    wanted = {name: p for name, p in large.named_parameters() if name.endswith(ends)}
    total = dict.fromkeys(wanted, 0.0)
    with F.float64():
        for ids in batches():
            found = torch.autograd.grad(loss(large, ids), list(wanted.values()), allow_unused=True)
            total = {
                name: total[name] + (0.0 if g is None else g / 2)
                for name, g in zip(wanted, found, strict=True)
            }
    return sum(float((total[name] ** 2)[wanted[name] == 0].sum()) for name in wanted)


def alike(kind: str, slot: str) -> Initializer:
    """Random or orthogonal rows, each of the norm that GradMax gives it; all else as it draws it."""

    def init(region: Region) -> np.ndarray:
        box = tuple(map(range, region.shape))
        x = fitting.sample("normal", region.key, region.shape, box)
        if region.slot == f"{slot}.bias":
            return np.zeros(region.shape)
        if region.slot != slot:
            return region.mean + region.std * x
        rng = np.random.default_rng(region.seed)
        rows = rng.standard_normal((int(np.prod(region.shape[:-1])), region.shape[-1]))
        if kind == "orthogonal":
            rows = np.concatenate(
                [np.linalg.qr(rng.standard_normal((region.shape[-1],) * 2))[0] for _ in range(len(rows))]
            )[: len(rows)]
        rows *= region.std * region.shape[-1] ** 0.5 / np.linalg.norm(rows, axis=1, keepdims=True)
        return rows.reshape(region.shape)

    return init


# name, what grows, the slot that is chosen, the switch's name
CASES = [
    ("llama", {"ffn": 51}, "mlp.up", "down_proj.weight"),
    ("llama", HEADS, "attn.v", "o_proj.weight"),
    ("llama", {"layers": "+1"}, "attn.v", "o_proj.weight"),
    ("llama", {"layers": "+1"}, "mlp.up", "down_proj.weight"),
    ("gpt2", {"layers": "+2"}, "attn.v", "attn.c_proj.weight"),
    ("mixtral", {"ffn": 51}, "experts.up", "experts.down_proj"),
    ("qwen3", HEADS, "attn.v", "o_proj.weight"),
]
KINDS = ("normal", "orthogonal")
DRAWS = 8
cases = pytest.mark.parametrize(("name", "sizes", "slot", "switch"), CASES)


@pytest.mark.slow
@cases
def test_the_switch_gets_what_was_predicted_and_no_rows_get_more(
    name: str, sizes: dict[str, Any], slot: str, switch: str
) -> None:
    small = live(name, dtype=torch.float64, **(WIDTH if sizes is HEADS else {}))
    small.config._experts_implementation = "eager"  # the kernel of the others knows no float64
    large, found = grown(small, sizes)
    own = found.by_slot()[slot]
    got = gradients(large, switch)
    assert got == pytest.approx(sum(c.gradient for c in own), rel=CLOSE)
    assert change(small, large, inputs(name)) < F.EXACT
    usual = {kind: gradients(grown(small, sizes, alike(kind, slot))[0], switch) for kind in KINDS}
    expected = sum(c.random for c in own)
    assert got > 0.99 * expected
    # Where the gates beside them are drawn too, one draw is up to three times another: so the mean of some.
    draws = [gradients(grown(small, sizes, alike("normal", slot), seed=i)[0], switch) for i in range(DRAWS)]
    assert statistics.mean(draws) == pytest.approx(expected, rel=0.5)
    if own[0].units < 30:  # from as many on as a row has entries, there is little to choose
        assert got > max(usual.values())


@pytest.mark.slow
def test_other_rows_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the smallest singular values in place of the largest, random rows win."""
    small = live("llama", dtype=torch.float64, **WIDTH)
    best = gradients(grown(small, HEADS)[0], "o_proj.weight")
    real = fitting.directions

    def worst(matrix: np.ndarray, count: int, left: np.ndarray, rng: Any) -> Any:
        return real(matrix, len(left), left, rng)[0][-count:], left

    monkeypatch.setattr(fitting, "directions", worst)
    least = gradients(grown(small, HEADS)[0], "o_proj.weight")
    usual = gradients(grown(small, HEADS, alike("normal", "attn.v"))[0], "o_proj.weight")
    assert least < usual < best


# The matrices, from activations that hooks see: nothing of probing is shared


@contextmanager
def watched(module: Any, what: str) -> Iterator[list[Tensor]]:
    """What a module gets, or the gradient at what it gives, call by call."""
    found: list[Tensor] = []
    if what == "inputs":
        handle = module.register_forward_hook(lambda m, given, out: found.append(given[0].detach()))
    else:
        handle = module.register_full_backward_hook(lambda m, ins, outs: found.append(outs[0].detach()))
    yield found
    handle.remove()


def seen(model: Any, reads: Any, writes: Any) -> tuple[Tensor, Tensor]:
    """(x, δ) at every token of all batches: what one module reads, the gradient at what another writes."""
    with F.float64(), watched(reads, "inputs") as xs, watched(writes, "gradients") as ds:
        for ids in batches():
            loss(model, ids).backward()
        model.zero_grad()
    return torch.cat([x.flatten(0, -2) for x in xs]), torch.cat([d.flatten(0, -2) for d in ds]) / 2


def test_a_plain_mlp_by_its_activations() -> None:
    """φ(s) - φ(-s) = s, so the linear part is half of Σ δ xᵀ; units take the top n singular vectors."""
    small = live("gpt2", dtype=torch.float64)
    large, found = grown(small, {"ffn": 51})
    for at, chosen in enumerate(found.by_slot()["mlp.up"]):
        block = small.transformer.h[at].mlp
        x, d = seen(small, block.c_fc, block.c_proj)
        values = torch.linalg.svdvals(d.T @ x / 2)
        norm = 30 * block.c_fc.weight.detach().std(correction=0) ** 2
        n = 51 - block.c_fc.weight.shape[1]
        assert chosen.units == n
        assert chosen.gradient == pytest.approx(float((values[:n] ** 2).sum() * norm), rel=CLOSE)
        rows = large.transformer.h[at].mlp.c_fc.weight.detach()[:, -n:].T
        assert torch.allclose(rows @ rows.T, norm * torch.eye(n).double(), atol=1e-12)
        assert not large.transformer.h[at].mlp.c_fc.bias[-n:].any()


@pytest.mark.slow
def test_a_gated_mlp_by_its_activations() -> None:
    """Each unit has a matrix of its own, Σ δ φ(g x) xᵀ, and takes its best row orthogonal to those before,
    the one with the largest matrix first."""
    small = live("llama", dtype=torch.float64)
    large, found = grown(small, {"ffn": 51})
    block, wide = small.model.layers[1].mlp, large.model.layers[1].mlp
    x, d = seen(small, block.gate_proj, block.down_proj)
    gates = wide.act_fn(wide.gate_proj(x))[:, 37:].detach()
    values, left = list[float](), torch.eye(30, dtype=torch.float64)
    own = [d.T @ (gates[:, unit, None] * x) for unit in range(14)]
    for matrix in sorted(own, key=lambda m: -float(m.norm())):
        _, s, v = torch.linalg.svd(matrix @ left)
        values.append(float(s[0]))
        left = left @ (torch.eye(30, dtype=torch.float64) - torch.outer(v[0], v[0]))
    norm = 30 * float(block.up_proj.weight.detach().std(correction=0) ** 2)
    chosen = found.by_slot()["mlp.up"][1]
    assert chosen.gradient == pytest.approx(norm * sum(v * v for v in values), rel=CLOSE)


def test_values_by_their_attention() -> None:
    """All channels of a head share Σ δ (A x)ᵀ, one above the other for the queries of its group."""
    small = live("llama", dtype=torch.float64, **WIDTH)
    small.set_attn_implementation("eager")
    large, found = grown(small, HEADS)
    block, wide = small.model.layers[1].self_attn, large.model.layers[1].self_attn
    x, d = seen(small, block.v_proj, block.o_proj)
    with F.float64():
        patterns = [large(input_ids=ids, output_attentions=True).attentions[1] for ids in batches()]
    patterns = torch.cat(patterns).detach()
    x, d = x.view(6, 11, -1), d.view(6, 11, -1)
    stacked = [torch.einsum("bto,bts,bsi->oi", d, patterns[:, head], x) for head in (6, 7, 8)]
    values = torch.linalg.svdvals(torch.cat(stacked))
    count, norm = wide.head_dim, 36 * float(block.v_proj.weight.detach().std(correction=0) ** 2)
    chosen = found.by_slot()["attn.v"][1]
    assert (chosen.units, chosen.index) == (count, (("layers", 1),))
    assert chosen.gradient == pytest.approx(norm * float((values[:count] ** 2).sum()), rel=CLOSE)


@pytest.mark.slow
def test_its_passes_are_counted() -> None:
    looked: list[Tensor] = []

    def counted(model: Any, ids: Tensor) -> Tensor:
        looked.append(ids)
        return loss(model, ids)

    found: list[Fitted] = []
    grown(live("llama", dtype=torch.float64), {"ffn": 51}, GradMax(batches(), counted, found.append))
    assert found[0].passes == len(looked) > 2 * 24  # a row's entries, on each of two batches


# What it leaves alone


@pytest.mark.slow
def test_only_what_was_chosen_is_other_than_random() -> None:
    """Gates, queries and keys are what they are without it; model and random state are untouched."""
    small = live("llama", dtype=torch.float64).train()
    before, state = snapshot(small), torch.get_rng_state()
    large, found = grown(small, {"ffn": 51, "layers": "+1"})
    assert_same(before, snapshot(small))
    assert torch.equal(state, torch.get_rng_state())
    plain = isogrow.grow(small, ffn=51, layers="+1").state_dict()
    other = {n for n, x in large.state_dict().items() if not torch.equal(x, plain[n])}
    up = {f"model.layers.{at}.mlp.up_proj.{kind}" for at in range(4) for kind in ("weight", "bias")}
    assert other == up | {f"model.layers.3.self_attn.v_proj.{kind}" for kind in ("weight", "bias")}
    assert "mlp.up: 93 units of 4 blocks, squared gradient" in str(found)
    assert f"all other new entries: random; {found.passes} passes over a batch" in str(found)
    assert all(p.requires_grad for p in large.parameters()) and large.training


@pytest.mark.slow
def test_inputs_that_are_zero_as_yet_keep_random_weights() -> None:
    """New channels of the residual are zero at the growth: no gradient says what to do with them."""
    small = live("llama", dtype=torch.float64)
    large, found = grown(small, {"hidden": 36, "ffn": 51})
    plain = isogrow.grow(small, hidden=36, ffn=51)
    rows, random = (m.model.layers[1].mlp.up_proj.weight.detach()[37:] for m in (large, plain))
    assert torch.equal(rows[:, 30:], random[:, 30:])
    norms = rows[:, :30].norm(dim=1)
    assert norms.tolist() == pytest.approx([float(random[:, :30].norm()) / 14**0.5] * 14, rel=0.2)
    assert found.by_slot()["mlp.up"][1].gradient > 1.5 * found.by_slot()["mlp.up"][1].random


def test_where_no_map_is_linear_all_is_random() -> None:
    """In a new layer of OLMo 2 the gain of a norm is the switch, and norms are not linear."""
    small = live("olmo2", dtype=torch.float64)
    large, found = grown(small, {"layers": "+1"})
    plain = isogrow.grow(small, layers="+1").state_dict()
    assert not found.chosen and all(torch.equal(x, plain[n]) for n, x in large.state_dict().items())


def test_an_additive_map_is_told_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A squared ReLU's odd part, s |s|, is not additive: a plain MLP with it has random rows."""
    small = live("gpt2", dtype=torch.float64, activation_function="relu2")
    assert not grown(small, {"ffn": 51})[1].chosen
    monkeypatch.setattr(fitting, "STRAIGHT", 1.0)
    assert grown(small, {"ffn": 51})[1].chosen


# Training state, dtypes, refusals


@pytest.mark.slow
def test_a_training_state_grows_with_it() -> None:
    small = live("llama")
    batch = [{"input_ids": ids, "labels": ids} for ids in batches()]
    optimizer = torch.optim.AdamW(small.parameters())
    made = isogrow.grow_training(small, optimizer=optimizer, ema=live("llama"), init=GradMax(batch), ffn=51)
    large, average = made.model.state_dict(), made.ema.state_dict()
    up = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(large[up], average[up])
    isogrow.grow_(small, optimizer=optimizer, init=GradMax(iter(batch)), ffn=51)
    assert all(torch.equal(x, small.state_dict()[name]) for name, x in large.items())
    assert (plan_of(small) or pytest.fail()).steps[0].rewrites["mlp.up"]["new"].init.kind == "gradmax"


@pytest.mark.slow
def test_half_precision_is_probed_in_float32() -> None:
    whole, half = live("llama"), live("llama", dtype=torch.bfloat16)
    found = [isogrow.grow(m, init=GradMax(batches(), loss), ffn=51) for m in (whole, half)]
    one, two = (m.model.layers[1].mlp.up_proj.weight.detach()[37:].float() for m in found)
    assert found[1].dtype == torch.bfloat16
    # Where gains are nearly equal, the weights' own rounding decides which rows are chosen.
    assert torch.nn.functional.cosine_similarity(one, two).abs().median() > 0.999


@pytest.mark.parametrize(
    ("given", "call", "said"),
    [
        ([], loss, "GradMax was given no batches"),
        (3, loss, "GradMax was given int where batches were expected: give a list"),
        (
            {"input_ids": 1},
            loss,
            "GradMax was given a batch where batches were expected: give a list, [batch]",
        ),
        (
            [1],
            loss_of,
            "a batch that GradMax was given is int, and a mapping that the model takes was expected",
        ),
        (batches(), lambda model, ids: loss(model, ids) + torch.nan, "a loss or a gradient that GradMax"),
        ([1], lambda model, batch: 3.0, "the loss that GradMax was given is 3.0, and a tensor of one number"),
        (
            batches(),
            lambda model, ids: model(input_ids=ids).logits,
            "a tensor of one number with a gradient was",
        ),
        (
            batches(),
            lambda model, ids: loss(model, ids).detach(),
            "a tensor of one number with a gradient was",
        ),
        (batches(), lambda model, ids: loss(model, ids) * torch.nan, "is not finite: give it batches with a"),
    ],
)
def test_what_can_not_be_probed_is_refused(given: Any, call: Any, said: str) -> None:
    with pytest.raises(IsogrowError) as refused:
        isogrow.grow(live("llama"), init=GradMax(given, call), ffn=51)
    assert said in str(refused.value)


def test_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    live("llama").save_pretrained(tmp_path / "small")
    with pytest.raises(IsogrowError, match="'gradmax' looks at the model while it runs, .* isogrow.grow"):
        isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", init=GradMax(batches()), ffn=51)


@pytest.mark.slow
def test_large_matrices_are_packed_or_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    small = live("llama", dtype=torch.float64)
    whole = grown(small, {"ffn": 51})[1]
    monkeypatch.setattr(fitting, "LIMIT", 14 * 30 * 30)
    packed = grown(small, {"ffn": 51})[1]
    assert [c.gradient for c in packed.chosen] == [c.gradient for c in whole.chosen]
    monkeypatch.setattr(fitting, "LIMIT", 14 * 30 * 30 - 1)
    assert not grown(small, {"ffn": 51})[1].chosen


@pytest.mark.slow
def test_more_units_than_dims_differ() -> None:
    small = live("gpt2", dtype=torch.float64)
    large, _ = grown(small, {"ffn": 120})
    rows = large.transformer.h[0].mlp.c_fc.weight.detach()[:, 41:].T
    cosines = torch.nn.functional.normalize(rows) @ torch.nn.functional.normalize(rows).T
    assert len(rows) > 2 * 30 and (cosines - torch.eye(len(rows))).abs().max() < 0.99
    assert isogrow.verify(small, large).passed
