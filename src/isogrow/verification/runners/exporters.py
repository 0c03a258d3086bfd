"""What traces the model as transformers runs it: ONNX Runtime by torch.onnx, OpenVINO by optimum-intel."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isogrow.verification.runners.runner import Ids, Logits, Run, Runner, config_of, has_encoder
from isogrow.verification.runners.transformers import model_of, outputs


class Traced(nn.Module):
    """A model as what is compared of it: ids to logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return outputs(self.model, ids)


def onnxruntime(folder: Path, scratch: Path) -> Run:
    """Exported for rows of the length of the first batch's, which any number of may come."""
    engine: Any = import_module("onnxruntime")
    model, path = Traced(model_of(folder, torch.float32)), str(scratch / "model.onnx")
    model.model.config.use_cache = False
    sessions: list[Any] = []

    def run(ids: Ids) -> Logits:
        if not sessions:
            rows = ({0: torch.export.Dim.DYNAMIC},)
            torch.onnx.export(model, (torch.from_numpy(ids),), path, dynamo=True, dynamic_shapes=rows)
            sessions.append(engine.InferenceSession(path, providers=["CPUExecutionProvider"]))
        return sessions[0].run(None, {sessions[0].get_inputs()[0].name: ids})[0]

    return run


def openvino(folder: Path, scratch: Path) -> Run:
    """Exported by optimum-intel, and compiled for float32 throughout."""
    intel: Any = import_module("optimum.intel")
    named = str((config_of(folder).get("architectures") or [""])[0])
    kind = "OVModelForCausalLM"
    if has_encoder(folder):
        kind = "OVModelForSeq2SeqLM"
    elif "MaskedLM" in named:
        kind = "OVModelForMaskedLM"
    how: Any = {} if "Masked" in named else {"use_cache": False}
    how |= {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}, "load_in_8bit": False}
    model = getattr(intel, kind).from_pretrained(str(folder), export=True, **how)

    def run(ids: Ids) -> Logits:
        given = torch.from_numpy(ids)
        return outputs(model, given, attention_mask=torch.ones_like(given)).numpy()

    return run


RUNNERS = (
    Runner("onnxruntime", ("onnxruntime", "onnxscript"), onnxruntime),
    Runner("openvino", ("openvino", "optimum"), openvino),
)
