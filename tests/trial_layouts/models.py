"""The models that layouts are held against: tiny configs of pairwise distinct sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from isogrow.families import LAYOUTS
from isogrow.layouts.config import Config
from isogrow.layouts.layout import Layout
from isogrow.plans.anatomy import Header
from trial_layouts.esm import LAYOUT as ESM


@dataclass(frozen=True)
class Case:
    """A model class with a tiny config, and the family that lays it out."""

    layout: Layout
    model: str
    config: Mapping[str, Any]

    def build(self, device: str) -> Any:
        cls = getattr(transformers, self.model)
        with torch.device(device):
            return cls(cls.config_class(**self.config))


COMMON = {"vocab_size": 97, "num_hidden_layers": 4, "pad_token_id": 0, "eos_token_id": 1}
COMMON = {**COMMON, "bos_token_id": 2, "num_labels": 14}
GROUPED = {**COMMON, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 37}
FUSED = {**GROUPED, "hidden_size": 60}
MOE = {**GROUPED, "hidden_size": 26, "head_dim": 10, "num_local_experts": 5}
LATENT = {"kv_lora_rank": 17, "qk_rope_head_dim": 8, "qk_nope_head_dim": 7, "v_head_dim": 9}
SPARSE = {"n_routed_experts": 10, "n_shared_experts": 3, "n_group": 2, "topk_group": 1}
DEEPSEEK = {**GROUPED, **LATENT, **SPARSE, "num_key_value_heads": 6, "moe_intermediate_size": 11}
DEEPSEEK = {**DEEPSEEK, "hidden_size": 29, "first_k_dense_replace": 1}
PLAIN = {**COMMON, "mask_token_id": 3, "hidden_size": 60, "num_attention_heads": 6}
PLAIN = {**PLAIN, "intermediate_size": 37, "max_position_embeddings": 51}

SPAN = {"num_key_value_heads": 3, "num_attention_heads": 15, "num_local_experts": 7, "head_dim": 12}
ROTARY = {"position_embedding_type": "rotary"}

PHI3, GPT_OSS, MIXTRAL, DEEPSEEK_V3 = (
    LAYOUTS[family] for family in ("phi3", "gpt_oss", "mixtral", "deepseek_v3")
)
CASES = {
    "phi3": Case(PHI3, "Phi3ForCausalLM", {**FUSED, "tie_word_embeddings": True}),
    "phi3-tag": Case(PHI3, "Phi3ForTokenClassification", FUSED),
    "gpt_oss": Case(GPT_OSS, "GptOssForCausalLM", MOE),
    "gpt_oss-unbiased": Case(GPT_OSS, "GptOssForSequenceClassification", {**MOE, "attention_bias": False}),
    "mixtral": Case(MIXTRAL, "MixtralForCausalLM", MOE),
    "mixtral-base": Case(MIXTRAL, "MixtralModel", MOE),
    "mixtral-span": Case(MIXTRAL, "MixtralForQuestionAnswering", {**MOE, **SPAN}),
    "deepseek_v3": Case(DEEPSEEK_V3, "DeepseekV3ForCausalLM", {**DEEPSEEK, "q_lora_rank": 13}),
    "deepseek_v3-biased": Case(
        DEEPSEEK_V3,
        "DeepseekV3ForCausalLM",
        {**DEEPSEEK, "q_lora_rank": 13, "attention_bias": True, "first_k_dense_replace": 3},
    ),
    "deepseek_v3-direct": Case(DEEPSEEK_V3, "DeepseekV3Model", {**DEEPSEEK, "q_lora_rank": None}),
    "esm": Case(ESM, "EsmForMaskedLM", {**PLAIN, "emb_layer_norm_before": True}),
    "esm-rotary": Case(ESM, "EsmForMaskedLM", {**PLAIN, **ROTARY}),
    "esm-base": Case(ESM, "EsmModel", {**PLAIN, **ROTARY}),
    "esm-class": Case(ESM, "EsmForSequenceClassification", {**PLAIN, **ROTARY}),
    "esm-tag": Case(ESM, "EsmForTokenClassification", PLAIN),
}
FAMILIES = {case.layout.family: case.layout for case in CASES.values()}
BOUND_TWICE = [name for name in CASES if name.startswith(("mixtral", "deepseek_v3"))]
ON_DISK = [*BOUND_TWICE, "esm", "esm-rotary", "esm-base", "esm-class", "esm-tag"]


@cache
def on_meta(name: str) -> Any:
    return CASES[name].build("meta")


def stored(model: Any, binding: str) -> dict[str, Tensor]:
    """The model's tensors as they are named in memory, or in its files (tied ones once)."""
    state = dict(model.state_dict())
    if binding == "memory":
        return state
    tied = model.all_tied_weights_keys
    return revert_weight_conversion(model, {n: t for n, t in state.items() if n not in tied})


def headers(state: Mapping[str, Tensor]) -> dict[str, Header]:
    return {name: Header(tuple(tensor.shape), "F32") for name, tensor in state.items()}


def json_of(model: Any) -> dict[str, Any]:
    return json.loads(model.config.to_json_string(use_diff=False))


def bound(name: str, binding: str = "memory") -> tuple[Layout, Config, dict[str, Header]]:
    model = on_meta(name)
    return CASES[name].layout, json_of(model), headers(stored(model, binding))
