"""What traces the model as transformers runs it: nothing is written anew, so nothing was seen to differ."""

from __future__ import annotations

from isogrow.engines.engine import Engine

ONNX = Engine(
    name="onnxruntime",
    title="ONNX Runtime by torch.onnx",
    version="1.32.0",
    date="2026-11-29",
    families=(
        *("bert", "bloom", "cohere", "falcon", "gemma", "gemma2", "gemma3_text", "gpt2"),
        *("qwen3", "t5"),
        *("hunyuan_v1_dense", "lfm2", "seed_oss"),
    ),
    packages=("onnxruntime==1.32.0", "onnxscript==0.7.2"),
)

UNKNOWN = ("bamba", "ernie4_5", "falcon_h1", "glm4_moe", "mamba2", "olmo3", "seed_oss")

OPENVINO = Engine(
    name="openvino",
    title="OpenVINO by optimum-intel",
    version="2026.4.1",
    date="2026-11-29",
    families=(
        *("bert", "falcon", "gpt2", "llama", "phi3", "qwen3", "t5"),
        *("hunyuan_v1_dense", "qwen3_moe"),
    ),
    refused={
        **dict.fromkeys(("gemma2", "gemma3_text", *UNKNOWN), "optimum-intel 2.2.0 does not export them"),
        **dict.fromkeys(
            ("exaone4", "lfm2", "mt5", "qwen3_next"),
            "optimum-intel 2.2.0 exports them under another transformers alone",
        ),
        "bart": "it fails when it runs",
        "granitemoehybrid": "the rows of one batch change what the next one gives",
    },
    packages=("openvino==2026.4.1", "optimum-intel==2.2.0"),
    apart=("transformers",),  # optimum-intel 2.2.0 wants one before 5.6
    without=("torchvision",),  # whose build must be torch's, or transformers loads no model
)

ENGINES = (ONNX, OPENVINO)
