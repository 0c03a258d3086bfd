"""Write docs/families-not-yet.md: the model types that are not grown, with one reason each.

    python docs/not_yet.py            write it
    python docs/not_yet.py --check    exit with 1 if it is not what stands there

A type that no reason names has not been looked at. tests/test_not_yet.py holds that all of them exist, and
that none of them is grown.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from transformers.models.auto import modeling_auto as auto

from isogrow.families import LAYOUTS
from isogrow.families.wrappers import WRAPPERS

PAGE = Path(__file__).with_name("families-not-yet.md")

KINDS = {
    "causal language models": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "masked language models": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "encoder-decoders": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "image classifiers": auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "zero-shot image classifiers": auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "video classifiers": auto.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES,
    "speech recognisers": {
        **auto.MODEL_FOR_CTC_MAPPING_NAMES,
        **auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    },
    "audio classifiers": auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES,
    "image-text wrappers": auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
}

# One reason, and the types (of transformers 5.23) that it holds back.
REASONS: Mapping[str, str] = {
    "its layers hold a recurrence with a state that no table says yet (Mamba-1, RWKV, xLSTM)": (
        "falcon_mamba jamba mamba olmo_hybrid recurrent_gemma rwkv xlstm zamba zamba2"
    ),
    "its layers hold linear attention that no table says yet": "kimi_linear lfm2_moe minimax",
    "a norm runs over what attention gives, mixed from all values, and over the product of gate and up": (
        "bitnet"
    ),
    "two softmaxes are subtracted, each from half of the heads, by a scale from the layer's number": (
        "diffllama"
    ),
    "the residual itself is multiplied by a gain, and attention by a gate that chooses positions": "doge",
    "a head has one number for each layer and head (contacts), in one vector": "esm",
    "one layer's weights are shared by all layers": "albert",
    "attention is disentangled: content and relative positions are contracted apart": "deberta deberta-v2",
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
    "a layer may read the tokens that the one before it chose, and a new one between them chooses others": (
        "glm_moe_dsa"
    ),
    "layers with a window have twice the key heads of the others": "mimo_v2_flash",
    "each layer has an adapter for each language, which the config lists by name": "xmod",
    "its projections are convolutions in groups of channels, which whole copies would part": "squeezebert",
    "its files hold a rounded twin of each weight": "ibert",
    "which layers are sparse is computed from the number of layers": "switch_transformers",
    "its encoder has a second residual, of global tokens, and positions from the width": "pegasus_x",
    "its config class is GPT-2's, and its files say gpt2": "gpt-sw3",
    "it is built in docs/add-a-family.md, which shows how": "nemotron",
}


def grown(model_type: str) -> bool:
    """Whether isogrow grows this type, by itself or as a language model within it."""
    return model_type in LAYOUTS or model_type in WRAPPERS


def reasons() -> dict[str, str]:
    """The reason of each type that has one."""
    return {name: why for why, types in REASONS.items() for name in types.split()}


def page() -> str:
    """The page in Markdown."""
    known = reasons()
    lines = [
        "# Model types that are not grown",
        "",
        "Of the model types that transformers 5.23 registers for a task, those that isogrow refuses."
        " Written by docs/not_yet.py.",
        "",
        "| task | grown | of |",
        "|---|---|---|",
    ]
    for kind, types in KINDS.items():
        lines.append(f"| {kind} | {sum(map(grown, types))} | {len(types)} |")
    lines += ["", "## Looked at", "", "| model types | why not |", "|---|---|"]
    lines += [f"| {', '.join(types.split())} | {why} |" for why, types in REASONS.items()]
    lines += ["", "## Not looked at yet", ""]
    for kind, types in KINDS.items():
        rest = [name for name in types if not grown(name) and name not in known]
        lines += [f"{kind.capitalize()}: {', '.join(rest)}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
