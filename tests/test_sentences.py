"""Sentence-transformers folders: every module follows a wider residual exactly, or is refused by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

import isogrow
from isogrow.errors import CheckpointError
from isogrow.stores.sentences import Widened, followed, reached
from isogrow.verification.float64 import float64, rebuilt

KIND = "sentence_transformers.models."
WIDTH = 7  # of the sentence embeddings
Modules = list[tuple[str, dict[str, Any]]]


def put(folder: Path, modules: Modules) -> Path:
    """The files that sentence-transformers keeps of these modules behind a model."""
    listed = [{"idx": 0, "path": "", "type": f"{KIND}Transformer"}]
    for i, (kind, config) in enumerate(modules, 1):
        path = f"{i}_{kind}"
        listed.append({"idx": i, "path": path, "type": f"{KIND}{kind}"})
        (folder / path).mkdir(parents=True)
        (folder / path / "config.json").write_text(json.dumps(config))
        if kind == "Dense":
            linear = nn.Linear(config["in_features"], config["out_features"], dtype=torch.float64)
            named = {f"linear.{name}": value.detach() for name, value in linear.named_parameters()}
            save_file(named, folder / path / "model.safetensors", {"format": "pt"})
            torch.save(named, folder / path / "pytorch_model.bin")
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: "}}')
    return folder


def pooled(old: int, ways: int = 1) -> Modules:
    """Some ways of pooling, and a Dense."""
    return [
        ("Pooling", {"word_embedding_dimension": old, "pooling_mode_mean_tokens": True}),
        ("Dropout", {"dropout": 0.1}),
        ("Dense", {"in_features": ways * old, "out_features": WIDTH, "bias": True}),
        ("LayerNorm", {"dimension": WIDTH}),
    ]


def pooled_states(folder: Path, ways: int) -> Tensor:
    """The mean (and the maximum) over tokens."""
    model = rebuilt(transformers.AutoModel.from_pretrained(folder, dtype=torch.float64).eval())
    with float64(), torch.no_grad():
        states = model(input_ids=torch.arange(1, 19).view(2, 9)).last_hidden_state
    return torch.cat([states.mean(1), states.amax(1)][:ways], -1)


def embedded(folder: Path, ways: int) -> Tensor:
    """What the library computes up to the Dense: W x + b of what is pooled."""
    weights = load_file(folder / "3_Dense" / "model.safetensors")
    return functional.linear(pooled_states(folder, ways), weights["linear.weight"], weights["linear.bias"])


@pytest.mark.parametrize(
    ("name", "sizes", "ways"),
    [
        ("BertModel", {"hidden": "x2", "heads": "x2"}, 1),
        ("LlamaModel", {"hidden": 36, "kv_heads": 3, "layers": "+1"}, 2),
        ("GPT2Model", {"hidden": 36, "heads": 6}, 1),
    ],
)
def test_a_dense_computes_what_it_did(name: str, sizes: dict[str, Any], ways: int, tmp_path: Path) -> None:
    model = tiny.model(name).double()
    model.save_pretrained(tmp_path / "small")
    put(tmp_path / "small", pooled(tiny.HIDDEN, ways))
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", **sizes)
    before, after = (embedded(tmp_path / each, ways) for each in ("small", "large"))
    assert float((after - before).abs().max() / before.abs().max()) < 1e-12
    said = json.loads((tmp_path / "large" / "3_Dense" / "config.json").read_text())
    wide = json.loads((tmp_path / "large" / "config.json").read_text())
    hidden = wide.get("hidden_size") or wide["n_embd"]
    assert (said["in_features"], said["out_features"]) == (ways * hidden, WIDTH)
    pooling = json.loads((tmp_path / "large" / "1_Pooling" / "config.json").read_text())
    assert pooling == {"word_embedding_dimension": hidden, "pooling_mode_mean_tokens": True}
    held = torch.load(tmp_path / "large" / "3_Dense" / "pytorch_model.bin", weights_only=True)
    one = load_file(tmp_path / "large" / "3_Dense" / "model.safetensors")
    assert one.keys() == held.keys() and all(torch.equal(one[key], held[key]) for key in one)
    for rest in ("4_LayerNorm/config.json", "config_sentence_transformers.json", "modules.json"):
        assert (tmp_path / "large" / rest).read_bytes() == (tmp_path / "small" / rest).read_bytes()


def test_a_column_in_the_wrong_place_is_seen(tmp_path: Path) -> None:
    """Both ways of pooling have their own new channels."""
    folder = put(tmp_path, pooled(3, ways=2))
    weight = load_file(folder / "3_Dense" / "model.safetensors")["linear.weight"]
    made = followed(folder, "3_Dense/model.safetensors", Widened(3, 5, (0, 1, 4)))
    assert made is not None
    (tmp_path / "made").write_bytes(made)
    wide = load_file(tmp_path / "made")["linear.weight"]
    assert wide.shape == (WIDTH, 10) and not wide[:, [2, 3, 7, 8]].any()
    assert torch.equal(wide[:, [0, 1, 4, 5, 6, 9]], weight)


# ── what can't follow ──

MEAN = ("Pooling", {"embedding_dimension": 24, "pooling_mode": "mean"})
DENSE = ("Dense", {"in_features": 24, "out_features": WIDTH})
DOT = {"similarity_fn_name": "dot"}
REFUSED: dict[str, tuple[Modules, dict[str, Any], str]] = {
    "copies by product": (
        [MEAN],
        DOT,
        r"would have 48 entries in place of 24, .* \(dot\) would",
    ),
    "copies by steps": (
        [MEAN, ("Normalize", {})],
        {"similarity_fn_name": "manhattan"},
        r"how similar two of them are \(manhattan\) would change",
    ),
    "copies of other length": (
        [MEAN, ("Normalize", {}), DENSE],
        {},
        "3_Dense .* reads normalised",
    ),
    "a LayerNorm": ([MEAN, ("LayerNorm", {"dimension": 24})], {}, r"2_LayerNorm \(LayerNorm\) mixes the 24"),
    "a network": ([("LSTM", {"embedding_dimension": 24})], {}, r"1_LSTM \(LSTM\) mixes"),
    "layers weighed": ([("WeightedLayerPooling", {})], {}, r"1_WeightedLayerPooling .* no law says how"),
    "of another width": (
        [MEAN, ("Dense", {"in_features": 25, "out_features": 7})],
        {},
        "reads 25 channels, and the model gives 24",
    ),
    "a residual": (
        [MEAN, ("Dense", {"in_features": 24, "out_features": 24, "use_residual": True})],
        {},
        "adds what it reads to what it computes",
    ),
}


@pytest.fixture(scope="module")
def bert() -> transformers.PreTrainedModel:
    return tiny.model("BertModel")


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_that_can_not_follow_is_named(name: str, bert: Any, tmp_path: Path) -> None:
    modules, more, said = REFUSED[name]
    bert.save_pretrained(tmp_path / "small")
    put(tmp_path / "small", modules)
    (tmp_path / "small" / "config_sentence_transformers.json").write_text(json.dumps(more))
    with pytest.raises(CheckpointError, match=said):
        isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", hidden="x2", heads="x2")
    assert not (tmp_path / "large").exists()


@pytest.mark.parametrize(
    ("name", "sizes", "said", "times"),
    [
        ("LlamaModel", {"hidden": 36, "kv_heads": 3}, DOT, 1.0),  # zeros beside
        ("GPT2Model", {"hidden": 36, "heads": 6}, DOT, 1.0),
        ("BertModel", {"hidden": "x3", "heads": "x3"}, {}, 3.0),  # whole copies
    ],
)
def test_embeddings_without_a_dense_are_as_similar(
    name: str, sizes: dict[str, Any], said: dict[str, Any], times: float, tmp_path: Path
) -> None:
    tiny.model(name).double().save_pretrained(tmp_path / "small")
    put(tmp_path / "small", [MEAN])
    (tmp_path / "small" / "config_sentence_transformers.json").write_text(json.dumps(said))
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", **sizes)
    before, after = (pooled_states(tmp_path / each, 1) for each in ("small", "large"))
    assert after.shape[1] > before.shape[1]
    products = [each @ each.T for each in (before, after)]
    assert float((products[1] - times * products[0]).abs().max() / products[0].abs().max()) < 1e-12
    normal = put(tmp_path / "normal", [MEAN, ("Normalize", {})])
    wide = Widened(24, 72, tuple(range(24)), "copies" if times > 1 else "zeros")
    assert list(reached(normal, wide)) == ["1_Pooling"]


def test_every_other_axis_grows(bert: Any, tmp_path: Path) -> None:
    bert.save_pretrained(tmp_path / "small")
    small = put(tmp_path / "small", [MEAN, ("LayerNorm", {"dimension": 24}), ("Normalize", {})])
    isogrow.grow_checkpoint(small, tmp_path / "large", ffn=57)
    for path in sorted(small.glob("*_*/config.json")):
        assert (tmp_path / "large" / path.relative_to(small)).read_bytes() == path.read_bytes()


def test_outputs_as_wide_as_the_vocabulary_do_not_grow(tmp_path: Path) -> None:
    listed = [
        {"path": "", "type": "sentence_transformers.sparse_encoder.models.MLMTransformer"},
        {"path": "1_SpladePooling", "type": "sentence_transformers.sparse_encoder.models.SpladePooling"},
    ]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    assert reached(tmp_path, Widened(24, 48, tuple(range(24)))) == {}
    (tmp_path / "modules.json").write_text('{"path": ""}')
    with pytest.raises(CheckpointError, match="is no list of modules with path and type"):
        reached(tmp_path, Widened(24, 48, ()))
