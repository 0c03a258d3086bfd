"""What traces the model as transformers runs it: nothing is written anew, so nothing was seen to differ."""

from __future__ import annotations

from isogrow.engines.engine import Engine

ONNX = Engine(
    name="onnxruntime",
    title="ONNX Runtime by torch.onnx",
    version="1.32.0",
    date="2026-11-28",
    families=(
        *("bert", "bloom", "cohere", "falcon", "gemma", "gemma2", "gemma3_text", "gpt2"),
        *("qwen3", "t5"),
    ),
    packages=("onnxruntime==1.32.0", "onnxscript==0.7.2"),
)

OPENVINO = Engine(
    name="openvino",
    title="OpenVINO by optimum-intel",
    version="2026.4.1",
    date="2026-11-28",
    families=("bert", "falcon", "gpt2", "llama", "phi3", "qwen3", "t5"),
    refused=dict.fromkeys(("gemma2", "gemma3_text"), "optimum-intel 2.2.0 does not export them"),
    packages=("openvino==2026.4.1", "optimum-intel==2.2.0"),
    apart=("transformers",),  # optimum-intel 2.2.0 wants one before 5.6
)

ENGINES = (ONNX, OPENVINO)
