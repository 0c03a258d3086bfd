"""What people get wrong first: each is refused in one sentence that says the mend, and nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import config, digests, save
from command import isogrow as command
from torch.optim import AdamW
from transformers import LlamaForCausalLM

import isogrow
from isogrow.errors import IsogrowError, OutputError


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that no test may change."""
    return save(tmp_path_factory.mktemp("first") / "small")


def refused(given: Any, out: Path, **sizes: Any) -> str:
    """What growing this says, having written nothing."""
    before = digests(out.parent)
    with pytest.raises(IsogrowError) as said:
        isogrow.grow_checkpoint(given, out, **sizes)
    assert digests(out.parent) == before and not out.exists()
    return one_sentence(str(said.value))


def one_sentence(said: str) -> str:
    assert "\n" not in said and not said.endswith(".") and "Traceback" not in said
    return said


# ── the wrong thing ──


def only(*names: str) -> Callable[[Path], None]:
    """Leave nothing but these files in a model's folder."""

    def change(model: Path) -> None:
        for path in model.iterdir():
            if path.name not in names:
                path.unlink()

    return change


def in_a_run(model: Path) -> None:
    """As a trainer leaves it: the model is in a folder of the one that is given."""
    (model / "checkpoint-100").mkdir()
    for path in model.glob("*.*"):
        path.rename(model / "checkpoint-100" / path.name)
    shutil.copytree(model / "checkpoint-100", model / "checkpoint-20")


def with_config(**changes: Any) -> Callable[[Path], None]:
    return lambda model: _write(model / "config.json", json.dumps(config(model) | changes))


def cut(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pointer(model: Path) -> None:
    _write(model / "model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def pointers(model: Path) -> None:
    _write(model / "config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def gguf(model: Path) -> None:
    only("config.json")(model)
    _write(model / "model-q4.gguf", "GGUF")


def variant(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model.fp16-00001-of-00001.safetensors")


def _write(path: Path, text: str) -> None:
    path.write_text(text)


FOLDERS: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "an empty folder": (only(), "config.json is missing from"),
    "a run of a trainer": (in_a_run, "give one of its 2 checkpoints, "),
    "a config alone": (only("config.json"), "holds no weights: expected model.safetensors or"),
    "weights alone": (only("model.safetensors"), "config.json is missing from"),
    "a GGUF file that is none": (gguf, "model-q4.gguf is a GGUF file that was cut off, is damaged or"),
    "a variant": (variant, "variant='fp16'), save that, and grow that"),
    "a file that was cut off": (cut, "model.safetensors is cut off: it has"),
    "a pointer of Git LFS": (pointer, "run git lfs pull"),
    "pointers alone": (pointers, "config.json is a pointer of Git LFS"),
    "a quantized model": (
        with_config(quantization_config={"quant_method": "bitsandbytes"}),
        "give the model that it was quantized from",
    ),
    "another kind of model": (
        with_config(model_type="rwkv"),
        "model_type 'rwkv' is not grown: its layers hold a recurrence",
    ),
    "another model's config": (with_config(hidden_size=28), "do not belong together"),
}


@pytest.mark.parametrize("mistake", FOLDERS)
def test_a_folder_that_is_no_model(mistake: str, small: Path, tmp_path: Path) -> None:
    change, said = FOLDERS[mistake]
    shutil.copytree(small, tmp_path / "given")
    change(tmp_path / "given")
    assert said in refused(tmp_path / "given", tmp_path / "large", ffn="x2")


def test_a_gguf_file_beside_weights_is_left_behind(small: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(small, tmp_path / "whole")
    (whole / "m.gguf").write_text("GGUF")
    isogrow.grow_checkpoint(whole, tmp_path / "large", ffn="x2")
    assert not (tmp_path / "large" / "m.gguf").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "nothing"])
def test_a_path_that_is_no_folder(name: str, small: Path, tmp_path: Path) -> None:
    said = refused(small / name, tmp_path / "large", ffn="x2")
    assert f"{name} is no folder: give a model's folder (with config.json) or a Hub id" in said


def test_a_run_names_its_last_checkpoint(small: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small, tmp_path / "run")
    in_a_run(run)
    last = refused(run, tmp_path / "large", ffn="x2").rpartition(", ")[2].removesuffix(" is the last")
    isogrow.grow_checkpoint(last, tmp_path / "large", ffn="x2")
    assert last == str(run / "checkpoint-100") and (tmp_path / "large" / "config.json").is_file()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "None is no folder: give a model's folder (with config.json) or a Hub id"),
        (b"small", "b'small' is no folder: give"),
        ("", "'' is no folder: give"),
        ({"config": {}}, "{'config': {}} is no folder: give"),
    ],
    ids=str,
)
def test_what_is_no_name_of_a_folder(given: Any, said: str, tmp_path: Path) -> None:
    assert refused(given, tmp_path / "large", ffn="x2").startswith(said)
    with pytest.raises(IsogrowError) as raised:
        isogrow.plan(given, ffn="x2")
    assert one_sentence(str(raised.value)).startswith(said)


