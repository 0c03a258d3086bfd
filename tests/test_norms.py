"""The hidden rule under each kind of norm, place of norm and ε, in models that no family has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from families import BROKEN, EXACT
from torch import Tensor, nn
from torch.nn import functional

import isogrow
from isogrow import Bias, Key, Layout, Norm, Stream, Weight, laws
from isogrow import families as registry
from isogrow.errors import LawError, LayoutError, SizeError
from isogrow.growth import models
from isogrow.interpreters.module import grown_state, headers
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import expansions
from isogrow.plans.matching import match
from isogrow.plans.plan import Old, Plan
from isogrow.plans.sizes import Sizes

VOCAB, HIDDEN, FFN, LAYERS = 31, 12, 17, 2
EPS = 1e-2
B = "blocks.{layers}."


class Normed(nn.Module):
    """RMSNorm or LayerNorm (with bias), its gain g used as offset + g; `plain`: neither gain nor bias."""

    def __init__(self, config: Mapping[str, Any], plain: bool = False) -> None:
        super().__init__()
        self.config = config
        biased = config["kind"] == "layer" and not plain
        self.weight = None if plain else nn.Parameter(torch.empty(config["hidden"]))
        self.bias = nn.Parameter(torch.empty(config["hidden"])) if biased else None

    def forward(self, x: Tensor) -> Tensor:
        eps, gain = self.config["eps"], 1.0 if self.weight is None else self.config["offset"] + self.weight
        if self.config["kind"] == "layer":
            gain = None if self.weight is None else gain
            return functional.layer_norm(x, x.shape[-1:], gain, self.bias, eps)
        return gain * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


class Block(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.up, self.down = (
            nn.Linear(config["hidden"], config["ffn"]),
            nn.Linear(config["ffn"], config["hidden"]),
        )
        self.before = Normed(config, config["plain"])
        self.after = Normed(config) if config["branch"] else nn.Identity()
        self.scale = nn.Parameter(torch.empty(config["hidden"])) if config["scale"] else 1.0

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.after(self.down(torch.tanh(self.up(self.before(x)))))


class Model(nn.Module):
    """A residual stream of MLPs with norms before them, and norms or LayerScale on their outputs too."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        self.embed = nn.Embedding(VOCAB, config["hidden"])
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["layers"]))
        self.final = Normed(config, config["plain"])
        self.head = nn.Linear(config["hidden"], VOCAB, bias=False)
        if config["tied"]:
            self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.final(x))


def build(config: Mapping[str, Any], _: Sizes) -> Model:
    return Model(config)


def layout(config: Mapping[str, Any], constant: bool) -> Layout:
    """The model's layout; its ε as a constant in the code, or as a key of the config."""
    eps, offset = EPS if constant else "eps", config["offset"]
    pre = Norm(config["kind"], "pre", eps=eps, offset=offset)
    branch = Norm(config["kind"], "branch", eps=eps, offset=offset)
    return Layout(
        family="normed",
        weights=(
            Weight("embed.weight", "vocab -> hidden", "embed"),
            norm(B + "before", "mlp_norm", pre, config["plain"]),
            Weight(B + "up.weight", "ffn <- hidden", "mlp.up", bias=Bias()),
            Weight(B + "down.weight", "hidden <- ffn", "mlp.down", bias=Bias()),
            *((norm(B + "after", "branch_norm", branch),) if config["branch"] else ()),
            *((Weight(B + "scale", "* hidden", "scale", gates="mlp.down"),) if config["scale"] else ()),
            norm("final", "final_norm", pre, config["plain"]),
            Weight("head.weight", "vocab <- hidden", "head", head=True, tied="embed"),
        ),
        axes={axis: axis for axis in ("vocab", "hidden", "ffn", "layers")},
        keys=(
            Key("vocab", default=VOCAB),
            *(Key(axis, axis) for axis in ("hidden", "ffn", "layers")),
            Key("eps", default=EPS),
            Key("tied", default=False),
        ),
        streams=(Stream(tie="tied"),),
    )


