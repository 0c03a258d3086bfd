"""Adapters grow with their base: names and shapes as PEFT writes them, B A merged by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from checkpoints import tensors
from command import isogrow as run
from safetensors.torch import save_file
from torch import Tensor, nn

import isogrow
from isogrow.errors import CheckpointError, EngineError, LawError, OutputError
from isogrow.plans import factors
from isogrow.plans.plan import Entry, Old
from isogrow.stores.targets import targeted, valued
from isogrow.verification import adapters as proof
from isogrow.verification.float64 import build, float64

BEFORE, ALPHA, EXACT = "base_model.model.", 7, 1e-12
QKV = [f"self_attn.{name}_proj" for name in "qkvo"]
LLAMA = [*QKV, *(f"mlp.{name}_proj" for name in ("gate", "up", "down"))]


@dataclass(frozen=True)
class Case:
    """A model, the modules of its layers that are adapted, and how it grows."""

    kind: str
    layer: str
    modules: list[str]
    sizes: Mapping[str, Any]
    config: Any = None
    others: tuple[str, ...] = ()  # modules outside layers
    saved: tuple[str, ...] = ()  # tensors that the adapter holds whole, by what they are called there
    experts: tuple[str, ...] = ()
    ranks: Mapping[str, int] = field(default_factory=dict[str, int])


def mixtral() -> transformers.MixtralConfig:
    return transformers.MixtralConfig(**tiny.GATED, num_local_experts=5, num_experts_per_tok=2)


BETWEEN = {"layers": "+2", "layers_at": (1, 3)}
CASES = {
    "llama": Case(
        "LlamaForCausalLM",
        "model.layers",
        LLAMA,
        {"hidden": 36, "ffn": 57, "heads": 9, "kv_heads": 3, "head_dim": 14, **BETWEEN},
        others=("model.embed_tokens", "lm_head"),
        saved=("model.norm.weight",),
        ranks={"layers.1.mlp.up_proj": 5},
    ),
    "gpt2, tied": Case(
        "GPT2LMHeadModel",
        "transformer.h",
        ["attn.c_attn", "attn.c_proj", "mlp.c_fc"],
        {"hidden": 42, "ffn": 57, "heads": 7, "layers": "+1", "layers_at": (1,)},
        others=("transformer.wte", "lm_head"),
        saved=("lm_head.base_layer.weight", "transformer.h.1.attn.c_attn.base_layer.bias"),
    ),
    "gpt2, keys scaled by the layer's number": Case(
        "GPT2LMHeadModel",
        "transformer.h",
        ["attn.c_attn"],
        {"layers": "+1", "layers_at": (1,)},
        config=tiny.gpt2(scale_attn_by_inverse_layer_idx=True),
    ),
    "bert": Case(
        "BertForSequenceClassification",
        "bert.encoder.layer",
        ["attention.self.query", "attention.output.dense", "output.dense"],
        {"hidden": "x3", "ffn": 57, "heads": "x3"},
        saved=("classifier.weight",),
    ),
    "mixtral": Case(
        "MixtralForCausalLM",
        "model.layers",
        QKV,
        {"hidden": 36, "ffn": 57, **BETWEEN},
        config=mixtral(),
        experts=("gate_up_proj", "down_proj"),
    ),
}


# ── an adapter, made and merged by hand ──


def drawn(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)


def base_of(case: Case) -> nn.Module:
    config = case.config or tiny.CONFIGS[case.kind]()
    with torch.random.fork_rng(devices=[]):
        made = getattr(transformers, case.kind)(config).double()
    tiny.randomize_(made)
    return made


def adapter_of(case: Case, base: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the config that PEFT would save."""
    made: dict[str, Tensor] = {}
    state = base.state_dict()
    parts = [f"{case.layer}.{i}.{name}" for i in range(tiny.LAYERS) for name in case.modules]
    for seed, module in enumerate([*parts, *case.others]):
        written, read = state[f"{module}.weight"].shape
        rank = next((r for end, r in case.ranks.items() if module.endswith(end)), 4)
        embedded = isinstance(base.get_submodule(module), nn.Embedding)
        if embedded or "gpt2" in type(base).__module__ and module != "lm_head":
            written, read = read, written
        a, b = ("lora_embedding_A", "lora_embedding_B") if embedded else ("lora_A.weight", "lora_B.weight")
        made[f"{BEFORE}{module}.{a}"] = drawn(rank, read, seed=seed)
        made[f"{BEFORE}{module}.{b}"] = drawn(written, rank, seed=1000 + seed)
    for seed, name in enumerate(case.saved):
        made[BEFORE + name] = state[name.replace(".base_layer", "")].clone()
        if "base_layer" not in name:
            made[BEFORE + name] += drawn(*made[BEFORE + name].shape, seed=2000 + seed)
    for i in range(tiny.LAYERS):
        for name in case.experts:
            count, written, read = state[f"{case.layer}.{i}.mlp.experts.{name}"].shape
            path = f"{BEFORE}{case.layer}.{i}.mlp.experts{'.base_layer' if name == 'gate_up_proj' else ''}"
            made[f"{path}.lora_A.weight"] = drawn(count * 3, read, seed=3000 + i)
            made[f"{path}.lora_B.weight"] = drawn(written, 3 * count, seed=4000 + i)
    said: dict[str, Any] = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": ALPHA,
        "target_modules": [name.rpartition(".")[2] for name in (*case.modules, *case.others)],
        "target_parameters": list(case.experts) or None,
        "rank_pattern": {**dict(case.ranks), **dict.fromkeys(case.experts, 3)},
        "base_model_name_or_path": "small",
        "bias": "none",
        "use_dora": False,
    }
    return made, said


