"""Growing checkpoints on disk: exact, bit by bit where nothing is scaled, complete or not there at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import tiny
import torch
import transformers
from checkpoints import GROWTHS, SMALL, config, digests, loaded, names, save, seen, tensors, weights
from safetensors.torch import save_file
from torch import Tensor

import isogrow
from isogrow.errors import CheckpointError, IsogrowError, LawError, SizeError
from isogrow.interpreters.checkpoint import CHUNK, prepared
from isogrow.interpreters.module import grown_state
from isogrow.numbers.arithmetic import rounded
from isogrow.plans.anatomy import Header
from isogrow.plans.plan import Init
from isogrow.plans.serial import from_json
from isogrow.stores.carrying import left
from isogrow.stores.classes import Built
from isogrow.stores.loadable import built, check_loadable
from isogrow.stores.sources import open_checkpoint
from isogrow.verification.float64 import build, float64

EXACT = 1e-12
FORMATS = ("single", "sharded", "bin", "bin sharded")


def stored(folder: Path, name: str, form: str, **options: Any) -> Path:
    """A tiny checkpoint in one of the formats."""
    save(folder, name, shard="20KB" if "sharded" in form else "5GB", **options)
    if "bin" not in form:
        return folder
    index: dict[str, Any] = {"metadata": {}, "weight_map": {}}
    for path in sorted(folder.glob("*.safetensors")):
        new = path.with_name("pytorch_" + path.name).with_suffix(".bin")
        held = checkpoints.load_file(path)
        torch.save(held, new)
        index["weight_map"].update({key: new.name for key in held})
        path.unlink()
    if "sharded" in form:
        (folder / "model.safetensors.index.json").unlink()
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def difference(name: str, small: Path, large: Path) -> float:
    """The largest relative difference of an output, in float64 throughout."""
    kind = getattr(transformers, name)
    ids = torch.randint(0, tiny.VOCAB, (3, 11), generator=torch.Generator().manual_seed(1))
    models = [build(kind, loaded(f, name).config, tensors(f) or bins(f)) for f in (small, large)]
    with float64(), torch.no_grad():
        old, new = (model(input_ids=ids) for model in models)
    worst = [0.0]
    for key, x in old.items():
        if isinstance(x, Tensor) and x.is_floating_point():
            y = new[key][..., : x.shape[-1]]
            worst.append(float((x - y).abs().max() / x.abs().max()))
    assert len(worst) > 1
    return max(worst)


def bins(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.bin")):
        found.update(torch.load(path))
    return found


# ── the function is kept, and plain transformers loads it ──


@pytest.mark.slow
@pytest.mark.parametrize("name", GROWTHS)
def test_grown_in_everything_at_once(name: str, tmp_path: Path) -> None:
    small = save(tmp_path / "small", name, torch.float64)
    large = seen(small).grow(tmp_path / "large", GROWTHS[name])
    assert difference(name, small, large) < EXACT


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "GPT2LMHeadModel", "BertForMaskedLM"])
def test_every_format(name: str, form: str, tmp_path: Path) -> None:
    small = stored(tmp_path / "small", name, form, dtype=torch.float64)
    large = seen(small).grow(tmp_path / "large", GROWTHS[name], max_shard_size="40KB")
    assert len(weights(large)) > 1
    assert "model.safetensors.index.json" in names(large)
    assert difference(name, small, large) < EXACT


def test_a_nudged_weight_is_seen(tmp_path: Path) -> None:
    """The test of the test."""
    small = save(tmp_path / "small", dtype=torch.float64)
    large = seen(small).grow(tmp_path / "large", GROWTHS["LlamaForCausalLM"])
    state = tensors(large)
    state["model.layers.1.mlp.down_proj.weight"][3, 5] += 1e-6
    save_file(state, large / "model.safetensors", {"format": "pt"})
    assert difference("LlamaForCausalLM", small, large) > EXACT


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_with_and_without_the_base_models_prefix(prefix: str, tmp_path: Path) -> None:
    small = save(tmp_path / "small", "GPT2LMHeadModel", torch.float64)
    state = {prefix + key.removeprefix("transformer."): x for key, x in tensors(small).items()}
    save_file(state, small / "model.safetensors", {"format": "pt"})
    large = seen(small).grow(tmp_path / "large", GROWTHS["GPT2LMHeadModel"])
    assert all(key.startswith(prefix) for key in tensors(large))
    assert difference("GPT2LMHeadModel", small, large) < EXACT


def test_old_names_and_derived_buffers(tmp_path: Path) -> None:
    """Bert's gamma and beta come out under the names that they came with, its position ids not at all."""
    small = save(tmp_path / "small", "BertModel", torch.float64)
    state = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
        for key, x in tensors(small).items()
    }
    state["embeddings.position_ids"] = torch.arange(tiny.POSITIONS)[None]
    save_file(state, small / "model.safetensors", {"format": "pt"})
    large = seen(small).grow(tmp_path / "large", GROWTHS["BertModel"])
    assert "embeddings.position_ids" not in tensors(large)
    assert {key for key in tensors(large) if "LayerNorm" in key and ".layer.0." in key} == {
        key for key in state if "LayerNorm" in key and ".layer.0." in key
    }
    assert not any("LayerNorm.weight" in key or "LayerNorm.bias" in key for key in tensors(large))
    assert difference("BertModel", small, large) < EXACT


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "GPT2LMHeadModel", "BertForMaskedLM"])
def test_the_same_bytes_as_a_model_grown_in_memory(name: str, tmp_path: Path) -> None:
    subject = seen(save(tmp_path / "small", name, torch.bfloat16))
    made = subject.plan(GROWTHS[name])
    large = tensors(subject.grow(tmp_path / "large", made))
    for key, tensor in grown_state(tensors(tmp_path / "small"), subject.anatomy, made).items():
        assert torch.equal(large[key].view(torch.int16), tensor.view(torch.int16)), key


