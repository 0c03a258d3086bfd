"""`isogrow.verification.differences`: the numbers are what they say, and the right layer is named."""

from __future__ import annotations

import math
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from isogrow.errors import IsogrowError
from isogrow.verification.differences import (
    Difference,
    NoiseFloor,
    combined,
    difference,
    differences,
    first_difference,
    noise_floor,
)
from isogrow.verification.float64 import float64, rebuilt
from isogrow.verification.runs import batches, decoded, full, padded

BATCH = next(batches(tiny.VOCAB, 17, rows=3))
INF, NAN = math.inf, math.nan


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_difference_of_known_numbers() -> None:
    found = difference(torch.tensor([[1.0, -4.0], [2.0, 0.0]]), torch.tensor([[1.0, -3.0], [2.5, 0.0]]))
    assert (found.absolute, found.scale, found.relative, found.rows) == (1.0, 4.0, 0.25, 2)


def test_divergence_is_of_b_from_a() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, 0.6, 0.3])
    expected = sum(x * math.log(x / y) for x, y in zip(p.tolist(), q.tolist(), strict=True))
    same = torch.stack([p, p]).log()
    other = torch.stack([q, p]).log() + 7.0  # a constant shifts no softmax
    found = difference(same.double(), other.double())
    assert found.kl_max == pytest.approx(expected, rel=1e-6)
    assert found.kl_mean == pytest.approx(expected / 2, rel=1e-6)


def test_equal_infinities_do_not_differ() -> None:
    a = torch.tensor([[-INF, 1.0, 3.0]])
    found = difference(a, a.clone())
    assert (found.absolute, found.scale, found.kl_max, found.relative) == (0.0, 3.0, 0.0, 0.0)


@pytest.mark.parametrize("bad", ([NAN, 1.0], [INF, 1.0], [-INF, 1.0]))
def test_what_is_no_number_differs_infinitely(bad: list[float]) -> None:
    good = torch.tensor([2.0, 1.0])
    for a, b in ((good, torch.tensor(bad)), (torch.tensor(bad), good)):
        assert difference(a, b).absolute == INF
        assert difference(a, b).relative == INF
    assert difference(torch.tensor([NAN, 1.0]), torch.tensor([NAN, 1.0])).relative == INF


def test_relative_to_nothing() -> None:
    assert difference(torch.zeros(3), torch.zeros(3)).relative == 0.0
    assert difference(torch.zeros(3), torch.ones(3)).relative == INF
    empty = difference(torch.zeros(0, 3), torch.zeros(0, 3))
    assert (empty.relative, empty.kl_mean, empty.rows) == (0.0, 0.0, 0)