def merged(base: nn.Module, adapter: Mapping[str, Tensor], config: Mapping[str, Any]) -> nn.Module:
    """The model whose weights have B A added, each at the rank and scale that the adapter's config says."""
    untied: dict[str, Tensor] = {name: value.clone() for name, value in base.state_dict().items()}
    for name, a in adapter.items():
        bare = name.removeprefix(BEFORE)
        if "lora_" not in name:
            untied[bare.replace(".base_layer", "")] = a.clone()
    for name, a in adapter.items():
        bare, b = name.removeprefix(BEFORE), adapter.get(name.replace("_A", "_B"))
        if "_A" not in name or b is None:
            continue
        module = bare.partition(".lora_")[0]
        if module.endswith(("experts", "experts.base_layer")):
            inner = module.endswith("base_layer")
            weight = f"{module.removesuffix('.base_layer')}.{'gate_up_proj' if inner else 'down_proj'}"
            count = len(untied[weight])
            rank = len(a) // count
            delta = torch.einsum("ore,eri->eoi", b.view(len(b), rank, count), a.view(count, rank, -1))
        else:
            weight, rank = f"{module}.weight", len(a)
            assert targeted(config, module), f"the config does not name {module}"
            delta = b @ a
            delta = delta if delta.shape == untied[weight].shape and "c_" not in module else delta.T
        usual = weight if "experts" in module else module
        assert valued(config, "rank_pattern", "r", usual) == rank
        untied[weight] += valued(config, "alpha_pattern", "lora_alpha", usual) / rank * delta
    own = base.config
    own.tie_word_embeddings = False
    return build(type(base), own, untied)


def answers(model: nn.Module) -> Tensor:
    tokens = torch.arange(1, 19).view(2, 9)
    with torch.no_grad(), float64():
        return model(input_ids=tokens).logits


def saved(folder: Path, case: Case) -> tuple[Path, Path]:
    """The small base and its adapter, on disk."""
    base = base_of(case)
    base.save_pretrained(folder / "small")
    found, said = adapter_of(case, base)
    (folder / "adapter").mkdir()
    save_file(found, folder / "adapter" / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(said))
    return folder / "small", folder / "adapter"


def together(case: Case, base: Path, adapter: Path) -> nn.Module:
    model = getattr(transformers, case.kind).from_pretrained(base, dtype=torch.float64)
    config = json.loads((adapter / "adapter_config.json").read_text())
    return merged(model, tensors(adapter), config)


def change(case: Case, folder: Path) -> float:
    """How much base and adapter change together, as both grow."""
    small, adapter = saved(folder, case)
    isogrow.grow_checkpoint(small, folder / "large", **case.sizes)
    isogrow.grow_adapter(adapter, folder / "out", base=folder / "large")
    before, after = (
        answers(together(case, *pair)) for pair in ((small, adapter), (folder / "large", folder / "out"))
    )
    return float((after - before).abs().max() / before.abs().max())