# ── bits ──


def scrambled(folder: Path) -> dict[str, Tensor]:
    """Any bits at all: infinities, subnormals, and NaNs with payloads, quiet and signalling; but finite ones
    in norms, whose mean new gains take."""
    generator = torch.Generator().manual_seed(4)
    state = tensors(folder)
    for key, tensor in state.items():
        bits = torch.randint(-(2**15), 2**15, tensor.shape, generator=generator, dtype=torch.int16)
        bits.view(-1)[:4] = torch.tensor([0x7F81, 0x7FC3, -0x7F, -0x3D], dtype=torch.int16)
        if tensor.dim() == 1:
            bits &= ~0x4000  # the exponent's highest bit
        state[key] = bits.view(torch.bfloat16)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return state


def test_old_bytes_that_no_rule_scales_are_bit_equal(tmp_path: Path) -> None:
    small = save(tmp_path / "small", dtype=torch.bfloat16)
    old = scrambled(small)
    assert any(x.isnan().any() for x in old.values())
    large = seen(small).grow(tmp_path / "large", seen(small).plan(SMALL, (1,), Init("normal", 0.02)))
    new = tensors(large)
    moved = {"layers.1.": "layers.2.", "layers.2.": "layers.3."}
    for key, before in old.items():
        at = next((at for at in moved if at in key), "")
        after = new[key.replace(at, moved.get(at, ""))][tuple(slice(0, n) for n in before.shape)]
        assert torch.equal(after.contiguous().view(torch.int16), before.view(torch.int16)), key


