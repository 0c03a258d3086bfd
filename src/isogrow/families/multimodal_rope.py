"""Language models whose rotary positions are three (time, height, width of an image's token): those within
Qwen2-VL, Qwen3-VL, GLM-4V and their kin. A text's token has one number for all three."""

from __future__ import annotations

from isogrow.families.deepseek_experts import GLM4_MOE
from isogrow.families.edits import alter, drop, like
from isogrow.families.ernie4_5 import ERNIE4_5
from isogrow.families.granite import GRANITE
from isogrow.families.hunyuan import HUNYUAN
from isogrow.families.llama import EQUAL, LLAMA, QWEN2
from isogrow.families.phi3 import GLM4, SHARE
from isogrow.families.qwen3 import QWEN3
from isogrow.families.qwen_moe import QWEN3_MOE
from isogrow.layouts.layout import Attention, Bias, Rope

OLD = (("mrope", "default"),)
# These classes divide the width among the heads, whatever head_dim says.
DIVIDED = {
    **LLAMA.axes,
    "key_dim": "hidden_size // num_attention_heads",
    "value_dim": "hidden_size // num_attention_heads",
}
FILLING = ("key_dim == value_dim", "kv_heads * group * key_dim == hidden")

QWEN2_VL = like(
    QWEN2,
    "qwen2_vl_text",
    lacks="head_dim",
    axes=DIVIDED,
    defaults=dict(
        vocab_size=152064,
        hidden_size=8192,
        intermediate_size=29568,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        rms_norm_eps=1e-5,
        max_window_layers=80,
    ),
    attentions=(Attention(rope=Rope(default=1e6, aliases=OLD, grids="runs", sections=(16, 24, 24))),),
    constraints=FILLING,
)
QWEN2_5_VL = like(QWEN2_VL, "qwen2_5_vl_text")
QWEN2_5_OMNI = like(
    QWEN2,
    "qwen2_5_omni_text",
    defaults=dict(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        sliding_window=32768,
        tie_word_embeddings=True,
    ),
    attentions=QWEN2_VL.attentions,
)

EVERY_THIRD = Rope(default=500000.0, aliases=OLD, grids="interleaved", sections=(24, 20, 20))
QWEN3_VL = like(
    QWEN3,
    "qwen3_vl_text",
    lacks="use_sliding_window sliding_window max_window_layers",
    attentions=(Attention(rope=EVERY_THIRD),),
    per_layer=(),
)
QWEN3_VL_MOE = like(
    QWEN3_MOE,
    "qwen3_vl_moe_text",
    alter("router", idle="num_experts_per_tok == 1"),  # this class always divides by the chosen ones' sum
    defaults=dict(
        hidden_size=2048,
        intermediate_size=5632,
        moe_intermediate_size=1408,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_key_value_heads=16,
        num_local_experts=60,
        num_experts_per_tok=4,
        tie_word_embeddings=True,
    ),
    attentions=(Attention(rope=EVERY_THIRD),),
)
QWEN3_OMNI_MOE = like(
    QWEN3_MOE,
    "qwen3_omni_moe_text",
    defaults=dict(
        vocab_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        norm_topk_prob=True,
    ),
    attentions=(Attention(rope=EVERY_THIRD),),
)

GLM4V = like(
    GLM4,
    "glm4v_text",
    lacks="head_dim",
    axes=DIVIDED,
    defaults=dict(rms_norm_eps=1e-5),
    attentions=(
        Attention(rope=Rope("adjacent", share=SHARE, aliases=OLD, grids="runs", sections=(8, 12, 12))),
    ),
    constraints=FILLING,
)
GLM_OCR = like(
    GLM4V,
    "glm_ocr_text",
    alter("attn.q attn.k attn.v", bias=None),
    axes=LLAMA.axes,
    defaults=dict(
        vocab_size=59392,
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=16,
        num_attention_heads=16,
        num_key_value_heads=8,
    ),
    more=tuple(key for key in LLAMA.keys if key.name == "head_dim"),
    constraints=EQUAL,
)
GLM_IMAGE = like(
    GLM_OCR,
    "glm_image_text",
    alter("attn.q attn.k attn.v", bias=Bias("attention_bias")),
    alter("head", pattern="pictures <- hidden", tied=""),  # it gives tokens of images alone
    defaults=dict(
        vocab_size=168064,
        hidden_size=4096,
        intermediate_size=13696,
        num_hidden_layers=40,
        num_attention_heads=32,
        num_key_value_heads=2,
        attention_bias=True,
    ),
    attentions=(Attention(rope=Rope(share=SHARE, aliases=OLD, grids="runs", sections=(8, 12, 12))),),
    fixed=LLAMA.fixed | {"pictures"},
)
GLM4V_MOE = like(
    GLM4_MOE,
    "glm4v_moe_text",
    drop("attn.q_norm attn.k_norm"),
    lacks="use_qk_norm",
    defaults=dict(
        vocab_size=151424,
        intermediate_size=10944,
        num_key_value_heads=8,
        rms_norm_eps=1e-5,
        attention_bias=True,
    ),
    attentions=(Attention(rope=Rope(share=SHARE, portion=0.5, grids="runs", sections=(8, 12, 12))),),
)

PADDLE = like(
    ERNIE4_5,
    "paddleocr_vl_text",
    attentions=(Attention(rope=Rope(default=500000.0, aliases=OLD, grids="runs", sections=(16, 24, 24))),),
)

HALVES = (
    "its sections of positions are cut from both halves of a head in a row, so that the two channels of a"
    " pair may turn by different ones: grow heads instead"
)
HUNYUAN_VL = like(
    HUNYUAN,
    "hunyuan_vl_text",
    defaults=dict(tie_word_embeddings=True),
    attentions=(Attention(rope=Rope(aliases=(("xdrope", "dynamic"),))),),
    refusals={"key_dim": HALVES, "value_dim": HALVES},
)

GRANITE_VISION = like(GRANITE, "granite4_vision_text")

LAYOUTS = (
    QWEN2_VL,
    QWEN2_5_VL,
    QWEN2_5_OMNI,
    QWEN3_VL,
    QWEN3_VL_MOE,
    QWEN3_OMNI_MOE,
    GLM4V,
    GLM_OCR,
    GLM_IMAGE,
    GLM4V_MOE,
    PADDLE,
    HUNYUAN_VL,
    GRANITE_VISION,
)
