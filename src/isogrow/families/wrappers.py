"""Wrappers: a language model of any known family, and a tower for images or sound whose features a projector
puts among the embeddings.

What grows is the language model. The tower stays what it is; of the projector, whatever is as wide as the
residual grows with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from isogrow.families.edits import after
from isogrow.layouts.layout import Bias, Key, Layout, Rename, Weight
from isogrow.layouts.mounting import mounted

MAYBE = Bias(required=False)
P = "multi_modal_projector."
PARTS = ("vision_tower", "multi_modal_projector")


@dataclass(frozen=True)
class Wrapper:
    """A model type that wraps a language model: where that stands, and what stands beside it.

    `parts` are what stands beside it, which old files name without the base model's prefix.
    `tie` is what the class takes for tie_word_embeddings, and `either` is true where the language model's own
    is asked, too. `text` is the model type of a text_config that names none. `rows` are the tensors that
    write to the residual beside the embedding; the widths `inner` of the projector are the residual's.
    Tensors under `carried` stay what they are, and so do keys `kept` of an ε that the projector reads, too.
    `keys` of the wrapper's own config hold sizes.
    """

    model_type: str
    rows: tuple[Weight, ...]
    carried: tuple[str, ...]
    inner: tuple[str, ...] = ()
    tie: bool = False
    either: bool = False
    text: str = ""
    keys: tuple[Key, ...] = ()
    parts: tuple[str, ...] = PARTS
    kept: tuple[str, ...] = ()


TWO = (
    Weight(P + "linear_1.weight", "projector <- features", "projector.up", bias=MAYBE),
    Weight(P + "linear_2.weight", "hidden <- projector", "projector.down", bias=MAYBE),
)
ONE = (Weight(P + "linear_2.weight", "hidden <- projector", "projector.down", bias=Bias()),)
GATED = ("vision_tower.", P + "layernorm.", P + "linear_1.")
TOWER = ("vision_tower.",)
MERGED = ("vision_tower.", P + "norm.", P + "patch_merger.")
EARS = ("audio_tower", "multi_modal_projector")
HEARD = ("audio_tower.",)
MERGER = ("merger.norm.", "merger.linear_fc1.")
NEWLINE = Weight("image_newline", "-> hidden", "newline", required=False)

WRAPPERS = {
    each.model_type: each
    for each in (
        Wrapper("llava", TWO, TOWER, ("projector",), either=True, text="llama"),
        Wrapper("vipllava", TWO, (*TOWER, P + "projector_layernorm."), ("projector",), text="llama"),
        Wrapper(
            "mistral3",
            TWO,
            MERGED,
            ("projector",),
            tie=True,
            text="mistral",
            kept=("text_config.rms_norm_eps",),  # which the norm before the projector takes, too
        ),
        Wrapper("internvl", TWO, (*TOWER, P + "layer_norm."), ("projector",), tie=True, text="qwen2"),
        Wrapper(
            "llava_next",
            (*TWO, NEWLINE),
            TOWER,
            ("projector",),
            text="llama",
            parts=(*PARTS, "image_newline"),
        ),
        Wrapper(
            "llava_onevision",
            (*TWO, NEWLINE),
            TOWER,
            ("projector",),
            either=True,
            text="qwen2",
            parts=(*PARTS, "image_newline"),
        ),
        Wrapper(
            "got_ocr2",
            (
                Weight(P + "conv_upsampler2.weight", "projector <- features 3 3", "projector.up"),
                Weight(
                    P + "multimodal_projector.weight", "hidden <- projector", "projector.down", bias=Bias()
                ),
            ),
            (*TOWER, P + "conv_upsampler1."),
            ("projector",),
            tie=True,
            text="qwen2",
        ),
        *(
            Wrapper(kind, TWO, HEARD, ("projector",), text=text, parts=EARS)
            for kind, text in (("audioflamingo3", "qwen2"), ("musicflamingo", "qwen2"), ("voxtral", "llama"))
        ),
        Wrapper(
            "qwen2_audio",
            (Weight(P + "linear.weight", "hidden <- features", "projector", bias=Bias()),),
            HEARD,
            text="qwen2",
            parts=EARS,
        ),
        Wrapper("aya_vision", ONE, GATED, tie=True, text="cohere2"),
        Wrapper("cohere2_vision", ONE, GATED, tie=True, text="cohere2"),
        Wrapper(
            "gemma3",
            (Weight(P + "mm_input_projection_weight", "features -> hidden", "projector"),),
            (*TOWER, P + "mm_soft_emb_norm."),
            tie=True,
            text="gemma3_text",
        ),
        *(
            Wrapper(
                kind,
                (Weight("visual.merger.linear_fc2.weight", "hidden <- features", "projector", bias=Bias()),),
                tuple(f"visual.{part}" for part in ("patch_embed.", "pos_embed.", "blocks.", *MERGER)),
                text=f"{kind}_text",
                keys=(Key("vision_config.out_hidden_size", "hidden", 3584),),
                parts=("visual",),
            )
            for kind in ("qwen3_5", "qwen3_5_moe")
        ),
        Wrapper(
            "paligemma",
            (Weight(P + "linear.weight", "hidden <- features", "projector", bias=Bias()),),
            TOWER,
            tie=True,
            text="gemma",
            keys=(
                Key("projection_dim", "hidden", 2048),
                Key("vision_config.projection_dim", "hidden", "projection_dim"),
            ),
        ),
    )
}


def wrapping(wrapper: Wrapper, text: Layout) -> Layout:
    """The layout of a wrapper around a language model of a known family."""
    tie = "tie_word_embeddings" + (" or text_config.tie_word_embeddings" if wrapper.either else "")
    own = (Key("tie_word_embeddings", default=wrapper.tie), *wrapper.keys)
    made = mounted(
        text,
        at="language_model.",
        config="text_config.",
        family=f"{wrapper.model_type} with {text.family}",
        model_types=(wrapper.model_type,),
        prefixes=("model.", ""),
        carried=tuple(f"model.{part}" for part in wrapper.carried),
        renames=(
            Rename("language_model.lm_head.", "lm_head."),
            Rename("language_model.model.", "model.language_model."),
            *(Rename(f"{part}.", f"model.{part}.") for part in wrapper.parts),
        ),
        kept=wrapper.kept,
        follows={**text.follows, **dict.fromkeys(wrapper.inner, "hidden")},
    )
    width = made.axes[made.residual]
    return replace(
        made,
        weights=after("embed", *wrapper.rows)(made.weights),
        axes={**made.axes, **dict.fromkeys(wrapper.inner, width)},
        keys=(*made.keys, *own),
        fixed=made.fixed | {"features", *(() if wrapper.inner else ("projector",))},
        streams=tuple(replace(stream, tie=tie) for stream in made.streams),
    )
