"""Language models within wrappers: tokens with three positions, Chameleon, Mllama."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import transformers
from family import (
    BOOLS,
    NORMED,
    PAD,
    POSITIONS,
    VOCAB,
    Family,
    Json,
    Steps,
    filled_growths,
    gated,
    more_options,
    rope_options,
)
from family import ROWS as TEXTS
from hypothesis import strategies as st
from torch import Tensor

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import AttentionExpansion, HeadsExpansion
from rows.rescaled_llama import whole_heads
from rows.sparse import ALL, EACH, MIXED, QWEN

KIN = True


def placed(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Texts whose tokens stand somewhere in time, height and width, as an image's do."""
    ids = torch.randperm(TEXTS * POSITIONS, generator=generator).reshape(TEXTS, POSITIONS) % PAD
    where = torch.randint(0, 9, (3, *ids.shape), generator=generator)
    return {"input_ids": ids, "position_ids": where, "attention_mask": torch.ones_like(ids)}


def sections(draw: st.DrawFn, pairs: int, *kinds: str) -> Json:
    """A table, and how many pairs turn by each position."""
    first, second = draw(st.integers(1, pairs - 2)), draw(st.integers(0, 1))
    rope = rope_options(draw, pairs, kinds or ("default", "linear", "llama3", "yarn"))
    return {**rope, "mrope_section": [first, second, pairs - first - second]}


