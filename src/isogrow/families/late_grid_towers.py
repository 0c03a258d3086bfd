"""Newer towers of images: those of Cohere Compass, Qwen 4 Exp and GLM-5 Next (patches in a grid), of Cosmos 3
Edge and Granite Docling (SigLIP's), and of HunYuan-VL."""

from __future__ import annotations

from isogrow.families.edits import alter, like, swap
from isogrow.families.heads import BIAS
from isogrow.families.patch_grid_towers import GLM_OCR, MERGED, QWEN3, SHALLOW
from isogrow.families.towers import IDEFICS3_VISION
from isogrow.layouts.layout import Key, Norm, Readout, Weight

CONNECTED = "what makes a language model's embeddings of it is as wide as it is: grow ffn or layers instead"

LARGE = dict(intermediate_size=4304, num_hidden_layers=27)
COSMOS3_EDGE = like(
    IDEFICS3_VISION,
    "cosmos3_edge_vision",
    alter("embed", pattern="hidden <- pixels"),
    axes={axis: said for axis, said in IDEFICS3_VISION.axes.items() if axis != "channels"},
    lacks="num_channels",
    defaults=LARGE,
    fixed=IDEFICS3_VISION.fixed | {"pixels"},
)
GRANITE_DOCLING = like(
    IDEFICS3_VISION,
    "granite_docling_vision",
    defaults=dict(hidden_size=768, num_attention_heads=12),
    more=(Key("deepstack_visual_indexes", default=[3, 7, 10], null=[3, 7, 10]),),
    readouts=(Readout("deepstack_visual_indexes", behind=True),),
    carried=("connector.",),
    refusals={"hidden": CONNECTED},
)

L = "layers.{layers}."
LAYER, MERGING = (Norm(kind, "pre", eps="rms_norm_eps") for kind in ("layer", "rms"))
HUNYUAN = like(
    IDEFICS3_VISION,
    "hunyuan_vl_vision",
    *(
        alter(slot, name=L + name)
        for slot, name in {
            "attn.q": "self_attn.q_proj.weight",
            "attn.k": "self_attn.k_proj.weight",
            "attn.v": "self_attn.v_proj.weight",
            "attn.o": "self_attn.o_proj.weight",
            "mlp.up": "mlp.fc1.weight",
            "mlp.down": "mlp.fc2.weight",
        }.items()
    ),
    swap("attn_norm", Weight(L + "layer_norm1.weight", "* hidden", "attn_norm", LAYER, BIAS)),
    swap("mlp_norm", Weight(L + "layer_norm2.weight", "* hidden", "mlp_norm", LAYER, BIAS)),
    swap("final_norm", Weight("patch_merger.before_rms.weight", "* hidden", "final_norm", MERGING)),
    lacks="layer_norm_eps",
    defaults=LARGE,
    more=(Key("rms_norm_eps", default=1e-5, alias="layer_norm_eps"),),
    carried=tuple(f"patch_merger.{part}" for part in ("proj_", "mlp.", "image_", "after_rms.")),
    refusals={"hidden": MERGED},
)

LAYOUTS = (
    like(QWEN3, "cohere_compass_vision"),
    like(QWEN3, "qwen4_exp_vision", **SHALLOW),
    like(GLM_OCR, "glm5_next_vision"),
    COSMOS3_EDGE,
    GRANITE_DOCLING,
    HUNYUAN,
)
