"""What `plan` tells, where it takes sizes from, and what it (and `grow`) refuses."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import pytest
from command import GROWTH, checkpoints, config, isogrow, write
from safetensors.torch import load_file

from isogrow.cli import facts
from isogrow.interpreters import checkpoint


@pytest.fixture(scope="module")
def models() -> Mapping[str, Path]:
    return checkpoints()


@pytest.fixture(scope="module")
def llama() -> Path:
    return checkpoints()["LlamaForCausalLM"]


# ── plan ──


def test_plan(llama: Path) -> None:
    ran = isogrow("plan", llama, *GROWTH)
    assert (ran.code, ran.err) == (0, "")
    for line in (
        " 1 HiddenExpansion  hidden 24 → 30\n    zero    embed  attn.o  mlp.down\n",
        "    scaled  attn_norm  mlp_norm  final_norm  × 0.8944\n",
        " 2 HeadAddition  kv_heads 2 → 3 (heads 4 → 6)\n",
        " 4 LayerAddition  layers 3 → 5\n",
        " ffn              44      88\n",
        " rms_norm_eps         1e-06   8e-07\n",
        "every new part has gradient by training step 2\n",
    ):
        assert line in ran.out


def test_plan_shows_means_copies_and_biases(models: Mapping[str, Path]) -> None:
    out = isogrow("plan", models["GPT2LMHeadModel"], "--hidden", 36, "--heads", 6, "--init", "copy").out
    assert "    mean    embed  positions  attn.o+bias  mlp.down+bias\n" in out
    assert "    copied  attn.q+bias  attn.k+bias  attn.v+bias\n" in out


def changed(source: Path, folder: Path, **keys: Any) -> Path:
    """A copy with another config.json."""
    shutil.copytree(source, folder)
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**data, **keys}))
    return folder


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"hidden_act": "swoosh"}, "transformers' 'llama' refuses the grown config: 'swoosh'"),
        ({"attention_dropout": "no"}, "refuses the grown config: Field 'attention_dropout'"),
    ],
)
def test_plan_refuses_what_grow_refuses(keys: dict[str, Any], said: str, llama: Path, tmp_path: Path) -> None:
    small = changed(llama, tmp_path / "small", **keys)
    for verb in (("plan", small), ("grow", small, tmp_path / "out")):
        ran = isogrow(*verb, "--ffn", "x2")
        assert ran.code == 2 and said in " ".join(ran.err.split())
    assert not (tmp_path / "out").exists()


def test_plan_says_what_grow_needs_and_leaves(llama: Path, tmp_path: Path) -> None:
    """A class that is not named, an optimizer's state that can't grow, weights under another name."""
    small = changed(llama, tmp_path / "small", architectures=None)
    for name in ("optimizer.pt", "model_ema.safetensors"):
        (small / name).write_bytes(b"x" * 99)
    data = isogrow("plan", small, "--ffn", "x2", "--json").json
    assert [need.partition(",")[0] for need in data["needs"]] == ["--no-verify", "--optimizer drop"]
    assert data["left"] == ["model_ema.safetensors", "optimizer.pt"]
    shown = " ".join(isogrow("plan", small, "--ffn", "x2", columns=200).out.split())
    assert "LlamaModel would leave out lm_head.weight: name the class in its architectures" in shown
    assert "stays behind model_ema.safetensors, optimizer.pt" in shown
    out = tmp_path / "out"
    for options in ((), ("--no-verify",), ("--optimizer", "drop")):
        assert isogrow("grow", small, out, "--ffn", "x2", *options).code == 2 and not out.exists()
    ran = isogrow("grow", small, out, "--ffn", "x2", "--no-verify", "--optimizer", "drop")
    assert ran.code == 0 and "left behind: model_ema.safetensors, optimizer.pt" in ran.out
    whole = isogrow("plan", llama, "--ffn", "x2", "--json").json
    assert (whole["needs"], whole["left"]) == ([], [])


def test_plan_says_what_grow_writes(llama: Path, tmp_path: Path) -> None:
    data = isogrow("plan", llama, *GROWTH, "--json").json
    out = tmp_path / "out"
    assert isogrow("grow", llama, out, *GROWTH, "--no-verify").code == 0
    tensors = load_file(out / "model.safetensors")
    after = data["after"]
    assert after["parameters"] == sum(t.numel() for t in tensors.values())
    assert after["bytes"] == sum(t.numel() * t.element_size() for t in tensors.values())
    assert after["tensors"] == len(tensors)
    largest = data["largest"]
    assert largest["shape"] == list(tensors[largest["name"]].shape)
    assert largest["bytes"] == max(4 * prod(t.shape) for t in tensors.values())
    grown = json.loads((out / "config.json").read_text())
    assert {key: grown[key] for key in data["config"]} == {k: new for k, (_, new) in data["config"].items()}
    assert json.loads((out / "isogrow.json").read_text())["plan"] == data["plan"]


def test_plan_counts_the_bytes_of_another_dtype(llama: Path) -> None:
    four, two = (
        isogrow("plan", llama, "--ffn", "+4", "--json", *options).json["after"]["bytes"]
        for options in ([], ["--dtype", "bfloat16"])
    )
    assert four == 2 * two


@pytest.mark.parametrize(
    "sizes", [["--ffn", "88"], ["--ffn", "+44"], ["--ffn", "x2"], ["--size", "ffn=88"], ["--size", "ffn=x2"]]
)
def test_sizes_can_be_said_in_three_ways(sizes: list[str], llama: Path) -> None:
    assert isogrow("plan", llama, *sizes, "--json").json["after"]["sizes"]["ffn"] == 88


def test_head_counts(llama: Path) -> None:
    alone = isogrow("plan", llama, "--heads", 8, "--json").json
    assert (alone["after"]["sizes"]["heads"], alone["after"]["sizes"]["kv_heads"]) == (8, 2)
    both = isogrow("plan", llama, "--heads", 12, "--kv-heads", 4, "--json").json
    assert (both["after"]["sizes"]["heads"], both["after"]["sizes"]["kv_heads"]) == (12, 4)


def test_init_reaches_the_plan(llama: Path) -> None:
    data = isogrow(
        *("plan", llama, "--ffn", "+4", "--init", "uniform", "--init-std", "0.5", "--seed", "7", "--json")
    ).json
    assert data["plan"]["seed"] == data["seed"] == 7
    free = data["plan"]["steps"][0]["rewrites"]["mlp.up"]["new"]
    assert free["init"] == {"kind": "uniform", "std": 0.5}


@pytest.mark.parametrize("place", ["start", "even", "0,2"])
def test_layers_at(place: str, llama: Path) -> None:
    data = isogrow("plan", llama, "--layers", "+2", "--layers-at", place, "--json").json
    new = [p["start"] for p in data["plan"]["steps"][0]["places"] if p["label"] == "new"]
    assert new == {"start": [0, 1], "even": [2, 4], "0,2": [0, 3]}[place]


def test_a_plan_file_is_run_as_it_is(llama: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    ran = isogrow("plan", llama, *GROWTH, "--seed", 5, "--out", file)
    assert ran.code == 0
    assert ran.out.endswith(f"\n next  isogrow grow {llama} OUT --plan {file}\n")
    again = isogrow("plan", llama, "--plan", file, "--json").json
    assert again["plan"] == json.loads(file.read_text())
    for out, options in (("a", ["--plan", file]), ("b", [*GROWTH, "--seed", 5])):
        assert isogrow("grow", llama, tmp_path / out, *options, "--no-verify").code == 0
    weights = [(tmp_path / out / "model.safetensors").read_bytes() for out in "ab"]
    assert weights[0] == weights[1]
    recorded = isogrow("plan", llama, "--plan", tmp_path / "a" / "isogrow.json", "--json").json
    assert recorded["plan"] == again["plan"]


def test_the_estimate_knows_the_chunk() -> None:
    assert facts.CHUNK == checkpoint.CHUNK


# ── --to ──

LARGER = {
    "hidden_size": 48,
    "intermediate_size": 90,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 12,
}


def test_to_takes_every_size_of_a_sibling(llama: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "config.json", config(llama, **LARGER, bos_token_id=1, attention_dropout=0.1))
    for place in (file, tmp_path):
        data = isogrow("plan", llama, "--to", place, "--json").json
        assert {key: new for key, (_, new) in data["config"].items() if key in LARGER} == LARGER
    assert isogrow("grow", llama, tmp_path / "out", "--to", file, "--no-verify").code == 0
    assert config(tmp_path / "out").items() >= LARGER.items()


def test_to_reads_rotary_positions_in_the_old_way(llama: Path, tmp_path: Path) -> None:
    old = config(llama, **LARGER, rope_theta=10000.0)
    del old["rope_parameters"]
    assert isogrow("plan", llama, "--to", write(tmp_path / "old.json", old)).code == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "mistral"}, "is of model_type 'mistral' and the model is of 'llama'"),
        ({"vocab_size": 54}, "vocab (here 53, there 54)"),
        ({"hidden_act": "gelu"}, "hidden_act (here 'silu', there 'gelu')"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings (here False, there True)"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps (here 1e-06, there 1e-05)"),
        ({"rope_parameters": {"rope_theta": 5e5}}, "rotary positions (here {'theta': 10000.0}, there"),
        ({"hidden_size": 20}, "would shrink hidden from 24 to 20"),
        ({"num_attention_heads": 9}, "contradicts itself: num_attention_heads is 9"),
    ],
)
def test_to_refuses_what_is_no_larger_sibling(
    changes: dict[str, Any], said: str, llama: Path, tmp_path: Path
) -> None:
    ran = isogrow("plan", llama, "--to", write(tmp_path / "to.json", config(llama, **(LARGER | changes))))
    assert ran.code == 2
    assert said in ran.err


def test_to_names_all_that_differs(llama: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "to.json", config(llama, **LARGER, hidden_act="gelu", vocab_size=54))
    err = isogrow("plan", llama, "--to", other).err
    assert "hidden_act" in err
    assert "vocab" in err


def test_to_of_an_absolute_position_model(models: Mapping[str, Path], tmp_path: Path) -> None:
    gpt2 = models["GPT2LMHeadModel"]
    larger = {"n_embd": 30, "n_head": 5, "n_layer": 4}
    good = write(tmp_path / "a.json", config(gpt2, **larger))
    assert isogrow("plan", gpt2, "--to", good).code == 0
    longer = write(tmp_path / "b.json", config(gpt2, **larger, n_positions=64))
    assert "positions (here 32, there 64)" in isogrow("plan", gpt2, "--to", longer).err


# ── refusals ──


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no size is given, so there is nothing to grow: give one, like --ffn x2"),
        (["--ffn", "44"], "the model has these sizes already"),
        (["--ffn", "3"], "would shrink ffn from 44 to 3: give more than 44"),
        (["--ffn", "abc"], "ffn='abc' is no size: give a number, '+4' or 'x2'"),
        (["--hidden", "33"], "its config needs hidden % heads == 0"),
        (["--heads", "5"], "heads=5 can't be had with kv_heads=2"),
        (["--head-dim", "11"], "head_dim=11 is odd, and rotary positions pair its channels: give 12"),
        (
            ["--size", "encoder.layers=8"],
            "encoder is no stack of 'llama', which has one stack: give one of its axes",
        ),
        (["--size", "ffn"], "--size 'ffn' can't be read: give AXIS=SIZE"),
        (["--size", "ffn=50", "--ffn", "60"], "ffn is given twice, 60 and 50"),
        (["--ffn", "50", "--layers-at", "1"], "--layers-at says where new layers go"),
        (["--layers", "+1", "--layers-at", "middle"], "layers at 'middle': give end, start, even"),
        (["--layers", "+1", "--layers-at", "9"], "expected one number from 0 to 3"),
        (["--ffn", "x2", "--init", "zeros"], "--init 'zeros' is not known: give one of normal,"),
        (["--ffn", "x2", "--init-std", "-1"], "--init-std '-1' is no std"),
        (["--ffn", "x2", "--init-std", "nan"], "--init-std 'nan' is no std"),
        (["--ffn", "x2", "--dtype", "int8"], "'int8'"),
        (["--ffn", "x2", "--revision", "main"], "revision 'main' is for Hub ids"),
        (["--to", "nowhere.json", "--ffn", "60"], "--to gives every size: leave out --ffn, or --to"),
        (["--to", "nowhere.json"], "nowhere.json is missing"),
        (["--plan", "nowhere.json"], "nowhere.json is missing"),
        (["--plan", "p.json", "--seed", "3", "--ffn", "60"], "leave out --ffn, --seed, or --plan"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "grow"])
def test_a_refusal_is_one_sentence(
    verb: str, arguments: list[str], said: str, llama: Path, tmp_path: Path
) -> None:
    out = [tmp_path / "out"] if verb == "grow" else []
    ran = isogrow(verb, llama, *out, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("refused: ")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["inspect", "plan", "grow", "verify"])
def test_a_model_that_is_not_there(verb: str, tmp_path: Path) -> None:
    rest = {"plan": ["--ffn", "x2"], "grow": [tmp_path / "out", "--ffn", "x2"], "verify": [tmp_path]}
    ran = isogrow(verb, tmp_path / "nothing", *rest.get(verb, []))
    assert (ran.code, ran.out) == (2, "")
    assert "is no folder" in ran.err


def test_an_unknown_family(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(llama, folder)
    write(folder / "config.json", config(llama, model_type="reformer"))
    ran = isogrow("inspect", folder)
    assert ran.code == 2
    assert "model_type 'reformer' is not grown: attention is a Fourier transform, a hash" in ran.err
    write(folder / "config.json", config(llama, model_type="roformerr"))
    ran = isogrow("inspect", folder)
    assert "model_type 'roformerr' is not known (of the " in ran.err and ", like it: roformer" in ran.err
    stateless = config(llama)
    del stateless["model_type"]
    write(folder / "config.json", stateless)
    assert "states no model_type" in isogrow("inspect", folder).err


def test_a_refusal_in_json(llama: Path) -> None:
    ran = isogrow("plan", llama, "--ffn", "3", "--json")
    assert ran.code == 2
    assert ran.json == {
        "refused": {
            "kind": "SizeError",
            "why": "ffn='3' would shrink ffn from 44 to 3: give more than 44",
        }
    }
    assert ran.err == "refused: ffn='3' would shrink ffn from 44 to 3: give more than 44\n"


def test_a_plan_for_another_model(models: Mapping[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    assert isogrow("plan", models["LlamaForCausalLM"], "--ffn", "x2", "--out", file).code == 0
    ran = isogrow("plan", models["Qwen3ForCausalLM"], "--plan", file)
    assert ran.code == 2
    assert "the plan is for 'llama' with vocab=53, hidden=24, ffn=44, heads=4," in ran.err
    assert "and this model is 'qwen3' with" in ran.err


def test_a_plan_that_its_disk_has_no_room_for_leaves_nothing(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str, **given: Any) -> None:
        path.write_bytes(text.encode()[:9])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    ran = isogrow("plan", llama, "--ffn", "x2", "--out", tmp_path / "p.json")
    assert ran.code == 2 and "p.json can't be written (No space left on device)" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_plan_file_is_not_lost(llama: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "plan.json", {"mine": 1})
    ran = isogrow("plan", llama, "--ffn", "x2", "--out", file)
    assert ran.code == 2
    assert "exists: name another file, or give --overwrite" in ran.err
    assert json.loads(file.read_text()) == {"mine": 1}
    assert isogrow("plan", llama, "--ffn", "x2", "--out", file, "--overwrite").code == 0
    assert json.loads(file.read_text())["family"] == "llama"
    nowhere = isogrow("plan", llama, "--ffn", "x2", "--out", tmp_path / "no" / "plan.json")
    assert nowhere.code == 2
    assert "can't be written (No such file or directory)" in nowhere.err


def test_a_plan_is_never_written_into_the_model(llama: Path) -> None:
    before = (llama / "config.json").read_bytes()
    for name in ("plan.json", "config.json"):
        ran = isogrow("plan", llama, "--ffn", "+4", "--out", llama / name, "--overwrite")
        assert ran.code == 2
        assert "lies inside the model" in ran.err
    assert (llama / "config.json").read_bytes() == before
    assert not (llama / "plan.json").exists()


def test_a_folder_is_no_file_for_a_plan(llama: Path, tmp_path: Path) -> None:
    ran = isogrow("plan", llama, "--ffn", "+4", "--out", tmp_path, "--overwrite")
    assert ran.code == 2
    assert "is a folder: name a file" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_breaks_a_law(llama: Path, tmp_path: Path) -> None:
    """A file edited by hand is asked the same laws as a plan that is made."""
    file = tmp_path / "plan.json"
    assert isogrow("plan", llama, "--ffn", "+4", "--out", file).code == 0
    data = json.loads(file.read_text())
    data["steps"][0]["rewrites"]["mlp.down"]["new"] = data["steps"][0]["rewrites"]["mlp.up"]["new"]
    ran = isogrow("plan", llama, "--plan", write(file, data))
    assert ran.code == 2
    assert "would change the function" in ran.err
    data["steps"][0]["rewrites"]["mlp.sideways"] = data["steps"][0]["rewrites"]["mlp.up"]
    assert (
        "the plan says what becomes of mlp.sideways, which this model lacks"
        in isogrow("plan", llama, "--plan", write(file, data)).err
    )


# ── engines ──

WIDER = ("--hidden", 36, "--heads", 6)
CT2 = "CTranslate2 4.8.5 runs 'gpt2' with layer_norm_epsilon 1e-05 whatever the config says"


def test_plan_and_the_card_say_what_engines_would_compute_otherwise(
    models: Mapping[str, Path], tmp_path: Path
) -> None:
    small = models["GPT2LMHeadModel"]
    lines = isogrow("plan", small, *WIDER, "--json").json["elsewhere"]
    assert any(line.startswith(CT2) and line.endswith("; --for ctranslate2 keeps it") for line in lines)
    assert "elsewhere" in isogrow("plan", small, *WIDER).out
    assert isogrow("plan", small, "--layers", "+1", "--json").json["elsewhere"] == []
    ran = isogrow("grow", small, tmp_path / "plain", *WIDER, "--no-verify")
    card = (tmp_path / "plain" / "README.md").read_text()
    assert CT2 in " ".join(ran.out.split()) and f"\n- {CT2}" in card and "## Elsewhere" in card
    isogrow("grow", small, tmp_path / "for", *WIDER, "--for", "ctranslate2", "--no-verify")
    assert CT2 not in (tmp_path / "for" / "README.md").read_text()


def test_for_an_engine(models: Mapping[str, Path], llama: Path) -> None:
    """An ε that stays, what it costs, sizes that do, and options that can't be had together."""
    small = models["GPT2LMHeadModel"]
    ran = isogrow("plan", small, *WIDER, "--for", "ctranslate2,openvino", "--for", "tp=2")
    said = " ".join(ran.out.split())
    assert ran.code == 0 and "layer_norm_epsilon stays, so what writes the residual takes × 1.225" in said
    ran = isogrow("plan", llama, "--hidden", 32, "--for", "ctranslate2")
    said = " ".join(ran.err.split())
    assert ran.code == 2 and "without heads * head_dim == hidden, here" in said and "would do" in said
    ran = isogrow("plan", llama, "--plan", "x.json", "--for", "mlx")
    assert ran.code == 2 and "leave out --for, or --plan" in " ".join(ran.err.split())