def norm(name: str, slot: str, kind: Norm, plain: bool = False) -> Weight:
    if plain:
        return Weight(name, "* hidden", slot, kind, stored=False)
    return Weight(f"{name}.weight", "* hidden", slot, kind, Bias(required=False))


def made(constant: bool = True, **options: Any) -> Model:
    """A float64 model with random weights, registered."""
    sizes = dict(hidden=HIDDEN, ffn=FFN, layers=LAYERS, eps=EPS)
    plain = dict(kind="rms", branch=False, tied=False, offset=0.0, plain=False, scale=False)
    config = {**sizes, **plain, **options}
    isogrow.register(layout(config, constant), Model, build)
    model = Model(config).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = 0.2 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
            gain = value.dim() == 1 and name.endswith("weight")
            value.copy_(noise + (1.0 - config["offset"] if gain else 0.0))
    return model


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Afterwards nobody knows of the layouts that a test registered."""
    known, classes = dict(registry.LAYOUTS), dict(models._REGISTERED)
    yield
    for now, before in ((registry.LAYOUTS, known), (models._REGISTERED, classes)):
        now.clear()
        now.update(before)  # type: ignore[arg-type]


def error(small: Model, large: Model) -> float:
    ids = torch.arange(2 * VOCAB).reshape(2, VOCAB) * 7 % VOCAB
    with torch.no_grad():
        a, b = small(ids), large(ids)
    return float(((a - b).abs().amax(-1) / a.abs().amax(-1)).max())


GROWTHS = [{"hidden": 24}, {"layers": 4}, {"hidden": 36, "ffn": 23, "layers": 3}]
either = pytest.mark.parametrize("constant", [True, False], ids=["constant", "config"])
tied_or_not = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [*GROWTHS, {"hidden": 19}])
@pytest.mark.parametrize("branch", [True, False], ids=["branch", "pre"])
@pytest.mark.parametrize("offset", [0.0, 1.0])
@tied_or_not
@either
def test_rms(constant: bool, tied: bool, offset: float, branch: bool, sizes: dict[str, int]) -> None:
    small = made(constant, kind="rms", tied=tied, offset=offset, branch=branch)
    large = isogrow.grow(small, **sizes)
    assert error(small, large) < EXACT
    assert (large.config["eps"] == EPS) == (constant or "hidden" not in sizes)


@pytest.mark.parametrize("sizes", [*GROWTHS, {"hidden": 19}])
@tied_or_not
@either
def test_layer_norm_before_branches(constant: bool, tied: bool, sizes: dict[str, int]) -> None:
    small = made(constant, kind="layer", tied=tied)
    assert error(small, isogrow.grow(small, **sizes)) < EXACT


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [*GROWTHS, {"hidden": 19}])
@pytest.mark.parametrize("kind", ["rms", "layer"])
@tied_or_not
@either
def test_layer_scale(constant: bool, tied: bool, kind: str, sizes: dict[str, int]) -> None:
    small = made(constant, kind=kind, tied=tied, scale=True)
    large = isogrow.grow(small, **sizes)
    assert error(small, large) < EXACT
    if "hidden" in sizes and kind == "layer":
        assert (large.get_parameter("blocks.0.scale")[HIDDEN:] == 1.0).all()


@pytest.mark.parametrize("sizes", GROWTHS)
@either
def test_layer_norm_on_branches(constant: bool, sizes: dict[str, int]) -> None:
    """It writes the residual, and its output's mean depends on the data: copies, as for post-norm."""
    small = made(constant, kind="layer", branch=True)
    assert error(small, isogrow.grow(small, **sizes)) < EXACT


@either
def test_layer_norm_on_branches_is_refused_where_no_fill_is_exact(constant: bool) -> None:
    with pytest.raises(SizeError, match="only whole copies keep its mean.* multiples of 12: give 24"):
        isogrow.grow(made(constant, kind="layer", branch=True), hidden=19)
    tied = made(constant, kind="layer", branch=True, tied=True)
    assert error(tied, isogrow.grow(tied, hidden=24)) < EXACT  # the last norm is the switch


# Norms without a tensor

kinds = pytest.mark.parametrize("kind", ["rms", "layer"])