# ── the law ──


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_base_and_adapter_compute_what_they_did(name: str, tmp_path: Path) -> None:
    assert change(CASES[name], tmp_path) < EXACT


def test_a_scale_that_is_left_out_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are scaled where the head dim grows, and the adapter's B with them."""
    plain = factors._part

    def unscaled(entry: Entry, slot: Any) -> Entry:
        return Old() if isinstance(entry, Old) else plain(entry, slot)

    monkeypatch.setattr(factors, "_part", unscaled)
    case = Case("LlamaForCausalLM", "model.layers", QKV, {"head_dim": 14})
    assert change(case, tmp_path) > 1e-4


def test_one_growth_after_the_other(tmp_path: Path) -> None:
    case = Case("LlamaForCausalLM", "model.layers", LLAMA, {"hidden": 36, **BETWEEN})
    small, adapter = saved(tmp_path, case)
    isogrow.grow_checkpoint(small, tmp_path / "mid", **case.sizes)
    isogrow.grow_checkpoint(tmp_path / "mid", tmp_path / "large", ffn=57, layers="+1", layers_at=(0,))
    with pytest.raises(CheckpointError, match="each of these in turn"):
        isogrow.grow_adapter(adapter, tmp_path / "out", base=tmp_path / "large")
    isogrow.grow_adapter(adapter, tmp_path / "adapter-mid", base=tmp_path / "mid")
    isogrow.grow_adapter(tmp_path / "adapter-mid", tmp_path / "out", base=tmp_path / "large")
    before = answers(together(case, small, adapter))
    after = answers(together(case, tmp_path / "large", tmp_path / "out"))
    assert float((after - before).abs().max() / before.abs().max()) < EXACT


def test_a_growth_in_layers_that_is_left_out_is_refused(tmp_path: Path) -> None:
    """Layers have one shape: that there are more of them shows in what the adapter's config means."""
    small, adapter = saved(tmp_path, Case("LlamaForCausalLM", "model.layers", LLAMA, {}))
    isogrow.grow_checkpoint(small, tmp_path / "mid", layers="+1", layers_at=(0,))
    isogrow.grow_checkpoint(tmp_path / "mid", tmp_path / "large", layers="+1")
    with pytest.raises(CheckpointError, match=r"no matrices for model\.layers\.3\..*each of these in turn"):
        isogrow.grow_adapter(adapter, tmp_path / "out", base=tmp_path / "large")
    some = changed(tmp_path, tmp_path / "some", drop="layers.0.", layers_to_transform=[1, 2])
    isogrow.grow_adapter(some, tmp_path / "unnamed", base=tmp_path / "large")  # nothing tells
    for name, base in (("small", small), ("large", tmp_path / "large")):
        edits = {"layers_to_transform": [1, 2], "base_model_name_or_path": str(base)}
        named = changed(tmp_path, tmp_path / f"of {name}", drop="layers.0.", **edits)
        if name == "large":  # it may have taken the other's place
            isogrow.grow_adapter(named, tmp_path / "renamed", base=tmp_path / "large")
            continue
        with pytest.raises(CheckpointError, match=r"has layers=3, and .* with layers=4: .*in turn"):
            isogrow.grow_adapter(named, tmp_path / "out", base=tmp_path / "large")
        isogrow.grow_adapter(named, tmp_path / "right", base=tmp_path / "mid")


SOME: dict[str, dict[str, Any]] = {
    "layers by number": {"layers_to_transform": [0, 1], "layers_pattern": "layers"},
    "a pattern": {"target_modules": r".*\.layers\.[01]\..*_proj"},
    "names in full": {"target_modules": [f"model.layers.{i}.{name}" for i in (0, 1) for name in LLAMA]},
    "others left out": {"exclude_modules": r"model\.layers\.2\..*"},
    "others saved whole": {"modules_to_save": ["2.self_attn", "2.mlp"]},
}


@pytest.mark.parametrize("name", SOME)
def test_an_adapter_of_some_layers(name: str, llama: Path, tmp_path: Path) -> None:
    adapter = changed(llama, tmp_path / "some", drop="layers.2.", **SOME[name])
    isogrow.grow_checkpoint(llama / "small", tmp_path / "wide", ffn="+3")
    isogrow.grow_adapter(adapter, tmp_path / "out", base=tmp_path / "wide")
    lacking = changed(llama, tmp_path / "lacking", drop="layers.1.mlp.up_proj", **SOME[name])
    if name != "names in full":
        with pytest.raises(CheckpointError, match=r"no matrices for model\.layers\.1\.mlp\.up_proj"):
            isogrow.grow_adapter(lacking, tmp_path / "none", base=tmp_path / "wide")


