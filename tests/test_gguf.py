"""GGUF files as sources: every tensor bit by bit what the model had, and whatever is not exact refused."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ggufs
import numpy as np
import pytest
import torch
import transformers
from checkpoints import tensors
from command import isogrow as command

import isogrow
from isogrow.drafting.drafts import source_of
from isogrow.errors import CheckpointError, EngineError, RecipeError
from isogrow.growth.opening import opened
from isogrow.recipes.reading import parse
from isogrow.recipes.starting import first_config
from isogrow.stores.gguf import file as reading
from isogrow.stores.gguf.architectures import ARCHITECTURES
from isogrow.stores.gguf.config import LLAMA3, llama3_factors
from isogrow.stores.mapping import mapped
from isogrow.stores.sources import open_checkpoint
from isogrow.stores.store import all_of

KINDS = {"llama": "BF16", "gpt2": "F16", "gemma2": "BF16", "gemma3": "F32", "starcoder2": "F16"}
OWN = ("_name_or_path", "transformers_version", "dtype", "bos_token_id", "initializer_range", "use_cache")


def held(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, as growing reads them."""
    found = open_checkpoint(path)
    with mapped(found) as store:
        return {name: all_of(store, name).clone() for name in found.headers}


@pytest.mark.parametrize("architecture", ggufs.CONFIGS)
def test_a_file_is_the_model_that_it_was_made_from(architecture: str, tmp_path: Path) -> None:
    """Every tensor bit by bit in its own dtype, and every number of the config."""
    kind = KINDS.get(architecture, "BF16")
    model = ggufs.model(architecture, kind)
    path = ggufs.save(tmp_path / "m.gguf", model, architecture, kind)
    found, wanted = held(path), model.state_dict()
    if model.config.tie_word_embeddings:
        del wanted["lm_head.weight"]
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    config = dict(opened(path).checkpoint.config)
    assert config["dtype"] == str(ggufs.QUANTS[kind]).removeprefix("torch.") and config["bos_token_id"] == 1
    made: Any = transformers.CONFIG_MAPPING[config["model_type"]]
    theirs, ours = model.config.to_dict(), made.from_dict(config).to_dict()
    for key in theirs.keys() - set(OWN) - {"architectures"}:
        assert ours.get(key) == theirs[key], key


def test_it_grows_to_the_bytes_that_the_models_own_folder_grows_to(tmp_path: Path) -> None:
    model = ggufs.model("llama", "BF16")
    model.save_pretrained(tmp_path / "folder")
    path = ggufs.save(tmp_path / "small.gguf", model, "llama", "BF16")
    sizes: dict[str, Any] = {"hidden": 36, "ffn": 57, "head_dim": 14, "layers": "+1"}
    isogrow.grow_checkpoint(path, tmp_path / "a", **sizes)
    isogrow.grow_checkpoint(tmp_path / "folder", tmp_path / "b", **sizes)
    one, two = tensors(tmp_path / "a"), tensors(tmp_path / "b")
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert isogrow.verify(path, tmp_path / "a").passed
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(
        ("config.json", "isogrow.json", "model.safetensors", "README.md")
    )


def test_in_the_shell(tmp_path: Path) -> None:
    """A folder that holds the file does as well; what is said of the tokenizer."""
    (tmp_path / "small").mkdir()
    ggufs.save(tmp_path / "small" / "m.gguf", ggufs.model("gpt2", "F32"), "gpt2")
    done = command("plan", tmp_path / "small", "--ffn", "57")
    assert done.code == 0 and "tokenizer (it is in m.gguf" in " ".join(done.out.split())


def test_a_head_that_is_the_embedding_is_left_out(tmp_path: Path) -> None:
    """Older files of GPT-2 have it twice; one that differs is a head of its own."""
    model = ggufs.model("gpt2", "F32")
    model.config.tie_word_embeddings = False
    path = ggufs.save(tmp_path / "m.gguf", model, "gpt2")
    assert "lm_head.weight" not in held(path) and open_checkpoint(path).config["tie_word_embeddings"]
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight + 1)
    path = ggufs.save(tmp_path / "m.gguf", model, "gpt2")
    assert "lm_head.weight" in held(path) and not open_checkpoint(path).config["tie_word_embeddings"]


def test_a_norm_that_16_bits_do_not_hold_makes_the_model_one_in_float32(tmp_path: Path) -> None:
    model = ggufs.model("qwen3", "BF16").float()
    model.model.norm.weight.data[3] = 1.0001
    path = ggufs.save(tmp_path / "m.gguf", model, "qwen3", "BF16")
    found = held(path)
    assert open_checkpoint(path).config["dtype"] == "float32"
    assert found["model.norm.weight"].dtype == torch.float32
    assert torch.equal(found["model.norm.weight"], model.model.norm.weight)
    assert found["model.embed_tokens.weight"].dtype == torch.bfloat16