def test_what_a_rule_scales_is_rounded_once(tmp_path: Path) -> None:
    """A gain of 1.28125 would come out one step off by way of float32: of all gains, and of hidden sizes up
    to 3000, that is the one pair."""
    small, gain = save(tmp_path / "small", dtype=torch.bfloat16), torch.tensor(1.28125, dtype=torch.float64)
    held = tensors(small)
    held["model.norm.weight"][5] = gain
    save_file(held, small / "model.safetensors", metadata={"format": "pt"})
    scaled = gain * (24 / 2676) ** 0.5
    assert scaled.float().bfloat16() != rounded(scaled, torch.bfloat16)
    large = seen(small).grow(tmp_path / "large", {"hidden": 2676})
    old = tensors(small)["model.norm.weight"].double() * (24 / 2676) ** 0.5
    new = tensors(large)["model.norm.weight"][:24].double()
    below, above = (torch.nextafter(new.bfloat16(), torch.tensor(x).bfloat16()).double() for x in (-9e9, 9e9))
    assert torch.all((old - new).abs() <= torch.minimum((old - below).abs(), (old - above).abs()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "init"),
    [
        ("LlamaForCausalLM", Init("copy")),
        ("LlamaForCausalLM", Init("orthogonal")),
        ("GPT2LMHeadModel", Init()),
        ("BertForMaskedLM", Init("uniform", 0.1)),
    ],
)
def test_neither_chunks_nor_threads_nor_shards_change_a_byte(name: str, init: Init, tmp_path: Path) -> None:
    layers = "n_layer" if name.startswith("GPT2") else "num_hidden_layers"
    subject = seen(save(tmp_path / "small", name, torch.bfloat16, **{layers: 1}))
    made = subject.plan(GROWTHS[name], init=init)
    first = subject.grow(tmp_path / "whole", made)
    before = torch.get_num_threads()
    for chunk, threads, shard in ((17, 1, "5GB"), (1000, 2, "5GB"), (CHUNK, 2, "30KB")):
        torch.set_num_threads(threads)
        try:
            other = subject.grow(tmp_path / f"by-{chunk}", made, chunk=chunk, max_shard_size=shard)
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
        a, b = tensors(first), tensors(other)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key].view(torch.int16), b[key].view(torch.int16)) for key in a)


def test_another_seed_gives_other_bytes(tmp_path: Path) -> None:
    subject = seen(save(tmp_path / "small"))
    one, two = (
        weights(subject.grow(tmp_path / f"seed-{seed}", subject.plan(SMALL, seed=seed))) for seed in (1, 2)
    )
    assert one != two


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("key", ["dtype", "torch_dtype", None])
def test_conversion(dtype: str, key: str | None, tmp_path: Path) -> None:
    small = save(tmp_path / "small", dtype=torch.float64)
    given = {k: v for k, v in config(small).items() if k != "dtype"}
    given |= {} if key is None else {key: "float64"}
    (small / "config.json").write_text(json.dumps(given))
    large = seen(small).grow(tmp_path / "large", SMALL, dtype=dtype)
    assert config(large)[key or "dtype"] == dtype
    wanted = getattr(torch, dtype)
    state = tensors(large)
    assert {tensor.dtype for tensor in state.values()} == {wanted}
    assert loaded(large, "LlamaForCausalLM").dtype == wanted
    norm = tensors(small)["model.norm.weight"]
    assert torch.equal(state["model.norm.weight"], norm.to(wanted))


def test_each_tensor_keeps_its_own_dtype(tmp_path: Path) -> None:
    small = save(tmp_path / "small", dtype=torch.bfloat16)
    state = {key: x.float() if "norm" in key else x for key, x in tensors(small).items()}
    save_file(state, small / "model.safetensors", {"format": "pt"})
    large = tensors(seen(small).grow(tmp_path / "large", {**SMALL, "hidden": 36}))
    assert {"norm" in key: x.dtype for key, x in large.items()} == {
        True: torch.float32,
        False: torch.bfloat16,
    }
    assert len({("norm" in key, x.dtype) for key, x in large.items()}) == 2


def test_numbers_that_float16_cannot_hold_are_refused(tmp_path: Path) -> None:
    small = save(tmp_path / "small")
    state = tensors(small)
    state["lm_head.weight"][3, 5] = 7e4
    save_file(state, small / "model.safetensors", {"format": "pt"})
    refused(small, tmp_path / "large", "lm_head.weight would hold numbers beyond float16", dtype="float16")


# ── what is in the folder ──


def test_only_the_keys_of_the_plan_change_in_the_config(tmp_path: Path) -> None:
    small = save(tmp_path / "small")
    given = {"zebra": [1e-07, None, "ü"], **config(small), "architectures": ["LlamaForCausalLM"]}
    (small / "config.json").write_text(json.dumps(given))
    made = seen(small).plan(GROWTHS["LlamaForCausalLM"])
    large = config(seen(small).grow(tmp_path / "large", made))
    assert list(large) == [
        *given,
        "rope_theta",
    ]  # the old name of an edited θ, for readers that know no other
    changed = {key for key in large if large[key] != given.get(key)}
    assert changed == {key.partition(".")[0] for key in made.config}


