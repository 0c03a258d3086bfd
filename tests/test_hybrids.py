"""Kimi Linear, OLMo Hybrid, GLM with an indexer, MiniMax: what the real classes do where one would guess
otherwise (transformers 5.23), and what their files hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import checkpoints
import families as F
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

import isogrow
from isogrow.errors import LawError, SizeError
from isogrow.laws import check
from isogrow.plans.expansions import Size


@cache
def small(name: str) -> F.Subject:
    return F.subject(F.FAMILIES[name], spread=0.1)


# ── GLM: a layer without an indexer reads the tokens that the last one with one chose ──

SHARES = ["full", "shared", "full"]


def test_a_layer_with_an_indexer_of_its_own_would_choose_for_the_next() -> None:
    """A new layer extends the one before it: behind the first it would choose for the second, and the
    function changes. So where any layer reads another's choice, new ones come last."""
    subject = F.subject(F.FAMILIES["glm_moe_dsa"], "", F.FAMILIES["glm_moe_dsa"].json(indexer_types=SHARES))
    assert subject.error(subject.plan({"hidden": 42, "heads": 10, "ffn": "x2", "layers": "+2"})) < F.EXACT
    with pytest.raises(SizeError, match="since some read the tokens .* give --layers-at 3$"):
        subject.plan({"layers": "+1"}, at=(1,))
    lax = replace(
        subject, anatomy=replace(subject.anatomy, layout=replace(subject.anatomy.layout, leading=""))
    )
    broken = lax.plan({"layers": "+1"}, at=(1,))
    assert lax.error(broken) > F.BROKEN
    with pytest.raises(LawError, match="must stay where it is"):
        check(subject.anatomy, broken)


def test_a_schedule_of_indexers_is_read_as_the_class_reads_it() -> None:
    source = F.FAMILIES["glm_moe_dsa"].json(num_hidden_layers=4, mlp_layer_types=None)
    del source["indexer_types"]
    source |= {"index_topk_freq": 2, "index_skip_topk_offset": 1}
    subject = F.subject(F.FAMILIES["glm_moe_dsa"], "", source)
    held = {i for slot, i in subject.anatomy.held if slot.name == "indexer.k"}
    assert held == {(("layers", 0),), (("layers", 2),)}
    plan = subject.plan({"layers": "+1"})
    assert plan.config["indexer_types"] == ["full", "shared", "full", "shared", "shared"]
    assert subject.error(plan) < F.EXACT


# ── Kimi Linear: a config within the config, whose lists count layers from one ──

NESTED = {
    "full_attn_layers": [2],
    "kda_layers": [1, 3],
    "head_dim": 7,
    "num_heads": 5,
    "short_conv_kernel_size": 4,
}


def test_kinds_and_sizes_that_a_nested_config_says() -> None:
    source = F.FAMILIES["kimi_linear"].json()
    for key in ("layer_types", "linear_head_dim", "linear_num_heads", "linear_conv_kernel_dim"):
        del source[key]
    subject = F.subject(F.FAMILIES["kimi_linear"], "", source | {"linear_attn_config": NESTED})
    assert subject.anatomy.sizes == small("kimi_linear").anatomy.sizes
    plan = subject.plan({"hidden": 42, "taps": 6, "layers": "+1"}, at="start")
    assert plan.config["layer_types"] == [
        "linear_attention",
        "linear_attention",
        "full_attention",
        "linear_attention",
    ]
    assert plan.config["linear_attn_config.short_conv_kernel_size"] == 6
    assert subject.error(plan) < F.EXACT


# ── OLMo Hybrid ──


def test_the_epsilon_of_a_state_s_norm_is_the_code_s() -> None:
    """1e-5, whatever the config says; and a config that does not say rotary positions gets some."""
    norms = small("olmo_hybrid").small.get_submodule("model.layers.0.linear_attn.o_norm")
    assert norms.variance_epsilon == 1e-5 != small("olmo_hybrid").source["rms_norm_eps"]
    config = F.FAMILIES["olmo_hybrid"].config
    assert config.from_dict({"rope_parameters": None}).rope_parameters["rope_theta"] == 10000.0
    none = {"rope_theta": None, "rope_type": "default"}
    assert config.from_dict({"rope_parameters": none}).rope_parameters == none
    subject = F.subject(F.FAMILIES["olmo_hybrid"], "", F.FAMILIES["olmo_hybrid"].json(rope_parameters=none))
    assert subject.error(subject.plan({"head_dim": 20})) < F.EXACT


# ── MiniMax ──


def test_norms_write_the_residual_that_a_branch_adds_to() -> None:
    """Each layer adds to what its norm gives, so that no new one is the identity; heads set paces."""
    refused: dict[str, Size] = {"layers": "post-norm", "heads": "lightning attention has as many heads"}
    for word, why in refused.items():
        with pytest.raises(SizeError, match=str(why)):
            small("minimax").plan({word: "x2"})


# ── CTRL ──


def test_the_epsilon_of_ctrl_s_layers_is_the_code_s() -> None:
    """Its config's is the last norm's alone."""
    model = small("ctrl").small
    assert model.get_submodule("transformer.h.0.layernorm1").eps == 1e-6
    assert (
        model.get_submodule("transformer.layernorm").eps == small("ctrl").source["layer_norm_epsilon"] == 1e-2
    )


# ── files as they were published ──

PUBLISHED = ("kimi_linear", "olmo_hybrid", "jamba", "lfm2_moe", "minimax", "glm_moe_dsa")
CUTS = {
    "olmo_hybrid": (10, 10, 42)
}  # transformers itself cuts them in thirds (findings/convolutions_are_cut_in_thirds.sh)


def published(name: str, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as they were published, of what transformers would save: each convolution of its own width."""
    found = {key: tensor.clone() for key, tensor in held.items()}
    for key in [key for key in found if "q_conv1d" in key and name in CUTS]:
        names = [key.replace("q_conv1d", f"{part}_conv1d") for part in "qkv"]
        parts = torch.cat([found[each] for each in names]).split(CUTS[name])
        found |= {each: part.clone() for each, part in zip(names, parts, strict=True)}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_files_as_they_were_published_grow(name: str, tmp_path: Path) -> None:
    """The first binding's names: experts one by one, convolutions apart. The class reads both as it does."""
    family = F.FAMILIES[name]
    subject = F.subject(family, spread=0.1)
    made = cast(Any, F.class_of(subject.kind)(F.config_of(family, subject.source))).double()
    made.load_state_dict(subject.small.state_dict())
    held = published(name, revert_weight_conversion(made, dict(made.state_dict())))
    assert held.keys() != made.state_dict().keys()
    made.save_pretrained(tmp_path / "small")
    save_file(held, tmp_path / "small" / "model.safetensors", {"format": "pt"})
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", **family.together)
    one, two = (F.rebuilt(checkpoints.loaded(tmp_path / size, subject.kind)) for size in ("small", "large"))
    given = F.batch(subject.kind)
    assert F.error(F.outputs(one, given), F.outputs(two, given)) < F.EXACT