def test_the_frequencies_of_llama_3_are_known_again(tmp_path: Path) -> None:
    said = {"rope_type": "llama3", "factor": 32.0, **LLAMA3}
    model = ggufs.model("llama", "F32")
    factors = llama3_factors(1e5, model.config.head_dim, 32.0)
    assert 1.0 in factors and 32.0 in factors and any(1 < factor < 32 for factor in factors)

    def with_factors(each: np.ndarray[Any, Any]) -> Path:
        beside = {"rope_freqs.weight": torch.tensor(each)}
        return ggufs.save(tmp_path / "m.gguf", model, "llama", beside=beside, **{"rope.freq_base": 1e5})

    rope = open_checkpoint(with_factors(factors)).config["rope_parameters"]
    assert rope == {"rope_theta": 1e5, **said}
    with pytest.raises(CheckpointError, match="are not Llama 3's"):
        open_checkpoint(with_factors(factors * np.float32(1.1)))


# ── refused ──


def saved(path: Path, **more: Any) -> Path:
    return ggufs.save(path, ggufs.model("qwen3", "F32"), "qwen3", **more)


def gains(path: Path) -> Path:
    model = ggufs.model("gemma", "F32")
    path = ggufs.save(path, model, "gemma")
    data = np.memmap(path, np.uint8, "r+")
    entry = reading.read_file(path).entries["output_norm.weight"]
    data[entry.start : entry.start + 4] = np.frombuffer(np.float32(0.1).tobytes(), np.uint8)
    data.flush()
    return path


def cut(path: Path) -> Path:
    saved(path)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def _with(path: Path, magic: bytes) -> Path:
    saved(path)
    path.write_bytes(magic + path.read_bytes()[4:])
    return path


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a key that is not known": (
        lambda p: saved(p, **{"attention.scale": 1.0}),
        "attention.scale 1.0, which isogrow does not know of qwen3 models",
    ),
    "a width of its own in each layer": (
        lambda p: saved(p, feed_forward_length=[44, 44, 45]),
        "has qwen3.feed_forward_length layer by layer",
    ),
    "values that are wider": (lambda p: saved(p, **{"attention.value_length": 12}), "models have 10"),
    "a scaling that is not read": (
        lambda p: saved(p, **{"rope.scaling.type": "yarn"}),
        "rope.scaling.type 'yarn', and only none or linear is read exactly",
    ),
    "a part of one": (lambda p: saved(p, **{"split.count": 2}), "join them by llama.cpp's llama-gguf-split"),
    "an adapter": (lambda p: saved(p, **{"general.type": "adapter"}), "holds no model but a part of one"),
    "one that was cut off": (cut, "is a GGUF file that was cut off, is damaged or of a version that"),
    "another file": (lambda p: _with(p, b"GGML"), "is no GGUF file, which begin with the letters GGUF"),
    "text where a number belongs": (
        lambda p: saved(p, **{"attention.head_count": "four"}),
        "has qwen3.attention.head_count 'four', where a number above 0 belongs",
    ),
    "no heads": (lambda p: saved(p, **{"attention.head_count_kv": 0}), "head_count_kv 0, where a number"),
    "more layers than there are": (
        lambda p: saved(p, block_count=1 << 31),
        "block_count 2147483648, and tensors of 3 layers",
    ),
    "parts that can't be counted": (lambda p: saved(p, **{"split.count": "two"}), "is one of two files"),
    "factors in 16 bits": (
        lambda p: saved(p, beside={"rope_freqs.weight": torch.ones(5)}, kinds={"rope_freqs.weight": "F16"}),
        "has rope_freqs.weight in F16, not in F32",
    ),
    "a bias in one of several": (
        lambda p: saved(p, beside={"blk.1.attn_q.bias": torch.ones(40)}),
        "has no blk.0.attn_k.bias, and qwen3 models have one there beside the others",
    ),
    "a bias of what has none": (
        lambda p: saved(p, beside={"blk.1.ffn_up.bias": torch.ones(44)}),
        "has blk.1.ffn_up.bias, and qwen3 models have none there",
    ),
    "a gain that no g gives": (gains, r"has 0.1 at output_norm.weight\[0\], which no gain g gives as 1 \+ g"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_exact_is_refused(what: str, tmp_path: Path) -> None:
    make, said = REFUSED[what]
    path = make(tmp_path / "m.gguf")
    with pytest.raises(CheckpointError, match=said) as refused:
        open_checkpoint(path)
    assert "\n" not in str(refused.value)


def test_a_quantized_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    model = ggufs.model("qwen3", "F32")
    model.model.layers[1].mlp.down_proj.weight = torch.nn.Parameter(torch.ones(24, 64))  # a block is of 32
    path = ggufs.save(tmp_path / "m.gguf", model, "qwen3", kinds={"blk.1.ffn_down.weight": "Q8_0"})
    with pytest.raises(CheckpointError, match=r"blk.1.ffn_down.weight is Q8_0.*give the file in F32"):
        open_checkpoint(path)


def test_an_architecture_and_a_tensor_that_are_not_known(tmp_path: Path) -> None:
    model = ggufs.model("qwen3", "F32")
    path = ggufs.save(tmp_path / "m.gguf", model, "qwen3")
    path.write_bytes(path.read_bytes().replace(b"blk.1.attn_q_norm", b"blk.1.attn_q_warm"))
    with pytest.raises(CheckpointError, match="has the tensor blk.1.attn_q_warm.weight, which"):
        open_checkpoint(path)
    path.write_bytes(path.read_bytes().replace(b"qwen3", b"qwen9"))
    with pytest.raises(CheckpointError, match="architecture 'qwen9', and of GGUF files isogrow reads llama"):
        open_checkpoint(path)


def test_several_files_and_what_a_file_takes_no_part_in(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        saved(tmp_path / name)
    with pytest.raises(CheckpointError, match=r"holds 2 GGUF files \(a.gguf, b.gguf\): give one"):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="takes no config: leave it out"):
        open_checkpoint(tmp_path / "a.gguf", config={})


def test_which_file_is_meant(tmp_path: Path) -> None:
    """What a file begins with counts, and not its name alone; other weights of the folder come first."""
    blob = saved(tmp_path / "sha256-1d0f")
    assert open_checkpoint(blob).format == "gguf" == open_checkpoint(blob.rename(tmp_path / "M.GGUF")).format
    for name in ("train/training_args.bin", "training_args.bin", "old.gguf/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert open_checkpoint(tmp_path).format == "gguf"
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="config.json is missing from"):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="there is no file .*gone.gguf: correct its name"):
        open_checkpoint(tmp_path / "gone.gguf")


