"""Why model types that transformers has are not grown: what is said where one is asked for.

docs/not_yet.py writes docs/families-not-yet.md from it, and benchmarks/drafts.py finds out what drafts grow.
"""

from __future__ import annotations

from collections.abc import Mapping

# Types without a table of which `isogrow draft` writes a layout that is proven on small models.
DRAFTED = (
    "beam", "bitnet", "diffllama", "doge", "flint", "gpt-sw3", "kolibri1", "lfm3", "minimax_m3_vl_text",
    "nemotron", "trocr",
)  # fmt: skip

# One reason, and the types (of transformers 5.23) that it holds back.
REASONS: Mapping[str, str] = {
    "its layers hold a recurrence with a state that no table says yet (RWKV, xLSTM)": (
        "recurrent_gemma rwkv xlstm zamba zamba2"
    ),
    "a norm runs over what attention gives, mixed from all values, and over the product of gate and up": (
        "bitnet"
    ),
    "two softmaxes are subtracted, each from half of the heads, by a scale from the layer's number": (
        "diffllama"
    ),
    "the residual itself is multiplied by a gain, and attention by a gate that chooses positions": "doge",
    "a head has one number for each layer and head (contacts), in one vector": "esm",
    "attention is a Fourier transform, a hash, a projection of the sequence, or sampled": (
        "fnet funnel reformer"
    ),
    "its attention needs a kernel that is compiled for a GPU": "mra",
    "convolutions take part in attention": "convbert",
    "its MLP is 4 times the residual, which the tied head reads behind a LayerNorm": "xlm flaubert",
    "its sparse layers are chosen by a number that no list can say, and its positions are sines": "nllb-moe",
    "its branches are convolutions and attention between two halves of an MLP": (
        "wav2vec2-conformer wav2vec2-bert"
    ),
    "its attention is disentangled, and pooled over time": "sew-d",
    "its MLP is 4 times the residual, and its tied head reads what a LayerNorm wrote": "openai-gpt",
    "attention's queries and outputs are drawn from experts, all of which share the keys": "jetmoe",
    "layers with a window have twice the key heads of the others": "mimo_v2_flash",
    "each layer has an adapter for each language, which the config lists by name": "xmod",
    "its projections are convolutions in groups of channels, which whole copies would part": "squeezebert",
    "its files hold a rounded twin of each weight": "ibert",
    "which layers are sparse is computed from the number of layers": "switch_transformers",
    "its encoder has a second residual, of global tokens, and positions from the width": "pegasus_x",
    "its config class is GPT-2's, and its files say gpt2": "gpt-sw3",
    "its stages are convolutions or windows of several widths, so that no one width is the residual's": (
        "align bit convnext convnextv2 cvt dinat dinov3_convnext donut-swin efficientnet focalnet glpn"
        " hgnet_v2 hiera levit maskformer-swin mobilenet_v1 mobilenet_v2 mobilevit mobilevitv2 poolformer pvt"
        " pvt_v2"
        " regnet resnet sam2_hiera_det_model segformer swiftformer swin swin2sr swinv2 textnet"
    ),
    "queries of objects look at a convolutional or staged backbone, in layers that are post-norm": (
        "conditional_detr d_fine dab-detr deformable_detr deimv2 detr grounding-dino lw_detr mask2former"
        " maskformer mm-grounding-dino omdet-turbo oneformer rf_detr rt_detr rt_detr_v2 table-transformer"
    ),
    "it codes or makes sound by convolutions, whose strides and widths are one": (
        "dac encodec higgs_audio_v2_tokenizer mimi mimi_decoder mimi_encoder neucodec univnet"
        " vibevoice_acoustic_tokenizer vibevoice_acoustic_tokenizer_decoder"
        " vibevoice_acoustic_tokenizer_encoder xcodec xcodec2"
    ),
    "what builds it is another library, timm, whose models have names of their own": (
        "gemma3n_vision timm_backbone timm_wrapper"
    ),
    "its images are read by another library's model, timm; its language model grows by itself": "gemma3n",
    "its streams are mixed by a matrix of positive numbers, so no new layer is the identity (laws.md), and"
    " its compressed attention has no table yet": "deepseek_v4",
    "it reads the keys and values of another model, whose sizes are not its own": (
        "gemma4_assistant gemma4_unified_assistant"
    ),
    "its MLP normalises its inner width, or is as wide as what it gives": (
        "glm4v_moe_vision glm4v_vision kosmos-2"
    ),
    "its positions are added again between layers, in a tensor one shorter than there are layers": "yolos",
    "its files hold two kinds of experts, of two widths, in one list": "ernie4_5_vl_moe",
    "its class reads no text without a video": "instructblipvideo",
    "its class holds a class with a head that holds the model": "shieldgemma2",
    "it is built in docs/add-a-family.md, which shows how": "nemotron",
}


def reasons() -> dict[str, str]:
    """The reason of each type that has one."""
    return {name: why for why, types in REASONS.items() for name in types.split()}


def refusal(model_type: str) -> str:
    """Why a type is not grown, and what to do instead; "" of one of which nothing is known.

    >>> refusal("swin").partition(",")[0]
    "model_type 'swin' is not grown: its stages are convolutions or windows of several widths"
    """
    why = reasons().get(model_type, "it has no table")
    if model_type in DRAFTED:
        return (
            f"model_type {model_type!r} is not grown without a layout ({why}): write one by"
            f" `isogrow draft {model_type} --out FILE`, which says what it grows, and give --layout FILE"
        )
    if why not in REASONS:
        return ""
    return f"model_type {model_type!r} is not grown: {why}; `isogrow families` lists those that are"