CARRIED = {
    "tokenizer.json": "{}",
    "chat_template.jinja": "{{ messages }}",
    "LICENSE": "Apache",
    "sub/notes.txt": "kept",
    "1_Pooling/config.json": '{\n  "word_embedding_dimension": 24,\n  "pooling_mode_mean_tokens": true\n}\n',
    "2_Normalize/empty": "",
    "modules.json": json.dumps(
        [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]
    ),
}
LEFT = (
    "tf_model.h5", "flax_model.msgpack", "onnx/model.onnx", "model.fp16.safetensors", "pytorch_model.bin",
    "training_args.bin", "optimizer.pt", "trainer_state.json", "checkpoint-10/config.json",
    ".git/config", ".cache", "original/consolidated.00.pth", "model.safetensors.index.json",
)  # fmt: skip


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_everything_that_is_no_weight_travels(tmp_path: Path) -> None:
    small = save(tmp_path / "small", "BertModel")
    own = names(small)
    put(small, {**CARRIED, **dict.fromkeys(LEFT, "x")})
    large = seen(small).grow(tmp_path / "large", {"hidden": "x2", "heads": "x2"})
    made = {"README.md", "isogrow.json"}
    assert names(large) == own | set(CARRIED) | made
    for name in set(CARRIED) - {"1_Pooling/config.json"}:
        assert (large / name).read_text() == CARRIED[name]
    pooling = (large / "1_Pooling/config.json").read_text()
    assert pooling == CARRIED["1_Pooling/config.json"].replace("24", "48")


def test_what_stays_behind_is_told(tmp_path: Path) -> None:
    """Weights under other names too; not what is made anew, nor what is hidden."""
    small = save(tmp_path / "small", "BertModel")
    others = ("model_ema.safetensors", "latest", "global_step5/mp_rank_00_model_states.pt")
    put(small, {**CARRIED, **dict.fromkeys((*LEFT, *others), "x")})
    assert set(left(open_checkpoint(small))) == {
        "tf_model.h5", "flax_model.msgpack", "onnx/", "model.fp16.safetensors", "pytorch_model.bin",
        "training_args.bin", "optimizer.pt", "trainer_state.json", "checkpoint-10/", "original/",
        "model_ema.safetensors", "latest", "global_step5/",
    }  # fmt: skip
    assert {"training_args.bin", "optimizer.pt", "trainer_state.json"}.isdisjoint(
        left(open_checkpoint(small), "optimizer.pt")
    )
    large = seen(small).grow(tmp_path / "large", {"ffn": "x2"})
    assert names(large).isdisjoint(others)


def test_links_are_followed_inside_the_model_and_its_cache_alone(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "c0ffee", tmp_path / "blobs"
    save(snapshot)
    blobs.mkdir()
    for i, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(i))
        path.symlink_to(Path("../../blobs") / str(i))
    large = seen(snapshot).grow(tmp_path / "large", SMALL)
    assert not any(path.is_symlink() for path in large.rglob("*"))
    assert (large / "generation_config.json").read_text() == (snapshot / "generation_config.json").read_text()
    (tmp_path / "secret").write_text("secret")
    (snapshot / "vocab.txt").symlink_to(tmp_path / "secret")
    refused(snapshot, tmp_path / "other", "vocab.txt in .* is a link to .*secret, outside the model")
    (snapshot / "vocab.txt").unlink()
    (snapshot / "vocab.txt").symlink_to(tmp_path / "nothing")
    refused(snapshot, tmp_path / "other", "vocab.txt in .* is a link that leads nowhere")


CARD = """---
license: apache-2.0
base_model:
- someone/else
tags:
- bert
---

# Their words
"""


