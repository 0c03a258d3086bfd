"""Cross-attention: keys and values read an encoder's output, whose width is an axis of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import families as F
import pytest
import torch
from breaking import changed, switched_on, unscaled
from torch import Tensor, nn

import isogrow
from isogrow import Attention, Bias, Key, Layout, Norm, Weight
from isogrow import families as registry
from isogrow.errors import LawError
from isogrow.growth import models
from isogrow.laws import check
from isogrow.plans.expansions import Size
from isogrow.plans.plan import Constant, Plan
from isogrow.plans.sizes import Sizes

pytestmark = pytest.mark.slow  # models of many kinds are built, grown and run


KINDS = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Model"),
    "bert": ("BertLMHeadModel", "BertModel"),
}
CLASSES = [(name, kind) for name, kinds in KINDS.items() for kind in kinds]
GROWTHS: Mapping[str, tuple[Mapping[str, Size], ...]] = {
    "gpt2": ({"hidden": 42, "heads": 7}, {"hidden": 40, "head_dim": 8}, {"ffn": 51}, {"layers": 5}),
    "bert": ({"hidden": 60, "heads": 10}, {"hidden": 90, "head_dim": 18}, {"ffn": 51}),
}
AXES = [(name, wanted) for name, growths in GROWTHS.items() for wanted in growths]


@cache
def small(name: str, kind: str = "") -> F.Subject:
    """A decoder with cross-attention; GPT-2's attention scale depends on the layer's number besides."""
    own = {"is_decoder": True} if name == "bert" else {"scale_attn_by_inverse_layer_idx": True}
    family = F.FAMILIES[name]
    return F.subject(family, kind or KINDS[name][0], family.json(add_cross_attention=True, **own), spread=0.1)


def error(subject: F.Subject, plan: Plan) -> float:
    """How far apart the outputs are where the encoder's output has new channels, of any values."""
    memory = torch.randn(F.ROWS, 7, plan.target.of("memory"), generator=torch.Generator().manual_seed(1))
    given = {**F.batch(subject.kind), "encoder_hidden_states": memory.double()}
    old = {**given, "encoder_hidden_states": memory[..., : subject.anatomy.sizes.of("memory")].double()}
    return F.error(F.outputs(subject.small, old), F.outputs(subject.large(plan), given))


@pytest.mark.parametrize(("name", "wanted"), AXES)
def test_one_axis(name: str, wanted: Mapping[str, Size]) -> None:
    plan = small(name).plan(wanted)
    assert error(small(name), plan) < F.EXACT
    assert plan.target.of("memory") == plan.target.of("hidden")


@pytest.mark.parametrize(("name", "kind"), CLASSES)
def test_everything_at_once(name: str, kind: str) -> None:
    plan = small(name, kind).plan(F.FAMILIES[name].together)
    assert error(small(name, kind), plan) < F.EXACT


@pytest.mark.parametrize("at", ["start", "even", "end"])
def test_layers_anywhere(at: str) -> None:
    plan = small("gpt2").plan({"layers": "+2"}, at=at)
    assert error(small("gpt2"), plan) < F.EXACT
    if at == "start":
        wrong = changed(plan, ("cross.k", "cross.k.bias"), unscaled)
        assert error(small("gpt2"), wrong) > F.BROKEN
        with pytest.raises(LawError, match="changes the attention scale of cross.k"):
            check(small("gpt2").anatomy, wrong)


@pytest.mark.parametrize("slot", ["cross.k", "cross.v"])
@pytest.mark.parametrize(("name", "wanted"), [(name, growths[0]) for name, growths in GROWTHS.items()])
def test_what_reads_new_channels_of_the_encoder_is_the_switch(
    name: str, wanted: Mapping[str, Size], slot: str
) -> None:
    plan = small(name).plan(wanted)
    memory = next(step for step in plan.steps if step.axis == "memory")
    assert memory.entry(slot, "new") == Constant(0.0)
    wrong = changed(plan, (slot,), switched_on)
    assert error(small(name), wrong) > F.BROKEN
    with pytest.raises(LawError, match=f"new entries of {slot} "):
        check(small(name).anatomy, wrong)


