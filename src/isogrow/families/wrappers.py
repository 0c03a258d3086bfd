"""Wrappers: a language model of any known family, and a tower for images or sound whose features a projector
puts among the embeddings. One row for each model type; wrapping.py says what a row means."""

from __future__ import annotations

from isogrow.families.wrapped_towers import Tower
from isogrow.families.wrappers_like_llava import LLAVA, NEWLINE
from isogrow.families.wrappers_of_grids import GRIDS, MERGING
from isogrow.families.wrappers_of_sound import HEARING, OMNI
from isogrow.families.wrapping import (
    INNER,
    MAYBE,
    NORMED,
    WRITTEN,
    P,
    Wrapper,
    last,
    two,
)
from isogrow.layouts.layout import Bias, Key, Rename, Weight

C = "connector.modality_projection."
EYE = (Tower("vision_model", "siglip_vision_model", named=True),)


BOTH = (
    "images are made of it, too, by a head and an aligner whose widths are keys of their own: grow ffn, heads"
    " or layers instead"
)

PAIRED = (
    "which of its states are read stands in pairs with the layers before which they are added: grow ffn"
    " instead"
)

NEIGHBOURS = (
    "what merges neighbouring patches is as wide as several of them, or as the language model, by its number:"
    " grow ffn, heads or layers instead"
)


OTHERS = (
    *(
        Wrapper(
            kind,
            "qwen3_5_text",
            ("vision_tower", "merger"),
            tie=kind == "minicpm_ocr",
            refusals={"hidden": NEIGHBOURS},
        )
        for kind in ("minicpmv4_6", "minicpmv4_7", "minicpm_ocr")
    ),
    Wrapper(
        "granite4_vision",
        "granite4_vision_text",
        ("vision_tower", "image_newline", "layerwise_projectors", "spatial_projectors"),
        (
            NEWLINE,
            Weight("layerwise_projectors.{depths}.out_linear.weight", WRITTEN, "projector.deep", bias=Bias()),
            Weight("spatial_projectors.{groups}.out_linear.weight", WRITTEN, "projector.wide", bias=Bias()),
        ),
        leading="layers",  # which ones the features are added before stands in a list of pairs
        towers=(Tower("vision_tower", "clip_vision_model", named=True, refusals={"layers": PAIRED}),),
    ),
    *(
        Wrapper(
            kind,
            "llama",
            ("vision_model", "connector"),
            last(C + "proj.weight", reads="(corners vision_hidden)"),
            at="text_model",
            keys=(Key("scale_factor", default=2),),
            towers=(Tower("vision_model", f"{kind}_vision"),),
            read={"corners": "scale_factor ** 2"},
        )
        for kind in ("idefics3", "smolvlm")
    ),
    Wrapper(
        "idefics2",
        "mistral",
        ("vision_model", "connector"),
        # As wide inside as the language model's MLP.
        (
            Weight(C + "gate_proj.weight", "bridge <- features", "projector.gate"),
            Weight(C + "up_proj.weight", "bridge <- features", "projector.up"),
            Weight(C + "down_proj.weight", "latent <- bridge", "projector.down"),
        ),
        {"bridge": "ffn"},
        at="text_model",
        refusals={"hidden": NORMED},
    ),
    Wrapper(
        "deepseek_vl",
        "llama",
        ("vision_model", "aligner"),
        two("aligner.linear1.weight", "aligner.linear2.weight", reads="vision_hidden"),
        INNER,
        tie=True,
        towers=EYE,
    ),
    Wrapper(
        "hyperclovax_vision_v2",
        "hyperclovax",
        ("vision_model", "projector"),
        last("projector.weight", Bias(), "vision_out"),
        towers=(Tower("vision_model", "qwen2_5_vl_vision", named=True, lifted=MERGING),),
        renames=(
            Rename("model.language_model.lm_head.", "lm_head."),
            Rename("model.language_model.model.", "model.language_model."),
            Rename("model.vision_projector.", "model.projector."),
        ),
        tie=True,
    ),
    Wrapper(
        "video_llama_3",
        "qwen2",
        ("vision_model", "projector"),
        two("projector.readout.0.weight", "projector.readout.2.weight"),
        INNER,
        either=True,
        towers=(Tower("vision_model", "video_llama_3_vision"),),
    ),
    Wrapper(
        "lighton_ocr",
        "qwen3",
        ("vision_encoder", "vision_projection"),
        two("vision_projection.linear_1.weight", "vision_projection.linear_2.weight"),
        INNER,
        tie=True,
        kept=("text_config.rms_norm_eps",),
        towers=(Tower("vision_encoder", "pixtral", named=True),),
    ),
    Wrapper(
        "ovis2",
        "qwen2",
        ("vision_tower", "visual_embeddings_table"),
        (Weight("visual_embeddings_table.weight", "features -> hidden", "projector"),),
        tie=True,
        keys=(Key("hidden_size", "hidden", 1536),),
    ),
    *(
        Wrapper(
            kind,
            "opt",
            ("vision_model", "qformer", "query_tokens", "language_projection"),
            last("language_projection.weight", Bias()),
            tie=None,
            towers=(Tower("vision_model", f"{kind.replace('-', '_')}_vision_model"),),
        )
        for kind in ("blip-2", "instructblip")
    ),
    Wrapper(
        "deepseek_vl_hybrid",
        "llama",
        ("vision_model", "high_res_vision", "aligner"),
        (
            Weight("aligner.vision_proj.weight", "half <- vision_hidden", "projector.low", bias=MAYBE),
            Weight("aligner.high_res_vision_proj.weight", "half <- details", "projector.high", bias=MAYBE),
            Weight("aligner.proj.weight", "hidden <- (2 half)", "projector.down", bias=MAYBE),
        ),
        {"half": "hidden // 2"},
        tie=True,
        towers=EYE,
    ),
    Wrapper(
        "janus",
        "llama",
        ("vision_model", "aligner", "vqmodel", "generation_"),
        tie=True,
        refusals={"hidden": BOTH},
    ),
    # What it looks at is as wide as the residual, and no part of it.
    Wrapper(
        "mllama",
        "mllama_text_model",
        ("vision_model", "multi_modal_projector"),
        (Weight(P + "weight", "memory <- features", "projector", bias=Bias()),),
    ),
    Wrapper("fuyu", "persimmon", ("vision_embed_tokens",), last("vision_embed_tokens.weight", Bias())),
    # Images are tokens of the vocabulary.
    Wrapper("emu3", "emu3_text_model", ("vqmodel",), at="text_model"),
    Wrapper("apertus1p5", "apertus1p5_text", ("vision_tokenizer", "audio_tokenizer")),
    Wrapper("glm_image", "glm_image_text", ("visual", "vqmodel")),
    Wrapper(
        "kimi_k25",
        "deepseek_v3",
        ("vision_tower", "mm_projector"),
        last("mm_projector.out_proj.weight", Bias()),
        # As save_pretrained writes its layers, and as the first files have its projector.
        renames=(
            Rename("language_model.model.blocks.", "model.language_model.layers."),
            Rename("mm_projector.proj.0.", "model.mm_projector.in_proj."),
            Rename("mm_projector.proj.2.", "model.mm_projector.out_proj."),
        ),
        tie=True,
    ),
)

WRAPPERS = {each.model_type: each for each in (*LLAVA, *HEARING, *GRIDS, *OMNI, *OTHERS)}