def test_the_model_card_names_the_lineage(tmp_path: Path) -> None:
    small = save(tmp_path / "small")
    (small / "README.md").write_text(CARD)
    card = (seen(small).grow(tmp_path / "large", SMALL, verify=lambda _: "Proven.") / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\nbase_model:\n- someone/else\ntags:\n- bert\n---\n")
    assert "Their words" not in card
    for words in ("`small`", "| MlpExpansion | ffn | 44 | 57 |", "| LayerAddition | layers | 3 | 4 |",
                  "Seed 3", f"isogrow {isogrow.__version__}", torch.__version__, "Proven."):  # fmt: skip
        assert words in card
    old, new = (sum(x.numel() for x in tensors(tmp_path / f).values()) for f in ("small", "large"))
    assert f"from {old:,} to {new:,} parameters" in card


def test_a_card_of_a_hub_model_names_its_base(tmp_path: Path) -> None:
    import dataclasses

    small = save(tmp_path / "small")
    (small / "README.md").write_text(CARD)
    subject = seen(small)
    from_hub = dataclasses.replace(subject.checkpoint, name="some/model", revision="c0ffee")
    large = dataclasses.replace(subject, checkpoint=from_hub).grow(tmp_path / "large", SMALL)
    card = (large / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\ntags:\n- bert\nbase_model: some/model\n---\n")
    assert json.loads((large / "isogrow.json").read_text())["source"] == {
        "name": "some/model",
        "revision": "c0ffee",
    }


def test_tied_parameters_are_counted_once(tmp_path: Path) -> None:
    small = stored(tmp_path / "small", "GPT2LMHeadModel", "single")
    state = tensors(small)
    state["lm_head.weight"] = state["transformer.wte.weight"].clone()
    save_file(state, small / "model.safetensors", {"format": "pt"})
    card = (seen(small).grow(tmp_path / "large", SMALL) / "README.md").read_text()
    counts = [loaded(tmp_path / f, "GPT2LMHeadModel").num_parameters() for f in ("small", "large")]
    assert f"from {counts[0]:,} to {counts[1]:,} parameters" in card


def test_the_record_holds_plan_versions_and_hashes(tmp_path: Path) -> None:
    subject = seen(save(tmp_path / "small"))
    made = subject.plan(SMALL)
    large = subject.grow(tmp_path / "large", made, hash_files=True)
    record = json.loads((large / "isogrow.json").read_text())
    assert from_json(record) == made
    assert record["seed"] == 3
    assert record["versions"]["transformers"] == transformers.__version__
    assert record["sha256"] == {n: d for n, d in digests(large).items() if n != "isogrow.json"}


def test_files_of_one_growth_are_the_same_each_time(tmp_path: Path) -> None:
    subject = seen(save(tmp_path / "small"))
    first, second = (digests(subject.grow(tmp_path / str(i), SMALL)) for i in range(2))
    assert first == second


def test_progress_counts_every_byte_once(tmp_path: Path) -> None:
    seen_so_far: list[tuple[int, int]] = []
    large = seen(save(tmp_path / "small")).grow(
        tmp_path / "large", SMALL, progress=lambda done, total: seen_so_far.append((done, total)), chunk=500
    )
    total = sum(x.numel() * 4 for x in tensors(large).values())
    assert len(seen_so_far) > len(tensors(large))
    assert [done for done, _ in seen_so_far] == sorted({done for done, _ in seen_so_far})
    assert seen_so_far[-1] == (total, total)


# ── ties ──


def tied(folder: Path, same: bool) -> Path:
    """A checkpoint that stores both ends of a tie."""
    save(folder, tie_word_embeddings=True)
    state = tensors(folder)
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    if not same:
        state["lm_head.weight"].view(torch.int32)[5, 3] += 1
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_both_ends_of_a_tie_are_written_alike(tmp_path: Path) -> None:
    large = tensors(seen(tied(tmp_path / "small", same=True)).grow(tmp_path / "large", {"hidden": 36}))
    assert torch.equal(large["lm_head.weight"], large["model.embed_tokens.weight"])


def test_a_tie_whose_ends_differ_is_refused(tmp_path: Path) -> None:
    small = tied(tmp_path / "small", same=False)
    refused(
        small, tmp_path / "large",
        "lm_head.weight and model.embed_tokens.weight differ, but the config ties them"
        r" \(tie_word_embeddings is true\): set it to false",
    )  # fmt: skip
    given = {**config(small), "tie_word_embeddings": False}
    (small / "config.json").write_text(json.dumps(given))
    seen(small).grow(tmp_path / "large", {"hidden": 36})


# ── refusals: one sentence, nothing left, the source untouched ──


def refused(
    small: Path,
    out: Path,
    said: str,
    sizes: Any = SMALL,
    kind: type[IsogrowError] = IsogrowError,
    **options: Any,
) -> None:
    """Growing is refused with these words, and leaves nothing."""
    around, before = sorted(out.parent.iterdir()), digests(small)
    with pytest.raises(kind, match=said):
        seen(small).grow(out, sizes, **options)
    assert sorted(out.parent.iterdir()) == around
    assert digests(small) == before


def changed(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    """A change of the stored tensors."""

    def apply(folder: Path) -> None:
        state = tensors(folder)
        change(state)
        save_file(state, folder / "model.safetensors", {"format": "pt"})

    return apply


def configured(**values: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({**config(folder), **values}))

    return apply


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "unknown tensor": (
        changed(lambda s: s.update({"model.layers.0.attn.foo": torch.ones(3)})),
        "model.layers.0.attn.foo is in the checkpoint, and no pattern of 'llama' names it",
    ),
    "missing tensor": (
        changed(lambda s: s.pop("model.layers.1.mlp.up_proj.weight")),
        "model.layers.1.mlp.up_proj.weight is missing from the checkpoint",
    ),
    "wrong shape": (
        changed(lambda s: s.update({"model.norm.weight": torch.ones(23)})),
        r"model.norm.weight has shape \[23\], but the config says \[24\]",
    ),
    "integers": (
        changed(lambda s: s.update({"model.norm.weight": torch.ones(24, dtype=torch.int64)})),
        "model.norm.weight is I64, and only floating-point weights can be grown",
    ),
    "unknown model_type": (configured(model_type="llama9"), "model_type 'llama9' is not known"),
    "quantized": (configured(quantization_config={"quant_method": "awq"}), r"quantized .*awq\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_model_is_refused(case: str, tmp_path: Path) -> None:
    change, said = BAD[case]
    small = save(tmp_path / "small")
    change(small)
    refused(small, tmp_path / "large", said)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"ffn": 43}, "would shrink ffn from 44 to 43"),
        ({"hidden": 37}, r"can't hold these sizes: .* hidden % heads == 0"),
        ({"heads": 5}, "heads=5 can't be had with kv_heads=2"),
    ],
)
def test_bad_sizes_are_refused(sizes: Any, said: str, tmp_path: Path) -> None:
    refused(save(tmp_path / "small"), tmp_path / "large", said, sizes, SizeError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "int8"}, "dtype 'int8' is not known: give one of float32, float16"),
        ({"max_shard_size": "large"}, "'large' is no number of bytes"),
    ],
)
def test_bad_options_are_refused(options: Any, said: str, tmp_path: Path) -> None:
    refused(save(tmp_path / "small"), tmp_path / "large", said, **options)


