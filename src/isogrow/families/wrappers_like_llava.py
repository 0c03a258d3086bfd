"""Wrappers whose projector reads a tower's patches one by one, or neighbours together: LLaVA and its kin."""

from __future__ import annotations

from isogrow.families.wrapped_towers import Tower
from isogrow.families.wrappers_of_sound import SOUNDS
from isogrow.families.wrapping import (
    INNER,
    MAYBE,
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
FIRST = (("0", "layer_norm"), ("1", "linear_1"), ("3", "linear_2"))
ONE = last(P + "linear_2.weight", MAYBE)
NEWLINE = Weight("image_newline", "-> hidden", "newline", required=False)
NEWLINES = (*EYES, "image_newline")


def state(default: int = -1) -> Key:
    """The key that says which of a tower's states is read, or which of them."""
    return Key("vision_feature_layer", default=default)


# Towers that are read before their end, or at it, behind their last norm.
CLIP = (Tower("vision_tower", "clip_vision_model", named=True, state=state(-2)),)
SIGLIP_STATE = (Tower("vision_tower", "siglip_vision_model", named=True, state=state()),)
SIGLIP = (Tower("vision_tower", "siglip_vision_model", named=True),)
PIXTRAL = (Tower("vision_tower", "pixtral", named=True, state=state()),)

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
    Wrapper("fast_vlm", "qwen2", EYES, TWO, INNER, either=True),
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