def filling(draw: st.DrawFn) -> Json:
    """Heads that fill the width."""
    found, dim = more_options()(draw), draw(st.sampled_from([8, 12]))
    rope = {"hidden_size": found["num_attention_heads"] * dim, "rope_parameters": sections(draw, dim // 2)}
    return {**{key: said for key, said in found.items() if key != "head_dim"}, **rope}


def partly(draw: st.DrawFn) -> Json:
    """The same, of which a part rotates."""
    found = filling(draw)
    rope = {**sections(draw, 4, "default", "linear"), "partial_rotary_factor": 0.5}
    return {**found, "hidden_size": found["num_attention_heads"] * 16, "rope_parameters": rope}


def free(*kinds: str, **choices: st.SearchStrategy[Any]) -> Callable[[st.DrawFn], Json]:
    """Heads of a dim of their own."""

    def options(draw: st.DrawFn) -> Json:
        found = more_options(**choices)(draw)
        return {**found, "rope_parameters": sections(draw, found["head_dim"] // 2, *kinds)}

    return options


def half(**choices: st.SearchStrategy[Any]) -> Callable[[st.DrawFn], Json]:
    """The same, of which a part rotates."""

    def options(draw: st.DrawFn) -> Json:
        found = {**more_options(**choices)(draw), "head_dim": 16}
        return {**found, "rope_parameters": {**sections(draw, 4, "default"), "partial_rotary_factor": 0.5}}

    return options


def fourfold(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """The growths without those of a head's dims, or with a head four times as wide."""
    found = whole_heads(draw, anatomy)
    return [*found, *draw(st.sampled_from([[], [AttentionExpansion("x4"), HeadsExpansion("x4")]]))]


RUNS: Json = {"rope_type": "default", "rope_theta": 300.0, "mrope_section": [1, 1, 2]}
PART: Json = {**RUNS, "partial_rotary_factor": 0.5}
THIRDS: Json = {**RUNS, "mrope_section": [2, 1, 2]}
FILLED = {
    "hidden": {},
    "heads": {"hidden": 80, "heads": 10},
    "kv_heads": {},
    "heads and kv_heads": {"hidden": 120, "heads": 15, "kv_heads": 3},
    "head_dim": {"hidden": 60, "head_dim": 10},
    "head_dim, a multiple": {"hidden": 96, "head_dim": 16},
}
NARROW = {"ffn": {"ffn": 51}, "layers": {"layers": 5}}
WHOLE = dict(hidden=15 * 16, ffn="x3", heads=15, kv_heads=3, head_dim=16, layers="+2")
# Under a norm on queries and keys a head grows by copies, which turn as it does at four times its dim.
FOURFOLD = {**NORMED, "head_dim, a multiple": {"head_dim": 40}}
WIDER = {"head_dim": {"head_dim": 18}}
DIM = {**ALL, "head_dim": 20}


def one(row: Family, *classes: str) -> Family:
    """The row of one class whose tokens have three positions."""
    return replace(row, classes=classes, inputs=placed)


def filled(name: str, config: type[transformers.PreTrainedConfig], *classes: str, **more: Any) -> Family:
    """A row of a class whose heads fill the width."""
    made = gated(name, config, more.pop("options", filling), FILLED, WHOLE, hidden_size=48, **more)
    sizes = {key: said for key, said in made.sizes.items() if key != "head_dim"}
    return replace(one(made, *classes), sizes=sizes, draws=filled_growths)


def thirds(name: str, config: type[transformers.PreTrainedConfig], *classes: str, **more: Any) -> Family:
    """A row of a class whose positions are interleaved."""
    options = free("default", "linear", **more.pop("choices", {}))
    growths = {**FOURFOLD, **more.pop("growths", {})}
    together = {**more.pop("together", WHOLE), "hidden": 75, "head_dim": 40}
    made = gated(name, config, options, growths, together, rope_parameters=THIRDS, **more)
    return replace(one(made, *classes), draws=fourfold)


def looking(draw: st.DrawFn) -> Json:
    """Some layers look at images, and are left out for a text alone."""
    found = filling(draw)
    layers = st.lists(st.integers(0, 2), unique=True, max_size=found["num_hidden_layers"] - 1)
    rope = {key: said for key, said in found["rope_parameters"].items() if key != "mrope_section"}
    crossed = [at for at in sorted(draw(layers)) if at < found["num_hidden_layers"]]
    return {**found, "rope_parameters": rope, "cross_attention_layers": crossed}


def whole(draw: st.DrawFn) -> Json:
    """One position alone."""
    found = filling(draw)
    rope = {key: said for key, said in found["rope_parameters"].items() if key != "mrope_section"}
    return {**found, "rope_parameters": rope, "attention_bias": draw(BOOLS), "mlp_bias": draw(BOOLS)}


CHAMELEON = filled(
    "chameleon",
    transformers.ChameleonConfig,
    "ChameleonModel",
    options=whole,
    said={"vocabulary_map": {"<image>": 3}},
    vocabulary_map={"<image>": 3},
    vq_config={
        "embed_dim": 4,
        "num_embeddings": 9,
        "latent_channels": 32,
        "resolution": 8,
        "base_channels": 32,
        "channel_multiplier": [1],
        "num_res_blocks": 1,
    },
    rope_parameters={"rope_type": "default", "rope_theta": 300.0},
    attention_bias=True,
    mlp_bias=True,
    absent=("head_dim",),
)
# What the config classes don't have, or leave empty.
ABSENT = {
    "chameleon": (),
    "glm4v_text": ("tie_word_embeddings",),
    "glm_image_text": ("head_dim", "tie_word_embeddings"),
    "glm_ocr_text": ("head_dim", "tie_word_embeddings"),
    "mllama_text_model": (),
    "qwen2_5_omni_text": ("head_dim", "sliding_window"),
    "qwen2_5_vl_text": ("sliding_window", "tie_word_embeddings"),
    "qwen2_vl_text": ("sliding_window", "tie_word_embeddings"),
    "qwen3_omni_moe_text": ("head_dim", "num_local_experts", "tie_word_embeddings"),
    "qwen3_vl_moe_text": ("norm_topk_prob",),
    "qwen3_vl_text": ("tie_word_embeddings",),
}

ALL = (
    replace(
        CHAMELEON,
        growths={axis: said for axis, said in CHAMELEON.growths.items() if "head_dim" not in axis},
        together=dict(hidden=120, ffn="x3", heads=15, kv_heads=3, layers="+2"),
        draws=lambda draw, anatomy: [],
        inputs=None,
    ),
    replace(
        filled(
            "mllama_text_model",
            transformers.MllamaConfig.sub_configs["text_config"],
            "MllamaForCausalLM",
            options=looking,
            # Layers that look at an image are left out of a pass without one: test_wrappers.py has one.
            cross_attention_layers=[],
            rope_parameters={"rope_type": "default", "rope_theta": 300.0},
            bos_token_id=1,
            absent=("head_dim",),
        ),
        growths={**{axis: said for axis, said in FILLED.items() if said and axis != "head_dim"}, **NARROW},
        draws=lambda draw, anatomy: [],
        inputs=None,
        unread={"embed_tokens.weight": range(VOCAB, VOCAB + 8)},  # an image's tokens are no text's
    ),
    filled("qwen2_vl_text", transformers.Qwen2VLTextConfig, "Qwen2VLTextModel", rope_parameters=RUNS),
    filled("qwen2_5_vl_text", transformers.Qwen2_5_VLTextConfig, "Qwen2_5_VLTextModel", rope_parameters=RUNS),
    one(
        gated(
            "qwen2_5_omni_text",
            transformers.Qwen2_5OmniTextConfig,
            free(),
            absent=("head_dim",),
            rope_parameters=THIRDS,
        ),
        "Qwen2_5OmniThinkerTextModel",
    ),
    thirds("qwen3_vl_text", transformers.Qwen3VLTextConfig, "Qwen3VLTextModel"),
    thirds(
        "qwen3_vl_moe_text",
        transformers.Qwen3VLMoeTextConfig,
        "Qwen3VLMoeTextModel",
        choices={key: said for key, said in MIXED.items() if key != "norm_topk_prob"},
        growths=EACH,
        together=ALL,
        absent=("head_dim",),
        **QWEN,
    ),
    thirds(
        "qwen3_omni_moe_text",
        transformers.Qwen3OmniMoeTextConfig,
        "Qwen3OmniMoeThinkerTextModel",
        choices=MIXED,
        growths=EACH,
        together=ALL,
        absent=("head_dim",),
        **QWEN,
    ),
    filled(
        "glm4v_text",
        transformers.Glm4vTextConfig,
        "Glm4vTextModel",
        options=partly,
        rope_parameters={**PART, "mrope_section": [1, 0, 1]},
    ),
    one(
        gated(
            "glm_ocr_text",
            transformers.GlmOcrTextConfig,
            half(),
            WIDER,
            absent=("head_dim",),
            head_dim=16,
            rope_parameters=PART,
        ),
        "GlmOcrTextModel",
    ),
    one(
        gated(
            "glm_image_text",
            transformers.GlmImageTextConfig,
            half(attention_bias=BOOLS),
            WIDER,
            absent=("head_dim",),
            attention_bias=True,
            head_dim=16,
            rope_parameters=PART,
            vision_vocab_size=11,
        ),
        "GlmImageTextModel",
    ),
    one(
        gated(
            "glm4v_moe_text",
            transformers.Glm4vMoeTextConfig,
            half(attention_bias=BOOLS, num_experts_per_tok=st.sampled_from([1, 2])),
            {**EACH, **WIDER},
            DIM,
            absent=("head_dim",),
            attention_bias=True,
            head_dim=16,
            rope_parameters=PART,
            n_routed_experts=4,
            num_experts_per_tok=4,
            moe_intermediate_size=11,
        ),
        "Glm4vMoeTextModel",
    ),
    one(
        gated(
            "paddleocr_vl_text",
            transformers.PaddleOCRTextConfig,
            free(use_bias=BOOLS),
            use_bias=True,
            rope_parameters=THIRDS,
        ),
        "PaddleOCRTextModel",
    ),
    one(
        replace(
            gated(
                "hunyuan_vl_text",
                transformers.HunYuanVLTextConfig,
                free("default", attention_bias=BOOLS),
                {"head_dim": {}, "head_dim, a multiple": {}},
                {key: said for key, said in WHOLE.items() if key != "head_dim"},
                attention_bias=True,
                absent=("head_dim",),
                rope_parameters=THIRDS,
            ),
            draws=whole_heads,
            said={"head_dim": 128},  # the class can't be built without
        ),
        "HunYuanVLTextModel",
    ),
    replace(
        gated(
            "granite4_vision_text",
            transformers.Granite4VisionTextConfig,
            more_options(attention_bias=BOOLS, attention_multiplier=st.sampled_from([0.2, 1.0])),
            attention_multiplier=0.4,
            absent=("head_dim",),
        ),
        classes=("Granite4VisionTextModel",),
    ),
)
ROWS = tuple(
    replace(each, absent=frozenset(ABSENT[each.name])) if each.name in ABSENT else each for each in ALL
)