@pytest.mark.parametrize("name", KINDS)
def test_on_disk_and_verified(name: str, tmp_path: Path) -> None:
    """`verify` gives both an encoder's output, as wide as each reads, and sees the new columns live."""
    source: Any = F.subject(F.FAMILIES[name], small(name).kind, small(name).source, spread=0.1).small.float()
    source.save_pretrained(tmp_path / "small")
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", **F.FAMILIES[name].together)
    report = isogrow.verify(tmp_path / "small", tmp_path / "large")
    assert report.passed, report.failed
    assert next(check.passed for check in report.checks if check.name == "kv cache")


def test_more_than_twice_as_wide() -> None:
    """New columns are zero for each copy of a channel: what they read tells them apart."""
    plan = small("bert").plan({"hidden": 90, "heads": 15})
    memory = next(step for step in plan.steps if step.axis == "memory")
    assert [place.label for place in memory.places] == ["old", "new", "more"]
    assert error(small("bert"), plan) < F.EXACT


# An encoder of another width


class Decoder(nn.Module):
    """One head of cross-attention in each layer, on an encoder's output of any width."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = config
        hidden = config["hidden"]
        self.embed = nn.Embedding(config["vocab"], hidden)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["layers"]))
        self.norm, self.head = nn.LayerNorm(hidden, eps=config["eps"]), nn.Linear(hidden, config["vocab"])

    def forward(self, ids: Tensor, memory: Tensor) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, memory)
        return self.head(self.norm(x))


class Block(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, key, value = config["hidden"], config["key_dim"], config["value_dim"]
        self.norm = nn.LayerNorm(hidden, eps=config["eps"])
        self.q = nn.Linear(hidden, key)
        self.k, self.v = nn.Linear(config["memory"], key), nn.Linear(config["memory"], value)
        self.o = nn.Linear(value, hidden)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        q, k, v = self.q(self.norm(x)), self.k(memory), self.v(memory)
        return x + self.o((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v)


PRE, B = Norm("layer", "pre", eps="eps"), "blocks.{layers}."
AXES_OF_IT = ("vocab", "hidden", "memory", "key_dim", "value_dim", "layers")
DECODER = Layout(
    family="decoder",
    weights=(
        Weight("embed.weight", "vocab -> hidden", "embed"),
        Weight(B + "norm.weight", "* hidden", "norm", PRE, Bias()),
        Weight(B + "q.weight", "key_dim <- hidden", "attn.q", bias=Bias()),
        Weight(B + "k.weight", "key_dim <- memory", "attn.k", bias=Bias()),
        Weight(B + "v.weight", "value_dim <- memory", "attn.v", bias=Bias()),
        Weight(B + "o.weight", "hidden <- value_dim", "attn.o", bias=Bias()),
        Weight("norm.weight", "* hidden", "final_norm", PRE, Bias()),
        Weight("head.weight", "vocab <- hidden", "head", head=True, bias=Bias()),
    ),
    axes={axis: axis for axis in AXES_OF_IT},
    keys=(*(Key(axis, axis) for axis in AXES_OF_IT), Key("eps", default=1e-2)),
    attentions=(Attention(),),
    fixed=frozenset({"vocab", "memory"}),
)


def build(config: Mapping[str, Any], _: Sizes) -> Decoder:
    return Decoder(**config)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    """Random float64 weights; nobody knows the layout afterwards."""
    known, classes = dict(registry.LAYOUTS), dict(models._REGISTERED)
    isogrow.register(DECODER, Decoder, build)
    torch.manual_seed(0)
    made = Decoder(vocab=31, hidden=12, memory=7, key_dim=5, value_dim=9, layers=2, eps=1e-2).double()
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(0.4 * torch.randn(value.shape, dtype=torch.float64) + (value.dim() == 1))
    yield made
    for now, before in ((registry.LAYOUTS, known), (models._REGISTERED, classes)):
        now.clear()
        now.update(before)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wanted",
    [
        {"hidden": 19},
        {"key_dim": 8},
        {"value_dim": 11},
        {"layers": 4},
        {"hidden": 26, "key_dim": 7, "layers": 3},
    ],
)
def test_an_encoder_of_another_width(decoder: Decoder, wanted: dict[str, Size]) -> None:
    """It does not grow with the decoder, which reads all of it as before."""
    ids = torch.arange(60).reshape(4, 15) % 31
    memory = torch.randn(4, 6, 7, dtype=torch.float64)
    large = isogrow.grow(decoder, **wanted)
    with torch.no_grad():
        old, new = decoder(ids, memory), large(ids, memory)
    assert F.error({"logits": old}, {"logits": new}) < F.EXACT
    assert large.config["memory"] == 7