def test_a_model_is_not_grown_as_a_folder(small: Path, tmp_path: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(small)
    said = refused(model, tmp_path / "large", ffn="x2")
    assert said.startswith("a LlamaForCausalLM is no folder, and a folder or a Hub id was expected: grow a")
    assert "isogrow.grow(model, …)" in said
    assert isogrow.grow(model, ffn="x2").config.intermediate_size == 2 * model.config.intermediate_size


@pytest.mark.parametrize("out", [None, 3, {}], ids=str)
def test_a_place_that_is_none(out: Any, small: Path) -> None:
    with pytest.raises(OutputError, match=f"out is {out}: name the folder to write"):
        isogrow.grow_checkpoint(small, out, ffn="x2")


@pytest.mark.parametrize("name", ["optimizer", "scheduler", "ema", "policy", "release"])
def test_what_trains_a_model_is_not_given_to_grow(name: str, small: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(small)
    given: Any = {name: object()}
    with pytest.raises(IsogrowError, match=f"grow takes no {name}: .*isogrow.grow_training"):
        isogrow.grow(model, ffn="x2", **given)
    with pytest.raises(IsogrowError, match=f"plan takes no {name}: a plan is of the model alone"):
        isogrow.plan(model, ffn="x2", **given)


def test_the_folder_as_it_was_is_grown(small: Path, tmp_path: Path) -> None:
    """So it is the mistake that is refused above."""
    shutil.copytree(small, tmp_path / "given")
    isogrow.grow_checkpoint(tmp_path / "given", tmp_path / "large", ffn="x2")
    assert config(tmp_path / "large")["intermediate_size"] == 2 * config(small)["intermediate_size"]


# ── the wrong request ──

REQUESTS: list[tuple[dict[str, Any], str]] = [
    ({"ffn": "2x"}, "ffn='2x' is no size: give a number, '+4' or 'x2'"),
    ({"ffn": "wide"}, "ffn='wide' is no size: give a number, '+4' or 'x2'"),
    ({"ffn": -3}, "ffn=-3 is no size"),
    ({"ffn": 0}, "ffn=0 would shrink ffn from 44 to 0: give more than 44"),
    ({"ffn": "x0.5"}, "ffn='x0.5' would shrink ffn from 44 to 22: give more than 44"),
    ({"ffn": True}, "ffn=True is no size"),
    ({"ffn": None}, "ffn=None is no size"),
    ({"ffn": [88]}, "ffn=[88] is no size"),
    ({"intermediate_size": 88}, "intermediate_size is no axis that grows: give one of dt_rank, expert_ffn,"),
    ({"layer": "+1"}, "layer is no axis that grows: give one of"),
    ({"vocab": 64}, "vocab is no axis that grows: give one of"),
    ({"heads": 5}, "heads=5 can't be had with kv_heads=2"),
    ({"layers": "+1", "layers_at": 9}, "layers at 9: expected one number from 0 to 3"),
    ({"layers": "+2", "layers_at": (1,)}, "layers at 1: expected 2 numbers from 0 to 3"),
    ({"ffn": 88, "dtype": "fp8"}, "dtype 'fp8' is not known: give one of float32,"),
    ({"ffn": 88, "init": "xavier"}, "init 'xavier' is not known: give one of normal,"),
    ({}, "no size is given, so there is nothing to grow: give one, like ffn='x2', or to= or plan="),
    (
        {"ffn": 88, "layers_at": "even"},
        "layers_at= says where new layers go, and there are none: give layers=",
    ),
    ({"ffn": 88, "to": {}}, "to= gives every size: leave out ffn=, or to="),
    (
        {"ffn": 88, "plan": "plan.json", "seed": 3},
        "plan= says everything itself: leave out ffn=, seed=, or plan=",
    ),
    ({"plan": "nowhere.json"}, "nowhere.json is missing from"),
    ({"plan": 3}, "plan= is given 3, which is no isogrow.Plan: give one, its JSON, or the file"),
    (
        {"to": 3},
        "to= is given a int, which is no config: give a larger sibling's config, as it is or as a dict, its",
    ),
    ({"to": {"model_type": "gpt2"}}, "the config in to= is of model_type 'gpt2' and the model is of 'llama'"),
    ({"ffn": 88, "seed": "a"}, "seed 'a' is no whole number: give one"),
    ({"ffn": 88, "init_std": "x"}, "init_std 'x' is no std: give match, or a number above 0"),
    ({"ffn": 44}, "the model has these sizes already, so there is nothing to grow: give larger ones"),
    ({"layers": 200_000}, "layers='200000' is larger than any model's: give 10,000 or less"),
    ({"ffn": 88, "verify": True}, "verify is True, and is a function that is called with the folder"),
]


def test_keys_of_configs_are_told_as_axes(small: Path, tmp_path: Path) -> None:
    said = refused(small, tmp_path / "large", d_model="x2", num_hidden_layers=4)
    assert said.endswith("(d_model is hidden here; num_hidden_layers is layers here)")


# ── the wrong thing in memory ──


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model: isogrow.plan_of("large"), "'large' is no model in memory: a grown folder's plan is"),
        (
            lambda model: isogrow.pace(model, AdamW(model.parameters()), None, isogrow.Policy()),
            "pace() is given None for a plan: give the one that grow_ returned",
        ),
        (lambda model: isogrow.grow_training(model, ema=3, ffn="x2"), "ema is a int: give the average"),
        (
            lambda model: isogrow.grow_(model, policy=isogrow.Policy(old_rate=0), ffn="x2"),
            "a scheduler, a policy or release is given without an optimizer",
        ),
        (
            lambda model: isogrow.grow(cut_by_hand(model), ffn="x2"),
            "model.layers.2.input_layernorm.weight is",
        ),
        (
            lambda model: isogrow.grow(model, ffn="x2", init=lambda: 0),
            "init 'test_first_contact.<lambda>.<locals>.<lambda>' ended with TypeError (",
        ),
        (
            lambda model: isogrow.grow(model.to(torch.float8_e4m3fn), ffn="x2"),
            "LlamaForCausalLM has parameters of torch.float8_e4m3fn, and only 16 bits or more can",
        ),
        (
            lambda model: torch.inference_mode()(isogrow.grow)(model, ffn="x2"),
            "LlamaForCausalLM is given under torch.inference_mode(), where what is made can never be trained",
        ),
        (lambda model: isogrow.register_initializer(3, print), "3 is no name for an initializer"),
    ],
)
def test_what_is_wrong_in_memory_is_told(call: Callable[[Any], Any], said: str, small: Path) -> None:
    with pytest.raises(IsogrowError) as raised:
        call(LlamaForCausalLM.from_pretrained(small))
    assert one_sentence(str(raised.value)).startswith(said)