def test_a_vocabulary_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package looks at each token, which takes half a minute for a quarter of a million."""
    tokens, scores = [f"token {n}" for n in range(2000)], [float(n) for n in range(2000)]
    path = saved(tmp_path / "m.gguf", **{"general.tokens": tokens, "general.scores": scores})
    looked: list[int] = []
    look: Any = ggufs.gguf.GGUFReader._get  # pyright: ignore[reportPrivateUsage]

    def counted(reader: Any, at: int, *how: Any, **more: Any) -> Any:
        looked.append(at)
        return look(reader, at, *how, **more)

    monkeypatch.setattr(ggufs.gguf.GGUFReader, "_get", counted)
    said = reading.read_file(path).said
    assert (said["general.tokens"], said["general.scores"]) == (2000, scores)
    assert 0 < len(looked) < 1000
    whole = path.read_bytes()
    for end in (whole.find(b"token 1999") + 4, whole.find(b"token 7")):
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError, match="was cut off"):
            open_checkpoint(path)


def test_its_config_is_one_that_others_are_held_against(tmp_path: Path) -> None:
    """`--to` takes a larger model's file, and `draft` one in place of a folder."""
    small = saved(tmp_path / "small.gguf")
    model = ggufs.model("qwen3", "F32")
    isogrow.grow_checkpoint(small, tmp_path / "large", ffn=57, layers="+1")
    grown: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "large")
    large = ggufs.save(tmp_path / "large.gguf", grown, "qwen3")
    assert isogrow.plan(small, to=large) == isogrow.plan(small, ffn=57, layers="+1")
    assert source_of(str(small))["num_hidden_layers"] == model.config.num_hidden_layers


def test_where_a_folder_that_transformers_loads_is_wanted(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.gguf")
    with pytest.raises(EngineError, match="gguf format, .* give the model that the file was made from"):
        isogrow.verify_in("transformers", path, path)
    said = {"run": "r", "model": {"from": "m.gguf"}, "data": {"train": ["a"]}, "stages": [{"steps": 9}]}
    with pytest.raises(RecipeError, match="m.gguf is a GGUF file, and a run starts from a folder"):
        first_config(parse(said), tmp_path, 53)


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "find_spec", lambda name: None if name == "gguf" else find_spec(name))
    (tmp_path / "m.gguf").write_text("GGUF")
    with pytest.raises(CheckpointError, match=r"pip install 'isogrow\[gguf\]'"):
        open_checkpoint(tmp_path / "m.gguf")


def test_bytes_that_were_changed_are_read_or_refused(tmp_path: Path) -> None:
    """Whatever stands in a damaged header, nothing but a refusal comes of it."""
    whole = bytearray(saved(tmp_path / "m.gguf").read_bytes())
    numbers = np.random.default_rng(3)
    head = whole.find(b"token_embd")
    for _ in range(60):
        broken = bytearray(whole)
        for at in numbers.integers(0, head + 800, 3):
            broken[at] = numbers.integers(256)
        (tmp_path / "m.gguf").write_bytes(broken)
        try:
            opened(tmp_path / "m.gguf")
        except isogrow.errors.IsogrowError as error:
            assert "\n" not in str(error)


def test_the_page_lists_what_is_read() -> None:
    page = (Path(__file__).parents[1] / "docs" / "gguf.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    listed = {name.strip(" `"): kind.strip() for name, kind in rows}
    assert listed == {name: each.model_type for name, each in ARCHITECTURES.items()}
    assert ARCHITECTURES.keys() == ggufs.CONFIGS.keys()  # each is proven
