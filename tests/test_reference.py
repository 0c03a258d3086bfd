"""The reference model is the paper's section 2, and section 3's theorems hold on it.

Exact means a relative error below 1e-12 in float64. Beside each check one shows that it can fail.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NamedTuple

import paper
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from paper import Grown
from torch import Generator, Tensor

from isogrow.errors import CheckpointError, SizeError
from isogrow.paper import Config, HeadConfig, LayerConfig, Transformer, init_

EXACT = 1e-12
BROKEN = 1e-3

LAYERS = (
    LayerConfig(ffn=17, heads=(HeadConfig(4, 7), HeadConfig(6, 9))),
    LayerConfig(ffn=19, heads=(HeadConfig(8, 11), HeadConfig(10, 14), HeadConfig(12, 15))),
)
PAPER = Config(vocab=31, positions=29, hidden=13, out=23, layers=LAYERS)
OPTIONS = replace(PAPER, eps=0.01, causal=True)
both = pytest.mark.parametrize("config", [PAPER, OPTIONS], ids=["paper", "eps-causal"])

BATCH, SEQUENCE = 5, 21
FFN, KEY_DIM, VALUE_DIM, HIDDEN = 27, 18, 16, 25
NEW_HEAD = HeadConfig(20, 22)
NEW_LAYER = LayerConfig(28, (HeadConfig(24, 26), HeadConfig(30, 32)))
EVERY_LAYER = range(len(LAYERS))
EVERY_HEAD = [(n, e) for n, layer in enumerate(LAYERS) for e in range(len(layer.heads))]


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def trained(config: Config) -> Grown:
    return init_(Transformer(config).double(), rng(1)).state_dict(), config


def run(model: Grown, given: Tensor | None = None) -> Tensor:
    state, config = model
    tokens = torch.randint(config.vocab, (BATCH, SEQUENCE), generator=rng(2))
    module = Transformer(config).double()
    module.load_state_dict(dict(state))
    with torch.no_grad():
        return module(tokens if given is None else given)


def error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


def change(before: Grown, after: Grown) -> float:
    return error(run(after), run(before))


def nudged(model: Grown, name: str, *block: slice) -> Grown:
    """The model with random numbers in one block of zeros."""
    state, config = model
    weight = state[name].clone()
    assert weight[block].numel() and not weight[block].any(), name
    weight[block] = torch.randn(weight[block].shape, generator=rng(3), dtype=torch.float64)
    return {**state, name: weight}, config


def test_sizes_are_pairwise_distinct() -> None:
    layers = (*LAYERS, NEW_LAYER)
    heads = [head for layer in layers for head in layer.heads] + [NEW_HEAD]
    sizes = [PAPER.vocab, PAPER.positions, PAPER.hidden, PAPER.out, BATCH, SEQUENCE]
    sizes += [FFN, KEY_DIM, VALUE_DIM, HIDDEN, *(layer.ffn for layer in layers)]
    sizes += [size for head in heads for size in (head.key_dim, head.value_dim)]
    assert len(set(sizes)) == len(sizes)


# Section 2


@both
def test_equations_1_to_5(config: Config) -> None:
    state, _ = model = trained(config)
    embedded = torch.randn(SEQUENCE, config.hidden, generator=rng(4), dtype=torch.float64)
    slow = torch.tensor(paper.transformer(state, config, embedded.numpy()))
    assert error(run(model, embedded), slow) < EXACT
    for other in (replace(config, eps=0.1), replace(config, causal=not config.causal)):
        assert error(run((state, other), embedded), slow) > BROKEN


def test_tokens_are_rows_of_the_embedding_and_batches_are_independent() -> None:
    state, _ = model = trained(PAPER)
    tokens = torch.tensor([[3, 30, 0, 3], [8, 1, 2, 4]])
    together = run(model, tokens)
    for row, expected in zip(tokens, together, strict=True):
        assert error(run(model, state["embedding"][row]), expected) < EXACT


def test_causal_output_does_not_depend_on_later_tokens() -> None:
    tokens = torch.tensor([3, 30, 0, 3, 9])
    causal, full = trained(OPTIONS), trained(PAPER)
    assert error(run(causal, tokens[:3]), run(causal, tokens)[:3]) < EXACT
    assert error(run(full, tokens[:3]), run(full, tokens)[:3]) > BROKEN


def test_weights_have_the_paper_s_shapes() -> None:
    expected = {"embedding": (31, 13), "positions": (29, 13), "out": (13, 23)}
    for n, layer in enumerate(LAYERS):
        at = f"layers.{n}."
        expected |= {at + "norm_1": (13,), at + "norm_2": (13,)}
        expected |= {at + "mlp.w1": (13, layer.ffn), at + "mlp.b1": (layer.ffn,)}
        expected |= {at + "mlp.w2": (layer.ffn, 13), at + "mlp.b2": (13,)}
        for e, head in enumerate(layer.heads):
            at = f"layers.{n}.heads.{e}."
            expected |= {at + "query": (13, head.key_dim), at + "key": (13, head.key_dim)}
            expected |= {at + "value": (13, head.value_dim), at + "out": (head.value_dim, 13)}
    found = {name: tuple(weight.shape) for name, weight in Transformer(PAPER).state_dict().items()}
    assert found == expected


def test_init_fills_every_weight_from_its_generator_alone() -> None:
    before = torch.get_rng_state()
    double = init_(Transformer(PAPER).double(), rng(5)).state_dict()
    single = init_(Transformer(PAPER), rng(5)).state_dict()
    other = init_(Transformer(PAPER), rng(6)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    for name, weight in single.items():
        assert torch.equal(weight, double[name].float()), name
        assert not torch.equal(weight, other[name]), name
        assert len(weight.unique()) == weight.numel(), name


@both
def test_config_round_trips_through_json(config: Config) -> None:
    data = config.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert Config.from_dict(data) == config


def without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != key}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (without(PAPER.to_dict(), "vocab"), "Config misses vocab"),
        (without(PAPER.to_dict(), "layers"), "Config misses layers"),
        ({**PAPER.to_dict(), "dropout": 0.1}, "Config has unknown dropout"),
        ({**PAPER.to_dict(), "layers": [{"ffn": 3}]}, "LayerConfig misses heads"),
        ({**PAPER.to_dict(), "layers": [{"ffn": 3, "heads": [{"k": 1}]}]}, "HeadConfig misses"),
    ],
)
def test_from_dict_refuses_wrong_keys(data: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Config.from_dict(data)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(SizeError, match="hidden is 0"):
        replace(PAPER, hidden=0)
    with pytest.raises(SizeError, match="value_dim is -1"):
        HeadConfig(3, -1)
    with pytest.raises(SizeError, match="heads is 0"):
        LayerConfig(3, ())
    with pytest.raises(SizeError, match="eps is -1"):
        replace(PAPER, eps=-1.0)


def test_inputs_that_do_not_fit_are_refused() -> None:
    model = Transformer(PAPER)
    with pytest.raises(SizeError, match="30 positions long; give at most 29"):
        model(torch.zeros(1, 30, dtype=torch.int64))
    with pytest.raises(SizeError, match="14 wide; give 13"):
        model(torch.zeros(1, 3, 14))


# Section 3


@both
@pytest.mark.parametrize("layer", EVERY_LAYER)
def test_theorem_3_1_mlp_expansion(config: Config, layer: int) -> None:
    small = trained(config)
    grown = paper.mlp_expansion(*small, layer, FFN, rng())
    assert change(small, grown) < EXACT
    broken = paper.mlp_expansion(*small, layer, FFN, rng(), switch_zero=False)
    assert change(small, broken) > BROKEN


@both
@pytest.mark.parametrize("layer", EVERY_LAYER)
def test_theorem_3_2_head_addition(config: Config, layer: int) -> None:
    small = trained(config)
    grown = paper.head_addition(*small, layer, NEW_HEAD, rng())
    assert change(small, grown) < EXACT
    broken = paper.head_addition(*small, layer, NEW_HEAD, rng(), switch_zero=False)
    assert change(small, broken) > BROKEN


@both
@pytest.mark.parametrize("where", EVERY_HEAD)
def test_theorem_3_3_heads_expansion(config: Config, where: tuple[int, int]) -> None:
    small = trained(config)
    grown = paper.heads_expansion(*small, where, VALUE_DIM, rng())
    assert change(small, grown) < EXACT
    broken = paper.heads_expansion(*small, where, VALUE_DIM, rng(), switch_zero=False)
    assert change(small, broken) > BROKEN


@both
@pytest.mark.parametrize("where", EVERY_HEAD)
def test_theorem_3_4_attention_expansion(config: Config, where: tuple[int, int]) -> None:
    small = trained(config)
    grown = paper.attention_expansion(*small, where, KEY_DIM, rng())
    assert change(small, grown) < EXACT
    broken = paper.attention_expansion(*small, where, KEY_DIM, rng(), switch_zero=False)
    assert change(small, broken) > BROKEN
    unscaled = paper.attention_expansion(*small, where, KEY_DIM, rng(), scale=False)
    assert change(small, unscaled) > BROKEN


@both
def test_theorem_3_5_hidden_expansion(config: Config) -> None:
    small = trained(config)
    grown = paper.hidden_expansion(*small, None, HIDDEN, rng())
    assert change(small, grown) < EXACT
    broken = paper.hidden_expansion(*small, None, HIDDEN, rng(), switch_zero=False)
    assert change(small, broken) > BROKEN
    unscaled = paper.hidden_expansion(*small, None, HIDDEN, rng(), scale=False)
    assert change(small, unscaled) > BROKEN


def test_theorem_3_5_needs_each_of_its_zeros() -> None:
    small, new = trained(PAPER), slice(PAPER.hidden, None)
    grown = paper.hidden_expansion(*small, None, HIDDEN, rng())
    matrices = ["embedding", "positions"]
    matrices += [f"layers.{n}.heads.{e}.out" for n, e in EVERY_HEAD]
    matrices += [f"layers.{n}.mlp.w2" for n in EVERY_LAYER]
    for name in matrices:
        assert change(small, nudged(grown, name, slice(None), new)) > BROKEN, name
    for n in EVERY_LAYER:
        assert change(small, nudged(grown, f"layers.{n}.mlp.b2", new)) > BROKEN, n


def test_theorem_3_5_needs_zeros_beside_an_embedded_input() -> None:
    small = trained(PAPER)
    grown = paper.hidden_expansion(*small, None, HIDDEN, rng())
    embedded, beside = torch.randn(2, SEQUENCE, HIDDEN, generator=rng(7)).double()
    embedded, beside = embedded[:, : PAPER.hidden], beside[:, PAPER.hidden :]
    padded = torch.cat([embedded, torch.zeros_like(beside)], dim=-1)
    random = torch.cat([embedded, beside], dim=-1)
    assert error(run(grown, padded), run(small, embedded)) < EXACT
    assert error(run(grown, random), run(small, embedded)) > BROKEN


def test_hidden_expansion_with_eps_needs_eps_scaled() -> None:
    small = trained(OPTIONS)
    state, config = paper.hidden_expansion(*small, None, HIDDEN, rng())
    assert config.eps == pytest.approx(0.01 * 13 / 25)
    assert change(small, (state, replace(config, eps=OPTIONS.eps))) > BROKEN


@both
@pytest.mark.parametrize("position", range(len(LAYERS) + 1))
def test_theorem_3_6_layer_addition(config: Config, position: int) -> None:
    small = trained(config)
    grown = paper.layer_addition(*small, position, NEW_LAYER, rng())
    assert change(small, grown) < EXACT
    broken = paper.layer_addition(*small, position, NEW_LAYER, rng(), switch_zero=False)
    assert change(small, broken) > BROKEN


@pytest.mark.parametrize("position", range(len(LAYERS) + 1))
def test_theorem_3_6_needs_each_of_its_zeros(position: int) -> None:
    small = trained(PAPER)
    grown = paper.layer_addition(*small, position, NEW_LAYER, rng())
    for name in ("heads.0.out", "heads.1.out", "mlp.w2", "mlp.b2"):
        broken = nudged(grown, f"layers.{position}.{name}", slice(None))
        assert change(small, broken) > BROKEN, name


# Compositions


class Link(NamedTuple):
    """One transformation of a chain; `pick` chooses where, `more` how much."""

    kind: str
    pick: int
    more: int
    seed: int
    learned: bool


def applied(link: Link, model: Grown, **switches: bool) -> Grown:
    state, config = model
    heads = [(n, e) for n, layer in enumerate(config.layers) for e in range(len(layer.heads))]
    layer, head = link.pick % len(config.layers), heads[link.pick % len(heads)]
    old, generator = config.layers[head[0]].heads[head[1]], rng(link.seed)
    match link.kind:
        case "mlp_expansion":
            where, size = layer, config.layers[layer].ffn + link.more
        case "head_addition":
            where, size = layer, HeadConfig(link.more, link.more + 1)
        case "heads_expansion":
            where, size = head, old.value_dim + link.more
        case "attention_expansion":
            where, size = head, old.key_dim + link.more
        case "hidden_expansion":
            where, size = None, config.hidden + link.more
        case _:
            where = link.pick % (len(config.layers) + 1)
            size = LayerConfig(link.more + 2, (HeadConfig(link.more, link.more + 1),))
    return getattr(paper, link.kind)(state, config, where, size, generator, **switches)


def learned(model: Grown, seed: int) -> Grown:
    """Every weight moved, zeros too, as training would."""
    state, config = model
    generator = rng(seed)
    moves = {k: torch.randn(w.shape, generator=generator).double() for k, w in state.items()}
    return {name: weight + 0.1 * moves[name] for name, weight in state.items()}, config


KINDS = (
    "mlp_expansion",
    "head_addition",
    "heads_expansion",
    "attention_expansion",
    "hidden_expansion",
    "layer_addition",
)
links = st.builds(
    Link,
    kind=st.sampled_from(KINDS),
    pick=st.integers(0, 99),
    more=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    learned=st.booleans(),
)


@given(st.lists(links, min_size=1, max_size=8))
def test_chains_preserve_the_function(chain: list[Link]) -> None:
    start = model = trained(OPTIONS)
    for link in chain:
        if link.learned:
            start = model = learned(model, link.seed)
        model = applied(link, model)
    assert change(start, model) < EXACT


@pytest.mark.parametrize("wrong", KINDS)
def test_one_broken_link_breaks_the_chain(wrong: str) -> None:
    start = model = trained(PAPER)
    for kind in KINDS:
        link = Link(kind, pick=1, more=3, seed=8, learned=False)
        model = applied(link, model, **({"switch_zero": False} if kind == wrong else {}))
    assert change(start, model) > BROKEN