def test_a_plan_for_another_model_is_refused(tmp_path: Path) -> None:
    made = seen(save(tmp_path / "other", intermediate_size=45)).plan({"ffn": 57})
    refused(
        save(tmp_path / "small"),
        tmp_path / "large",
        "the plan is for 'llama' with .*ffn=45.*: make a plan for this model",
        made,
    )


def test_a_config_that_its_class_refuses_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    small = save(tmp_path / "small")
    (small / "config.json").write_text(json.dumps({**config(small), "hidden_act": "no such function"}))
    refused(
        small, tmp_path / "large", "transformers' 'llama' refuses the grown config: .*no such", kind=SizeError
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": 26}, r"hidden size \(26\) is not a multiple of .* heads \(4\)"),
        ({"num_hidden_layers": 4}, "has model.layers.3.*, and the grown model would lack it|has layers.3"),
        ({"num_hidden_layers": 2}, "would have layers.2.*no place for it"),
        ({"intermediate_size": 45}, r"would be \[44, 24\], but LlamaForCausalLM .* \[45, 24\]"),
    ],
)
def test_the_class_is_asked_for_names_and_shapes(change: Any, said: str, tmp_path: Path) -> None:
    subject = seen(save(tmp_path / "small"))
    given, headers = config(tmp_path / "small"), subject.checkpoint.headers
    state = torch.get_rng_state()
    check_loadable(built(given), headers, headers)
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(SizeError, match=said):
        check_loadable(built({**given, **change}), headers, headers)


