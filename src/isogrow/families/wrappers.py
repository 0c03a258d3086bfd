"""Wrappers: a language model of any known family, and a tower for images or sound whose features a projector
puts among the embeddings. One row for each model type; wrapping.py says what a row means."""

from __future__ import annotations

from typing import Any

from isogrow.families.wrapped_towers import Tower
from isogrow.families.wrappers_of_sound import HEARING, OMNI, SOUNDS
from isogrow.families.wrapping import (
    INNER,
    MAYBE,
    NORMED,
    OUT,
    STATED,
    STATES,
    TWO,
    WRITTEN,
    P,
    Wrapper,
    last,
    two,
)
from isogrow.layouts.layout import Bias, Key, Rename, Weight

EYES = ("vision_tower", "multi_modal_projector")
C = "connector.modality_projection."
FIRST = (("0", "layer_norm"), ("1", "linear_1"), ("3", "linear_2"))
ONE = last(P + "linear_2.weight", MAYBE)
NEWLINE = Weight("image_newline", "-> hidden", "newline", required=False)
NEWLINES = (*EYES, "image_newline")

VISUAL = "visual"


def state(default: int = -1) -> Key:
    """The key that says which of a tower's states is read, or which of them."""
    return Key("vision_feature_layer", default=default)


# Towers that are read before their end; at it, behind their last norm; and those of other names.
CLIP = (Tower("vision_tower", "clip_vision_model", named=True, state=state(-2)),)
SIGLIP_STATE = (Tower("vision_tower", "siglip_vision_model", named=True, state=state()),)
SIGLIP = (Tower("vision_tower", "siglip_vision_model", named=True),)
EYE = (Tower("vision_model", "siglip_vision_model", named=True),)
PIXTRAL = (Tower("vision_tower", "pixtral", named=True, state=state()),)
TIMM = (Tower("vision_tower", "timm_wrapper", named=True),)


def grid(kind: str, **more: Any) -> tuple[Tower, ...]:
    """A tower of patches in a grid, whose merger is read."""
    return (Tower(VISUAL, kind, **more),)


MERGING = {"hidden": "True"}

# Of several depths of the tower, whose features are added behind the first layers.
DEEP = Weight(
    "visual.deepstack_merger_list.{depths}.linear_fc2.weight", WRITTEN, "projector.deep", bias=Bias()
)
MERGED = last("visual.merger.linear_fc2.weight", Bias(), "vision_merged")

BOTH = (
    "images are made of it, too, by a head and an aligner whose widths are keys of their own: grow ffn, heads"
    " or layers instead"
)

PAIRED = "which of its states are read stands in pairs with the layers before which they are added: grow ffn instead"

NEIGHBOURS = (
    "what merges neighbouring patches is as wide as several of them, or as the language model, by its number:"
    " grow ffn, heads or layers instead"
)

EMBEDDED = "embedding_projection.weight"
UNIFIED = (
    *(
        Rename(f"model.vision_embedder.{part}", f"model.embed_vision.{part}")
        for part in ("patch_ln1", "patch_dense", "patch_ln2", "pos_embedding", "pos_norm")
    ),
    Rename(f"model.embed_vision.{EMBEDDED}", f"model.embed_vision.multimodal_embedder.{EMBEDDED}"),
)