# ── what is new ──


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small, adapter, and large with layers between those of small."""
    folder = tmp_path_factory.mktemp("llama")
    small, _ = saved(folder, Case("LlamaForCausalLM", "model.layers", LLAMA, {}))
    isogrow.grow_checkpoint(small, folder / "large", layers="+1", layers_at=(1,))
    return folder


def changed(llama: Path, folder: Path, drop: str = "", **edits: Any) -> Path:
    """The adapter with other words in its config, in a folder of its own; without tensors of a name."""
    folder.mkdir()
    config = json.loads((llama / "adapter" / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | edits))
    found = {n: t for n, t in tensors(llama / "adapter").items() if not (drop and drop in n)}
    save_file(found, folder / "adapter_model.safetensors")
    return folder


def test_a_new_layer_learns(llama: Path, tmp_path: Path) -> None:
    """Its B is zero and its A is not, so B has gradient wherever the base's own branch lets any through."""
    isogrow.grow_adapter(llama / "adapter", tmp_path / "out", base=llama / "large")
    found = tensors(tmp_path / "out")
    new = {name: tensor for name, tensor in found.items() if "layers.1." in name}
    assert len(new) == 2 * len(LLAMA)
    assert all(bool(tensor.any()) == ("lora_A" in name) for name, tensor in new.items())
    model = transformers.LlamaForCausalLM.from_pretrained(llama / "large", dtype=torch.float64)
    weight = model.model.layers[1].self_attn.o_proj.weight
    a = new[f"{BEFORE}model.layers.1.self_attn.o_proj.lora_A.weight"]
    assert not weight.any()
    loss = model(torch.arange(1, 19).view(2, 9), labels=torch.arange(2, 20).view(2, 9)).loss
    (gradient,) = torch.autograd.grad(loss, weight)
    assert bool((gradient @ a.T).ne(0).all()), "the gradient of B is that of the weight, times A transposed"


def test_layers_by_number_follow(llama: Path, tmp_path: Path) -> None:
    """Layer 1 is new, and extends layer 0; old layers 1 and 2 are 2 and 3 now."""
    adapter = changed(
        llama,
        tmp_path / "some",
        drop="layers.0.",
        layers_to_transform=[1, 2],
        alpha_pattern={r"layers\.2\.mlp\.up_proj": 9},
    )
    isogrow.grow_adapter(adapter, tmp_path / "out", base=llama / "large")
    said = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert said["target_modules"] == sorted(f"model.layers.{i}.{name}" for i in (2, 3) for name in LLAMA)
    assert said["layers_to_transform"] is None
    assert said["alpha_pattern"] == {r"model\.layers\.3\.mlp\.up_proj": 9}
    assert said["base_model_name_or_path"] == str(llama / "large")


def test_a_config_without_numbers_stays(llama: Path, tmp_path: Path) -> None:
    (llama / "adapter" / "tokenizer.json").write_text("{}")
    card = "---\nbase_model: {0}\ntags:\n- base_model:adapter:{0}\n---\nAll of it is small.\n"
    (llama / "adapter" / "README.md").write_text(card.format("small"))
    isogrow.grow_adapter(llama / "adapter", tmp_path / "out", base=llama / "large")
    said, was = (
        json.loads((at / "adapter_config.json").read_text()) for at in (tmp_path / "out", llama / "adapter")
    )
    assert said == was | {"base_model_name_or_path": str(llama / "large")}
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert (tmp_path / "out" / "README.md").read_text() == card.format(llama / "large")