def test_other_shapes_and_names_are_refused() -> None:
    with pytest.raises(IsogrowError, match=r"shape \(2, 3\) and \(2, 4\) can't be compared"):
        difference(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(IsogrowError, match=r"returns \['logits'\] and the other \['output'\]"):
        differences({"logits": torch.zeros(2)}, {"output": torch.zeros(2)})


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_combined_is_the_difference_of_all_rows(sizes: list[int]) -> None:
    a, b = normal(sum(sizes), 7), normal(sum(sizes), 7, seed=1)
    parts = [difference(x, y) for x, y in zip(a.split(sizes), b.split(sizes), strict=True)]
    whole, joined = difference(a, b), combined(parts)
    assert (whole.absolute, whole.scale, whole.rows) == (joined.absolute, joined.scale, joined.rows)
    assert whole.kl_max == pytest.approx(joined.kl_max, rel=1e-13)
    assert whole.kl_mean == pytest.approx(joined.kl_mean, rel=1e-13)
    assert combined([]) == Difference(0.0, 0.0, 0.0, 0.0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_noise_floor_is_small_and_leaves_the_model(name: str) -> None:
    model = tiny.model(name)
    before = model.config._attn_implementation
    floor = noise_floor(model, BATCH)
    other = "eager" if before == "sdpa" else "sdpa"
    assert set(floor.by) == {"row by row", f"{other} attention"}
    assert model.config._attn_implementation == before
    assert 0 < floor.worst.relative < 1e-5
    exact = rebuilt(model)
    with float64():
        assert 0 < noise_floor(exact, BATCH).worst.relative < 1e-13


def test_noise_floor_switches_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = tiny.model("GPT2LMHeadModel")
    ran: list[str] = []
    model.transformer.h[1].attn.register_forward_hook(
        lambda module, *_: ran.append(module.config._attn_implementation)
    )
    noise_floor(model, BATCH)
    assert set(ran) == {"eager", "sdpa"}
    assert ran.count("eager" if model.config._attn_implementation == "sdpa" else "sdpa") == 1


def test_noise_floor_of_a_module_of_ones_own() -> None:
    floor = noise_floor(nn.Linear(2, 3), {"input": torch.ones(4, 2)})
    assert list(floor.by) == ["row by row"]
    assert isinstance(floor, NoiseFloor)


MAPS: dict[str, list[str]] = {
    "LlamaForCausalLM": [
        "model.embed_tokens",
        *(f"model.layers.{at}" for at in range(tiny.LAYERS)),
        "model.norm",
        "lm_head",
    ],
    "GPT2LMHeadModel": [
        "transformer.wte",
        *(f"transformer.h.{at}" for at in range(tiny.LAYERS)),
        "transformer.ln_f",
    ],
    "BertModel": [
        "embeddings",
        *(f"encoder.layer.{at}" for at in range(tiny.LAYERS)),
        "pooler",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layer"), [(name, each) for name in MAPS for each in MAPS[name]])
def test_first_difference_names_the_nudged_layer(name: str, layer: str) -> None:
    small, large = rebuilt(tiny.model(name)), rebuilt(tiny.model(name))
    names = {each: each for each in MAPS[name]}
    with float64():
        assert first_difference(small, large, BATCH, names, None, 1e-12) is None
        nudge_(large, layer)
        assert first_difference(small, large, BATCH, names, None, 1e-12) == layer
        assert first_difference(small, large, BATCH, names, None, 10.0) is None


def nudge_(model: nn.Module, layer: str) -> None:
    weight = list(model.get_submodule(layer).parameters())[-1]
    token = BATCH["input_ids"][0, 0]
    with torch.no_grad():
        if layer.endswith(("embed_tokens", "wte")):
            weight[token, 1] += 1e-6
        else:
            weight.view(-1)[1] += 1e-6


@pytest.fixture
def grown() -> tuple[nn.Module, nn.Module, Tensor, dict[str, str]]:
    model = tiny.model("LlamaForCausalLM", attn_implementation="eager")
    large, channels, names = tiny.grown_llama(model)
    return rebuilt(model), rebuilt(large), channels, names


def test_a_grown_model_differs_nowhere(grown: Any) -> None:
    small, large, channels, names = grown
    with float64():
        assert difference(full(small, BATCH)["logits"], full(large, BATCH)["logits"]).relative < 1e-13
        a, b = decoded(small, BATCH), decoded(large, BATCH)
        assert difference(a["logits"], b["logits"]).relative < 1e-13
        for side in ("left", "right"):
            a, b = padded(small, BATCH, side), padded(large, BATCH, side)
            assert difference(a["logits"], b["logits"]).relative < 1e-13
        assert first_difference(small, large, BATCH, names, channels, 1e-12) is None


def test_the_hidden_states_of_a_grown_model_agree_on_the_old_channels(grown: Any) -> None:
    small, large, channels, _ = grown
    with float64():
        a, b = full(small.model, BATCH), full(large.model, BATCH, channels)
        assert all(each.relative < 1e-13 for each in differences(a, b).values())
        shifted = full(large.model, BATCH, channels.roll(1))
        assert not any(each.relative < 1e-2 for each in differences(a, shifted).values())
        with pytest.raises(IsogrowError, match="and the old channels where hidden has grown"):
            differences(a, full(large.model, BATCH))


def test_first_difference_names_both_layers_of_a_grown_model(grown: Any) -> None:
    small, large, channels, names = grown
    with torch.no_grad():
        large.model.layers[2].mlp.down_proj.weight[channels[3], 4] += 1e-6
    with float64():
        found = first_difference(small, large, BATCH, names, channels, 1e-12)
    assert found == "model.layers.1 -> model.layers.2"


def test_first_difference_sees_the_added_layer(grown: Any) -> None:
    small, large, channels, names = grown
    with torch.no_grad():
        large.model.layers[tiny.LAST].mlp.down_proj.weight[channels[3], 4] += 1e-6
    with float64():
        found = first_difference(small, large, BATCH, names, channels, 1e-12)
    assert found == "model.layers.1 -> model.layers.2"


def test_first_difference_leaves_no_hook_and_wants_modules_that_run(grown: Any) -> None:
    small, large, channels, names = grown
    with pytest.raises(AssertionError, match="no such modules"):
        first_difference(small, large, BATCH, {"model.layers.9": "model.norm"}, channels, 1e-12)
    with pytest.raises(AssertionError, match="never ran"):
        first_difference(small, large, BATCH, {"model.layers": "model.norm"}, channels, 1e-12)
    with float64():
        first_difference(small, large, BATCH, names, channels, 1e-12)
    for model in (small, large):
        assert not any(module._forward_hooks for module in model.modules())


class Inplace(nn.Module):
    """Runs one layer twice and changes its first output in place."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.layer, self.cut = nn.Linear(2, 2), nn.ReLU(inplace=True)
        with torch.no_grad():
            for each in self.parameters():
                each.fill_(weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.cut(self.layer(self.cut(self.layer(x))))


def test_first_difference_compares_first_outputs_as_they_were() -> None:
    # Both give zeros after the cut, and at the second call from zeros the biases alone.
    small, large = Inplace(-1.0), Inplace(-1.0)
    with torch.no_grad():
        large.layer.weight.fill_(-2.0)
    batch = {"x": torch.ones(1, 2)}
    assert torch.equal(full(small, batch)["output"], full(large, batch)["output"])
    assert first_difference(small, large, batch, {"layer": "layer"}, None, 1e-12) == "layer"