def test_a_class_that_transformers_lacks_is_not_asked(tmp_path: Path) -> None:
    headers = seen(save(tmp_path / "small")).checkpoint.headers
    check_loadable(built({"model_type": "my_own"}), headers, headers)


def test_a_prefix_may_have_numbers_in_it() -> None:
    stored = {"wav2vec2.layers.0.w": Header((3, 5), "F32"), "wav2vec2.layers.1.w": Header((3, 5), "F32")}
    shapes = {name.removeprefix("wav2vec2."): header.shape for name, header in stored.items()}
    check_loadable(Built("Own", "Own", "wav2vec2", shapes), stored, stored)
    with pytest.raises(SizeError, match=r"Own of the grown config has layers\.2\.w"):
        check_loadable(Built("Own", "Own", "wav2vec2", {**shapes, "layers.2.w": (3, 5)}), stored, stored)


def test_a_class_of_ones_own_is_asked_as_its_base_model(tmp_path: Path) -> None:
    subject = seen(save(tmp_path / "small"))
    given = {**config(tmp_path / "small"), "architectures": ["MyLlama"]}
    check_loadable(built(given), subject.checkpoint.headers, subject.checkpoint.headers)
    with pytest.raises(SizeError, match="LlamaModel of the grown config"):
        check_loadable(
            built({**given, "num_hidden_layers": 4}), subject.checkpoint.headers, subject.checkpoint.headers
        )


def test_what_would_be_written_is_known_before(tmp_path: Path) -> None:
    subject = seen(save(tmp_path / "small"))
    made = subject.plan(SMALL)
    job = prepared(subject.checkpoint, subject.anatomy, made, max_shard_size="30KB")
    large = subject.grow(tmp_path / "large", made, max_shard_size="30KB")
    assert {shard.file: shard.size for shard in job.shards} == {
        name: (large / name).stat().st_size for name in weights(large)
    }


def test_a_region_too_large_to_be_made_whole_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = save(tmp_path / "small")
    made = seen(small).plan(SMALL, init=Init("orthogonal"))
    seen(small).grow(tmp_path / "large", made)
    monkeypatch.setattr("isogrow.numbers.initializers.WHOLE_LIMIT", 300)
    monkeypatch.setattr("isogrow.interpreters.checkpoint.staged", None)  # not even begun
    refused(small, tmp_path / "other", "init 'orthogonal' needs a new block of 312 entries whole", made)


def test_a_verification_that_fails_leaves_no_output(tmp_path: Path) -> None:
    def verify(folder: Path) -> str:
        assert loaded(folder, "LlamaForCausalLM").config.intermediate_size == 57
        raise LawError("the function has changed")

    refused(
        save(tmp_path / "small"), tmp_path / "large", "the function has changed", kind=LawError, verify=verify
    )


def test_a_source_that_vanishes_is_a_refusal(tmp_path: Path) -> None:
    subject = seen(save(tmp_path / "small"))
    shutil.move(tmp_path / "small" / "model.safetensors", tmp_path / "away")
    os.truncate(tmp_path / "away", 0)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is gone since the model was opened"):
        subject.grow(tmp_path / "large", SMALL)
    assert not (tmp_path / "large").exists()


@pytest.mark.parametrize(
    "scaling",
    [
        {"type": "linear", "factor": 2.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ],
)
def test_nested_keys_of_the_config_stay_as_they_are(tmp_path: Path, scaling: dict[str, Any]) -> None:
    """transformers rewrites an older `rope_scaling` where it lies when it makes a config of it."""
    folder = save(tmp_path / "small")
    config = json.loads((folder / "config.json").read_text())
    config.pop("rope_parameters", None)
    config |= {"rope_theta": 5000.0, "rope_scaling": scaling}
    (folder / "config.json").write_text(json.dumps(config))
    isogrow.grow_checkpoint(folder, tmp_path / "large", ffn="x2")
    grown = json.loads((tmp_path / "large" / "config.json").read_text())
    assert grown == {**config, "intermediate_size": 2 * config["intermediate_size"]}