# ── what is refused ──

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "IA3": ({"peft_type": "IA3"}, "kind IA3, and LoRA .* alone grows with its base: merge it"),
    "prompts": ({"peft_type": "PROMPT_TUNING"}, "train it anew"),
    "DoRA": ({"use_dora": True}, "use_dora = True, and DoRA divides by a norm that grows: merge it"),
    "another variant": ({"use_qalora": True}, "use_qalora = True, and no law says how that grows: merge it"),
    "copies of layers": (
        {"layer_replication": [[0, 2], [1, 3]]},
        "layer_replication = .*, and layers that are copies .* can't be merged .*: grow the base alone",
    ),
    "a start that moves the base": ({"init_lora_weights": "pissa"}, "changes the base's own weights"),
    "half a pair": ({}, "lora_B.weight is missing from the adapter, which has .*lora_A.weight"),
    "saved by number": (
        {"modules_to_save": ["layers.2.mlp"]},
        "modules_to_save names layers by their numbers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, llama: Path, tmp_path: Path) -> None:
    edits, said = REFUSED[name]
    adapter = changed(
        llama, tmp_path / "some", drop="up_proj.lora_B" if name == "half a pair" else "", **edits
    )
    with pytest.raises(CheckpointError, match=said):
        isogrow.grow_adapter(adapter, tmp_path / "out", base=llama / "large")
    assert not (tmp_path / "out").exists()


def test_another_base(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"small has no isogrow.json, so it is not known how it grew"):
        isogrow.grow_adapter(llama / "adapter", tmp_path / "out", base=llama / "small")
    with pytest.raises(CheckpointError, match="holds no adapter"):
        isogrow.grow_adapter(llama / "small", tmp_path / "out", base=llama / "large")
    with pytest.raises(OutputError, match="is the adapter itself"):
        isogrow.grow_adapter(llama / "adapter", llama / "adapter", base=llama / "large")
    strange = changed(llama, tmp_path / "strange")
    found = {name.replace("self_attn", "attention"): t for name, t in tensors(strange).items()}
    save_file(found, strange / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="no weight of 'llama' stands there"):
        isogrow.grow_adapter(strange, tmp_path / "out", base=llama / "large")


def test_parts_that_share_a_matrix_must_agree() -> None:
    """No rule says different things of queries and keys along what both read; a plan from a file might."""
    from isogrow.families import layout_for
    from isogrow.plans.plan import Constant, Mean, Place, Plan, Step
    from isogrow.plans.sizes import Sizes

    layout = layout_for("gpt2")
    line = next(line for line in layout.homes["attn.q"])
    entries = {"attn.q": Constant(0.0), "attn.k": Constant(0.0), "attn.v": Mean()}
    places = (Place(0, 24, 0), Place(24, 6, 0, "new"))
    step = Step("Hidden", "hidden", 24, 30, places, {n: {"new": e} for n, e in entries.items()})
    plan = Plan("gpt2", Sizes({"hidden": 24}), (step,))
    with pytest.raises(
        LawError, match=r"attn.q and attn.v are one tensor, .* merge the adapter into its base"
    ):
        factors.factored(plan, layout, [factors.Factors(line, 4, ("a", "b"))], [])
    scaled = {"attn.q": {"old": Old(2.0)}, "attn.k": {"old": Old(3.0)}, "attn.v": {"old": Old(2.0)}}
    own = {n: {**e, "new": Constant(0.0)} for n, e in scaled.items()}
    step = Step("Hidden", "hidden", 24, 30, places, own)
    made = factors.factored(
        Plan("gpt2", Sizes({"hidden": 24}), (step,)), layout, [factors.Factors(line, 4, ("a", "b"))], []
    )
    assert made.steps[0].rewrites == {
        "attn.q+attn.k+attn.v.lora_A": {"old": Old(2.0), "new": Constant(0.0)},
        "attn.k.lora_B": {"old": Old(1.5)},
    }


def test_a_mean_that_the_base_weighs() -> None:
    """LayerScale: the mean is of what reaches the residual, by gains that no adapter holds."""
    from isogrow.families import layout_for
    from isogrow.plans.plan import Mean, Place, Plan, Step
    from isogrow.plans.sizes import Sizes

    layout = layout_for("gpt2")
    step = Step(
        "Hidden",
        "hidden",
        24,
        30,
        (Place(0, 24, 0), Place(24, 6, 0, "new")),
        {"mlp.down": {"new": Mean("mlp_scale")}},
    )
    adapter = factors.Factors(layout.homes["mlp.down"][0], 4, ("a", "b"))
    with pytest.raises(LawError, match=r"a mean that the base's mlp_scale weighs, which an adapter does not"):
        factors.factored(Plan("gpt2", Sizes({"hidden": 24}), (step,)), layout, [adapter], [])


def test_an_adapter_in_a_pickle(llama: Path, tmp_path: Path) -> None:
    found = tensors(llama / "adapter")
    old = changed(llama, tmp_path / "old")
    (old / "adapter_model.safetensors").unlink()
    torch.save(found, old / "adapter_model.bin")
    isogrow.grow_adapter(old, tmp_path / "one", base=llama / "large")
    isogrow.grow_adapter(llama / "adapter", tmp_path / "two", base=llama / "large")
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# ── verify ──


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT's part is done by `merged`: no test needs it installed."""

    def loaded(both: proof.Both, dtype: torch.dtype | None) -> nn.Module:
        model: Any = transformers.LlamaForCausalLM.from_pretrained(both.base.folder, dtype=torch.float64)
        made = merged(model, both.adapter.tensors, both.adapter.config)
        return made if dtype is None else made.to(dtype)

    monkeypatch.setattr(proof, "together", loaded)


def test_a_pair_is_proven(by_hand: None, llama: Path, tmp_path: Path) -> None:
    given = dict(base=llama / "large", small=llama / "small")
    with torch.device("meta"):  # a caller's default device has no part in it
        isogrow.grow_adapter(llama / "adapter", tmp_path / "out", base=llama / "large")
        report = isogrow.verify_adapter(llama / "adapter", tmp_path / "out", **given)
    (check,) = report.checks
    assert report.passed and check.value is not None and check.value < EXACT == check.limit
    found = tensors(tmp_path / "out")
    found[f"{BEFORE}model.layers.0.mlp.up_proj.lora_B.weight"][1, 2] += 1e-3
    save_file(found, tmp_path / "out" / "adapter_model.safetensors")
    bad = isogrow.verify_adapter(llama / "adapter", tmp_path / "out", **given)
    assert not bad.passed and bad.checks[0].detail.startswith("row ")


def test_a_coarser_dtype_has_its_rounding(by_hand: None, llama: Path, tmp_path: Path) -> None:
    adapter = changed(llama, tmp_path / "some")
    held = {name: tensor.float() for name, tensor in tensors(adapter).items()}
    save_file(held, adapter / "adapter_model.safetensors")
    isogrow.grow_adapter(adapter, tmp_path / "out", base=llama / "large")
    report = isogrow.verify_adapter(adapter, tmp_path / "out", base=llama / "large", small=llama / "small")
    (check,) = report.checks
    assert report.passed and check.detail.endswith("stored in float32")
    assert check.limit is not None and 1e-7 < check.limit < 1e-4


def test_what_a_proof_of_adapters_lacks(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = llama / "large"
    with pytest.raises(CheckpointError, match="small"):  # the base that the adapter names is no folder here
        isogrow.verify_adapter(llama / "adapter", llama / "adapter", base=base)
    nameless = changed(llama, tmp_path / "nameless", base_model_name_or_path=None)
    with pytest.raises(CheckpointError, match="nameless names no base"):
        isogrow.verify_adapter(nameless, nameless, base=base)
    monkeypatch.setattr(proof, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="not installed here: pip install peft"):
        isogrow.verify_adapter(llama / "adapter", llama / "adapter", base=base, small=llama / "small")


# ── the command ──


def test_the_command(by_hand: None, llama: Path, tmp_path: Path) -> None:
    adapter, out, large = llama / "adapter", tmp_path / "out", llama / "large"
    ran = run("grow", adapter, out, "--base", large, "--json")
    assert (ran.code, ran.json["steps"]) == (0, [{"axis": "layers", "old": 3, "new": 4, "heads": None}])
    assert (out / "adapter_model.safetensors").is_file()
    again = run("grow", adapter, out, "--base", large, "--ffn", "x2")
    assert again.code == 2 and "leave out what says how to grow" in " ".join(again.err.split())
    more = run("verify", adapter, out, "--base", large, "--bytes")
    assert more.code == 2 and "--base the grown one" in " ".join(more.err.split())
    assert run("verify", adapter, out, "--small", large).code == 2
    proven = run("verify", adapter, out, "--base", large, "--small", llama / "small", "--json")
    assert (proven.code, proven.json["checks"][0]["name"]) == (0, "adapter")
    alone = run("grow", adapter, tmp_path / "other", "--ffn", "x2")
    assert alone.code == 2 and "isogrow grow ADAPTER OUT --base GROWN" in " ".join(alone.err.split())
