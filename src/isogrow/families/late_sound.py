"""Encoders of sound by themselves with rotary positions, GLM-ASR's and those of Nemotron 3's diarization and
transcription; Qwen 3 ASR's, which is Whisper's behind other convolutions."""

from __future__ import annotations

from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.heads import BIAS
from isogrow.families.whisper_encoders import QWEN2_AUDIO
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Stream, Weight

FRAMES = "what cuts sound into frames is as wide as it is, and stays: grow ffn or layers instead"
L = "layers.{layers}."
A, M = L + "self_attn.", L + "mlp."
PRE, POST = (Norm("layer", where, eps=1e-5) for where in ("pre", "post"))

GLM_ASR = Layout(
    family="glmasr_encoder",
    model_types=("glmasr_encoder",),
    weights=(
        Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE, BIAS),
        Weight(A + "q_proj.weight", "(kv_heads group key_dim) <- hidden", "attn.q", bias=BIAS),
        Weight(A + "k_proj.weight", "(kv_heads key_dim) <- hidden", "attn.k"),
        Weight(A + "v_proj.weight", "(kv_heads value_dim) <- hidden", "attn.v", bias=BIAS),
        Weight(A + "o_proj.weight", "hidden <- (kv_heads group value_dim)", "attn.o", bias=BIAS),
        Weight(L + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE, BIAS),
        Weight(M + "fc1.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(M + "fc2.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight("norm.weight", "* hidden", "final_norm", PRE, BIAS),
    ),
    axes={
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "kv_heads": "num_key_value_heads",
        "group": "num_attention_heads // num_key_value_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("hidden_size", "hidden", 1280),
        Key("intermediate_size", "ffn", 5120),
        Key("num_hidden_layers", "layers", 32),
        Key("num_attention_heads", "kv_heads * group", 20),
        Key("num_key_value_heads", "kv_heads", "num_attention_heads", null="num_attention_heads"),
    ),
    attentions=(Attention(),),
    streams=(Stream(tie="", longest="", given=True),),
    constraints=("key_dim == value_dim", "kv_heads * group * key_dim == hidden"),
    carried=("conv1.", "conv2."),
    refusals={"hidden": FRAMES},
)

NEMOTRON = like(
    GLM_ASR,
    "nemotron3_diarization_audio",
    swap(
        "attn_norm",
        Weight("embedder.projection.weight", "hidden <- frames", "embed"),
        Weight("input_layer_norm.weight", "* hidden", "embed_norm", POST, BIAS),
        Weight(L + "layer_norm1.weight", "* hidden", "attn_norm", PRE, BIAS),
    ),
    alter("attn.q attn.v", bias=None),
    alter("mlp_norm", name=L + "layer_norm2.weight"),
    alter("final_norm", name="layer_norm.weight"),
    defaults=dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=31, num_attention_heads=8),
    streams=(Stream(tie="", longest=""),),
    carried=(),
    fixed=GLM_ASR.fixed | {"frames"},
)

TRANSCRIBE = like(
    NEMOTRON,
    "nemotron3_5_transcribe_asr_audio",
    after(
        "attn.k",
        Weight(A + "q_norm.weight", "* key_dim", "attn.q_norm", Norm("layer", "inner", 1e-5, "attn.q"), BIAS),
        Weight(A + "k_norm.weight", "* key_dim", "attn.k_norm", Norm("layer", "inner", 1e-5, "attn.k"), BIAS),
    ),
    defaults=dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=10),
)

QWEN3_ASR = like(
    QWEN2_AUDIO,
    "qwen3_asr_encoder",
    drop("positions"),
    alter("attn.k", bias=BIAS),
    alter("final_norm", name="ln_post.weight"),
    keys=(
        Key("d_model", "hidden", 1024, alias="hidden_size"),
        Key("encoder_layers", "layers", 24, alias="num_hidden_layers"),
        Key("encoder_ffn_dim", "ffn", 4096, alias="intermediate_size"),
        Key("encoder_attention_heads", "heads", 16, alias="num_attention_heads"),
    ),
    axes={axis: said for axis, said in QWEN2_AUDIO.axes.items() if axis != "sources"},
    streams=GLM_ASR.streams,
    carried=("conv2d1.", "conv2d2.", "conv2d3.", "conv_out."),
    refusals={"hidden": FRAMES},
)

LAYOUTS = (GLM_ASR, NEMOTRON, TRANSCRIBE, QWEN3_ASR)
