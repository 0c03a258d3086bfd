"""More of Llama's kin: Ministral 3, whose queries are scaled by their position; Apertus, whose activation has
trained numbers; NanoChat, whose norms have no gain; MiniCPM3, whose branches are scaled by their number."""

from __future__ import annotations

from isogrow.families.deepseek import SCALE
from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MISTRAL, MLP, L, M
from isogrow.families.qwen3 import head_norms
from isogrow.families.youtu import YOUTU
from isogrow.layouts.layout import Attention, Bias, Key, Norm, Rope, Weight

# The class fills in a table where the config has none, and then reads no θ that stands beside it.
YARN = (
    ("rope_theta", 1e6),
    ("type", "yarn"),
    ("factor", 16.0),
    ("original_max_position_embeddings", 16384),
    ("beta_fast", 32.0),
    ("beta_slow", 1.0),
    ("mscale_all_dim", 1.0),
    ("mscale", 1.0),
    ("llama_4_scaling_beta", 0.1),
)
MINISTRAL3 = like(
    MISTRAL,
    "ministral3",
    alter(f"{ATTENTION} {MLP}", bias=None),
    defaults=dict(vocab_size=131072, num_hidden_layers=34, head_dim=128, rms_norm_eps=1e-5),
    attentions=(Attention(rope=Rope(default=1e6, filled=YARN)),),
)

PRE = Norm("rms", "pre", eps="rms_norm_eps")
POST = Norm("rms", "post", eps="rms_norm_eps")
SAID = Bias("attention_bias")
XIELU = "hidden_act == 'xielu'"
LLAMA3 = (
    ("rope_type", "llama3"),
    ("factor", 8.0),
    ("original_max_position_embeddings", 8192),
    ("low_freq_factor", 1.0),
    ("high_freq_factor", 4.0),
)


def bent(name: str, slot: str) -> Weight:
    """A number of an activation, which multiplies what the MLP gives by no zero."""
    return Weight(M + f"act_fn.{name}", "-> 1", slot, when=XIELU, scales="mlp.down", centred=True)


APERTUS = like(
    LLAMA,
    "apertus",
    swap("attn_norm", Weight(L + "attention_layernorm.weight", "* hidden", "attn_norm", PRE)),
    swap("mlp_norm", Weight(L + "feedforward_layernorm.weight", "* hidden", "mlp_norm", PRE)),
    alter("attn.q attn.k attn.v attn.o", bias=SAID),
    after("attn.k", *head_norms()),
    drop("mlp.gate"),
    alter("mlp.up mlp.down", bias=None),
    after(
        "mlp.up",
        bent("alpha_p", "mlp.above"),
        bent("alpha_n", "mlp.below"),
        *(
            Weight(M + f"act_fn.{name}", "->", f"mlp.{name}", when=XIELU, idle="True", constant=True)
            for name in ("beta", "eps")
        ),
    ),
    defaults=dict(
        vocab_size=131072,
        intermediate_size=14336,
        rms_norm_eps=1e-5,
        attention_bias=False,
        hidden_act="'xielu'",
    ),
    attentions=(Attention(rope=Rope(default=12e6, filled=LLAMA3)),),
    constraints=EQUAL,
)

NO_GAIN = (
    "queries and keys are normalised over it without a gain, so new channels would count in its mean square"
)
NANOCHAT = like(
    LLAMA,
    "nanochat",
    swap("embed", LLAMA.weights[0], Weight("norm", "* hidden", "embed_norm", POST, stored=False)),
    swap("attn_norm", Weight(L + "input_layernorm", "* hidden", "attn_norm", PRE, stored=False)),
    alter(ATTENTION, bias=SAID),
    swap("mlp_norm", Weight(L + "post_attention_layernorm", "* hidden", "mlp_norm", PRE, stored=False)),
    swap(
        MLP,
        Weight(M + "fc1.weight", "ffn <- hidden", "mlp.up"),
        Weight(M + "fc2.weight", "hidden <- ffn", "mlp.down"),
    ),
    swap("final_norm", Weight("norm", "* hidden", "final_norm", PRE, stored=False)),
    drop("score span"),
    defaults=dict(
        vocab_size=50304,
        hidden_size=768,
        intermediate_size=8192,
        num_hidden_layers=12,
        num_attention_heads=6,
        num_key_value_heads=6,
        attention_bias=False,
    ),
    constraints=EQUAL,
    refusals={"key_dim": NO_GAIN, "value_dim": NO_GAIN},
    kept=("rms_norm_eps",),
)

DEPTH = "scale_depth * sqrt(layers / num_hidden_layers)"
SAME = "dim_model_base == hidden_size"
MINICPM3 = like(
    YOUTU,
    "minicpm3",
    alter(MLP, bias=Bias("mlp_bias")),
    # The head reads the residual times dim_model_base / hidden, where these differ.
    alter("head", times=f"1 if {SAME} else 1 / hidden"),
    lacks="rope_interleave qk_head_dim",
    defaults=dict(
        vocab_size=73448,
        hidden_size=2560,
        intermediate_size=6400,
        num_hidden_layers=62,
        num_attention_heads=40,
        num_key_value_heads=40,
        q_lora_rank=768,
        kv_lora_rank=256,
        qk_nope_head_dim=64,
        qk_rope_head_dim=32,
        v_head_dim="hidden_size // num_attention_heads",
        rms_norm_eps=1e-5,
        mlp_bias=False,
    ),
    more=(
        Key("dim_model_base", "hidden", 256, null="hidden_size", when=SAME),
        # Each branch is divided by the root of the number of layers, so that the scale follows that.
        Key(
            "scale_depth",
            "scale_depth * (layers / num_hidden_layers) ** 0.5",
            1.4,
            null="sqrt(num_hidden_layers)",
        ),
    ),
    attentions=(
        Attention(scale=SCALE),
        Attention("attn.q_rope", "attn.k_rope", axis="rope_dim", scale=SCALE, rope=Rope()),
    ),
    constraints=("hidden // heads * heads == hidden",),
)

LAYOUTS = (MINISTRAL3, APERTUS, NANOCHAT, MINICPM3)