LLAVA = (
    Wrapper("llava", "llama", EYES, STATED, INNER, either=True, towers=CLIP, read=STATES),
    Wrapper(
        "vipllava",
        "llama",
        EYES,
        TWO,
        INNER,
        towers=(
            Tower(
                "vision_tower",
                "clip_vision_model",
                named=True,
                state=Key(
                    "vision_feature_layer", default=(-2, -5, -8, -11, 6), alias="vision_feature_layers"
                ),
            ),
        ),
    ),
    # The norm before the projector takes the text's epsilon, too.
    Wrapper(
        "mistral3",
        "mistral",
        EYES,
        TWO,
        INNER,
        tie=True,
        kept=("text_config.rms_norm_eps",),
        towers=PIXTRAL,
    ),
    Wrapper(
        "internvl",
        "qwen2",
        EYES,
        TWO,
        INNER,
        tie=True,
        towers=(Tower("vision_tower", "internvl_vision", state=state()),),
    ),
    Wrapper("llava_next", "llama", NEWLINES, (*STATED, NEWLINE), INNER, towers=CLIP, read=STATES),
    Wrapper(
        "llava_next_video",
        "llama",
        NEWLINES,
        (*STATED, NEWLINE),
        INNER,
        either=True,
        towers=CLIP,
        read=STATES,
    ),
    Wrapper(
        "llava_onevision",
        "qwen2",
        NEWLINES,
        (*STATED, NEWLINE),
        INNER,
        either=True,
        towers=SIGLIP_STATE,
        read=STATES,
    ),
    Wrapper("video_llava", "llama", ("video_tower", "image_tower", EYES[1]), TWO, INNER),
    Wrapper("fast_vlm", "qwen2", EYES, TWO, INNER, either=True, towers=TIMM),
    Wrapper("perception_lm", "llama", EYES, TWO, INNER, tie="text_config.tie_word_embeddings"),
    Wrapper(
        "qianfan_ocr",
        "qwen3",
        EYES,
        TWO,
        INNER,
        # As save_pretrained writes its layers, and as the first files have its projector.
        renames=(
            Rename("language_model.model.encoder.layers.", "model.language_model.layers."),
            Rename("vision_model.", "model.vision_tower."),
            *(Rename(f"mlp1.{old}.", f"model.{P}{new}.") for old, new in FIRST),
        ),
        towers=(Tower("vision_tower", "qianfan_ocr_vision", state=state()),),
    ),
    Wrapper("aya_vision", "cohere2", EYES, ONE, tie=True, towers=SIGLIP_STATE),
    Wrapper(
        "cohere2_vision",
        "cohere2",
        EYES,
        (
            Weight(
                P + "linear_1.weight",
                "(x: latent + gate: latent) <- (corners vision_hidden)",
                "projector.*",
                bias=Bias(),
            ),
            Weight(P + "linear_2.weight", "hidden <- latent", "projector.down", bias=Bias()),
        ),
        tie=True,
        keys=(Key("downsample_factor", default=2), Key("alignment_intermediate_size", default=36864)),
        towers=SIGLIP,
        read={"corners": "downsample_factor ** 2", "latent": "alignment_intermediate_size // 2"},
    ),
    Wrapper(
        "lfm2_vl",
        "lfm2",
        EYES,
        ONE,
        tie=True,
        towers=(Tower("vision_tower", "siglip2_vision_model", named=True),),
    ),
    *(
        Wrapper(
            kind,
            "qwen2",
            EYES,
            (
                Weight(P + "conv_upsampler2.weight", "projector <- features 3 3", "projector.up"),
                Weight(
                    P + "multimodal_projector.weight", "hidden <- projector", "projector.down", bias=Bias()
                ),
            ),
            INNER,
            tie=True,
        )
        for kind in ("got_ocr2", "pp_chart2table")
    ),
    Wrapper(
        "aria",
        "aria_text",
        EYES,
        two(P + "feed_forward.linear_in.weight", P + "feed_forward.linear_out.weight", None),
        INNER,
        towers=(Tower("vision_tower", "idefics3_vision", named=True, state=state()),),
    ),
    Wrapper("llama4", "llama4_text", ("vision_model", EYES[1]), last(P + "linear_1.weight"), tie=None),
    Wrapper(
        "gemma3",
        "gemma3_text",
        EYES,
        (Weight(P + "mm_input_projection_weight", "features -> hidden", "projector"),),
        tie=True,
        towers=SIGLIP,
    ),
    *(
        Wrapper(
            kind,
            f"{kind}_text",
            ("vision_tower", "embed_vision", "audio_tower", "embed_audio"),
            (
                Weight(f"embed_vision.{within}{EMBEDDED}", WRITTEN, "projector", required=False),
                Weight(f"embed_audio.{EMBEDDED}", SOUNDS, "projector.sound", required=False, idle="True"),
            ),
            tie=True,
            renames=renames,
        )
        for kind, within, renames in (
            ("gemma4", "", ()),
            # As the first files have what cuts images into patches.
            ("gemma4_unified", "multimodal_embedder.", UNIFIED),
        )
    ),
    Wrapper(
        "paligemma",
        "gemma",
        EYES,
        last(P + "linear.weight", Bias(), "vision_hidden"),
        tie=True,
        towers=SIGLIP,
        keys=(
            Key("projection_dim", "hidden", 2048),
            Key("vision_config.projection_dim", "hidden", "projection_dim"),
        ),
    ),
)

# Tokens of images have positions in time, height and width (families/multimodal_rope.py).
GRIDS = (
    Wrapper(
        "qwen2_vl",
        "qwen2_vl_text",
        ("visual",),
        last("visual.merger.mlp.2.weight", Bias()),
        either=True,
        keys=(Key("vision_config.hidden_size", "hidden", 3584),),
        flat=True,
    ),
    Wrapper(
        "qwen2_5_vl",
        "qwen2_5_vl_text",
        ("visual",),
        last("visual.merger.mlp.2.weight", Bias(), "vision_merged"),
        either=True,
        keys=OUT,
        flat=True,
        towers=grid("qwen2_5_vl_vision", lifted=MERGING),
    ),
    *(
        Wrapper(
            kind,
            f"{kind}_text",
            ("visual",),
            (*MERGED, DEEP),
            keys=OUT,
            leading="depths",
            towers=grid(f"{kind}_vision"),
        )
        for kind in ("qwen3_vl", "qwen3_vl_moe")
    ),
    *(
        Wrapper(
            kind,
            f"{kind}_text",
            ("visual",),
            MERGED,
            keys=OUT,
            towers=grid(f"{kind}_vision", lifted=MERGING),
        )
        for kind in ("qwen3_5", "qwen3_5_moe")
    ),
    *(
        Wrapper(
            kind,
            text,
            ("visual",),
            either=either,
            refusals={"hidden": NORMED},
            towers=grid(f"{text.removesuffix('_text')}_vision"),
        )
        for kind, text, either in (
            ("glm4v", "glm4v_text", True),
            ("glm4v_moe", "glm4v_moe_text", True),
            ("glm46v", "glm4v_text", False),
            ("glmga", "glm4v_text", False),
            ("glm_ocr", "glm_ocr_text", True),
        )
    ),
    Wrapper(
        "paddleocr_vl",
        "paddleocr_vl_text",
        ("visual", "projector"),
        last("projector.linear_2.weight", Bias()),
        renames=(Rename("mlp_AR.", "model.projector."),),
        tie=True,
        either=True,
        flat=True,
    ),
    Wrapper(
        "hunyuan_vl",
        "hunyuan_vl_text",
        ("vision_tower",),
        renames=(Rename("vit.", "model.vision_tower."), Rename("model.vit.", "model.vision_tower.")),
        tie=True,
        either=True,
        flat=True,
        refusals={"hidden": NORMED},
    ),
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
        "exaone4_5",
        "exaone4",
        ("visual",),
        last("visual.merger.mlp.2.weight", Bias(), "vision_merged"),
        keys=OUT,
        towers=grid("exaone4_5_vision", lifted=MERGING),
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