def cut_by_hand(model: LlamaForCausalLM) -> LlamaForCausalLM:
    model.model.layers = model.model.layers[:2]
    return model


def test_a_model_in_memory_is_called_none_on_disk(small: Path) -> None:
    with pytest.raises(IsogrowError, match=r"missing from the model, .*: give a model as its class makes it"):
        isogrow.grow(cut_by_hand(LlamaForCausalLM.from_pretrained(small)), ffn="x2")


def test_a_siblings_config_may_be_given_as_it_is(small: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(small)
    wide = isogrow.grow(model, ffn="x2").config
    assert isogrow.grow(model, to=wide).config.intermediate_size == 2 * model.config.intermediate_size
    with pytest.raises(IsogrowError, match="to= is given a LlamaForCausalLM, which is no config"):
        isogrow.plan(model, to=model)


@pytest.mark.parametrize(("request_", "said"), REQUESTS, ids=str)
def test_a_request_that_can_not_be_had(
    request_: dict[str, Any], said: str, small: Path, tmp_path: Path
) -> None:
    assert refused(small, tmp_path / "large", **request_).startswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("grow", "--ffn", "x2"), "Missing argument"),
        (("grow", "SMALL", "--ffn", "x2"), "Missing argument"),
        (("grow", "SMALL", "OUT"), "no size is given, so there is nothing to grow: give one, like --ffn x2"),
        (
            ("grow", "SMALL", "OUT", "--intermediate-size", "88"),
            "No such option: --intermediate-size (sizes are --hidden, --ffn, ",
        ),
        (
            ("grow", "SMALL", "OUT", "--vision.ffn", "88"),
            "No such option: --vision.ffn (a stack's size is --size vision.ffn=…)",
        ),
        (("verify", "SMALL", "SMALL", "--nothing"), "No such option: --nothing"),
        (("verify", "SMALL", "SMALL", "--bytes", "--streamed"), "--bytes leaves --streamed nothing to do"),
        (
            ("grow", "SMALL", "OUT", "--ffn", "x2", "--no-verify", "--keep-failed"),
            "--no-verify leaves --keep-failed nothing to do: give one of them",
        ),
        (("verify", "SMALL", "SMALL"), "no plan is known without it"),
        (("plan", "SMALL/config.json", "--ffn", "x2"), "is no folder: give a model's folder"),
    ],
    ids=str,
)
def test_a_command_that_can_not_be_meant(
    arguments: tuple[str, ...], said: str, small: Path, tmp_path: Path
) -> None:
    places = {"SMALL": str(small), "OUT": str(tmp_path / "large")}
    before = digests(small)
    ran = command(*(_placed(part, places) for part in arguments))
    assert ran.code == 2 and ran.out == "" and said in " ".join(ran.err.split())
    assert digests(small) == before and not (tmp_path / "large").exists()


def _placed(part: str, places: Mapping[str, str]) -> str:
    word, slash, rest = part.partition("/")
    return places.get(word, word) + slash + rest


def test_the_card_speaks_of_heads_as_they_were_asked_for(small: Path, tmp_path: Path) -> None:
    isogrow.grow_checkpoint(small, tmp_path / "large", heads="x2")
    rows = [
        line for line in (tmp_path / "large" / "README.md").read_text().splitlines() if "Addition" in line
    ]
    heads = config(small)["num_attention_heads"]
    assert rows == [f"| HeadAddition | heads | {heads} | {2 * heads} |"]
