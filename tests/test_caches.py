"""Old caches of keys and values, gone on with in the grown model in float64: valid where the plan says so."""

from __future__ import annotations

import copy
from typing import Any

import families as F
import pytest
import torch
from command import checkpoints, isogrow
from test_module import live
from transformers import DynamicCache

import isogrow as grower

CASES = {
    "ffn": ("llama", {"ffn": 51}),
    "hidden": ("llama", {"hidden": 42}),
    "heads in a group": ("mistral", {"heads": "x2"}),
    "hidden under a norm on keys": ("qwen3", {"hidden": 42}),
    "hidden under LayerNorm": ("phi", {"hidden": 33}),
    "new layers before the old": ("llama", {"layers": "+2", "layers_at": "start"}),
    "experts": ("mixtral", {"ffn": 51, "hidden": 33}),
    "all of it": ("gemma2", {"hidden": "x2", "ffn": 61, "layers": "+2"}),
}
LOST = {
    "kv_heads": ("mistral", {"kv_heads": "x2"}),
    "head_dim": ("llama", {"head_dim": "x2"}),
    "value heads": ("gpt2", {"hidden": "x2", "heads": "x2"}),
}
SEEN = 7


def pair(name: str, wanted: dict[str, Any]) -> tuple[Any, Any]:
    with F.float64():
        small = F.rebuilt(live(name, dtype=torch.float64)).eval()
        return small, grower.grow(small, **wanted).eval()


def gone_on(small: Any, large: Any, factor: float = 1.0) -> float:
    """How far the large model's next outputs are from the small one's, both on what the small one cached."""
    ids = torch.arange(3 * (SEEN + 2)).reshape(3, -1) * 7 % F.VOCAB
    with F.float64(), torch.no_grad():
        cache = small(ids[:, :SEEN], use_cache=True).past_key_values
        moved = DynamicCache(config=large.config)
        (numbers,) = grower.caches(large).layers.values()
        for layer, old in enumerate(numbers):
            alike = (each for each in cache.layers if type(each) is type(moved.layers[layer]))
            taken = moved.layers[layer] = copy.deepcopy(next(alike) if old is None else cache.layers[old])
            taken.keys *= factor
            if old is None:  # whatever stands there
                taken.keys.fill_(0.3), taken.values.fill_(-0.7)
        before = small(ids[:, SEEN:], past_key_values=copy.deepcopy(cache)).logits
        after = large(ids[:, SEEN:], past_key_values=moved).logits
    return float((after - before).abs().max() / before.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_an_old_cache_goes_on_in_the_grown_model(case: str) -> None:
    small, large = pair(*CASES[case])
    found = grower.caches(large)
    assert found.valid and str(found).startswith("yes: old layers give the same keys and values")
    assert gone_on(small, large) < F.EXACT
    assert gone_on(small, large, factor=1.01) > F.BROKEN  # it is looked at


@pytest.mark.slow
@pytest.mark.parametrize("case", LOST)
def test_where_it_does_not_the_plan_says_no(case: str) -> None:
    small, large = pair(*LOST[case])
    found = grower.caches(large)
    assert not found.valid and "grows from" in str(found)
    with pytest.raises((RuntimeError, IndexError)):  # keys of one size, queries of another
        gone_on(small, large)


def test_which_layer_has_which_cache() -> None:
    assert grower.caches(pair(*CASES["new layers before the old"])[1]).layers["layers"][:3] == (None, None, 0)
    found = grower.caches(grower.grow(live("t5"), ffn=51))
    assert found.valid and set(found.layers) == {"encoder_layers", "decoder_layers"}


def test_plan_says_it() -> None:
    model = checkpoints()["LlamaForCausalLM"]
    yes, no = (isogrow("plan", model, *size, "--json").json for size in (["--ffn", "x2"], ["--kv-heads", 4]))
    assert (yes["caches"]["valid"], no["caches"]["valid"]) == (True, False)
    assert yes["caches"]["layers"] == {"layers": [0, 1, 2]}
    out = isogrow("plan", model, "--kv-heads", 4).out
    assert "no: kv_heads grows from 2 to 4, and what was cached has 2" in " ".join(out.split())