@pytest.mark.parametrize("sizes", [*GROWTHS, {"hidden": 19}])
@kinds
@either
def test_a_norm_without_a_tensor(constant: bool, kind: str, sizes: dict[str, int]) -> None:
    small = made(constant, kind=kind, plain=True)
    assert error(small, isogrow.grow(small, **sizes)) < EXACT


@pytest.mark.parametrize("sizes", GROWTHS)
@kinds
@either
def test_a_norm_without_a_tensor_beside_one_on_branches(
    constant: bool, kind: str, sizes: dict[str, int]
) -> None:
    small = made(constant, kind=kind, plain=True, branch=True)
    assert error(small, isogrow.grow(small, **sizes)) < EXACT


@kinds
@either
def test_a_tied_head_behind_a_norm_without_a_tensor_is_refused(constant: bool, kind: str) -> None:
    small = made(constant, kind=kind, plain=True, tied=True)
    with pytest.raises(SizeError, match="the last norm has no gain.* untie the head, or grow ffn"):
        isogrow.grow(small, hidden=19)
    assert error(small, isogrow.grow(small, ffn=23)) < EXACT


@kinds
@either
def test_what_reads_a_norm_without_a_tensor_must_undo_it(constant: bool, kind: str) -> None:
    """Left as it is, each reader shows, and is refused; so is a tied head, whatever is done."""
    small = made(constant, kind=kind, plain=True)
    anatomy = match(layout(small.config, constant), small.config, headers(small))
    right = plan(anatomy, expansions({"hidden": 19}))
    (step,) = right.steps
    for slot in ("mlp.up", "head"):
        kept = {**step.rewrites, slot: {**step.rewrites[slot], "old": Old()}}
        wrong = dataclasses.replace(right, steps=(dataclasses.replace(step, rewrites=kept),))
        with pytest.raises(LawError, match=f"must scale {slot} by .* before it has no gain"):
            laws.check(anatomy, wrong)
        assert error(small, carried(small, anatomy, wrong)) > BROKEN
    config = {**small.config, "tied": True}
    tied = match(layout(config, constant), config, headers(small))
    rewrites = {slot: rewrite for slot, rewrite in step.rewrites.items() if slot != "head"}
    wrong = dataclasses.replace(right, steps=(dataclasses.replace(step, rewrites=rewrites),))
    with pytest.raises(LawError, match="must scale head by .* before it has no gain"):
        laws.check(tied, wrong)


def carried(small: Model, anatomy: Anatomy, wrong: Plan) -> Model:
    """The model that a plan makes, however wrong it is."""
    large = Model({**small.config, **wrong.config}).double()
    large.load_state_dict(grown_state(small.state_dict(), anatomy, wrong))
    return large


def test_a_norm_without_a_tensor_does_not_stand_on_a_branch() -> None:
    for where in ("branch", "part"):
        kind = Norm("rms", where, eps=EPS)  # type: ignore[arg-type]
        with pytest.raises(LayoutError, match="plain has no tensor, and is no norm before a branch"):
            Layout("odd", (Weight("plain", "* hidden", "plain", kind, stored=False),), {})


@pytest.mark.parametrize(
    ("kind", "name", "factor"),
    [
        ("rms", "embed.weight", (HIDDEN / 19) ** 0.5),
        ("rms", "blocks.0.before.weight", (19 / HIDDEN) ** 0.5),
        ("rms", "blocks.1.after.weight", (HIDDEN / 19) ** 0.5),
        ("rms", "final.weight", (19 / HIDDEN) ** 0.5),
        ("layer", "blocks.1.before.weight", (19 / HIDDEN) ** 0.5),
        ("layer", "final.weight", (19 / HIDDEN) ** 0.5),
        ("layer", "final.bias", (19 / HIDDEN) ** 0.5),
    ],
)
def test_every_factor_of_a_constant_epsilon_counts(kind: str, name: str, factor: float) -> None:
    """Each scale undone by itself shows, the tied head's too."""
    small = made(kind=kind, branch=kind == "rms", tied=True)
    large = isogrow.grow(small, hidden=19)
    with torch.no_grad():
        large.get_parameter(name).mul_(factor)
    assert error(small, large) > BROKEN
