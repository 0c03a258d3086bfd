"""`isogrow.grow` on models in memory: what is carried over, and what is left alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import families as F
import pytest
import torch
import transformers
from sweeping import swept
from torch import nn

import isogrow
from isogrow import plan_of
from isogrow.errors import CheckpointError, FamilyError, IsogrowError, SizeError
from isogrow.families import layout_for
from isogrow.plans.expansions import HiddenExpansion, LayerAddition
from isogrow.plans.serial import from_json, to_json

NAMES = list(F.FAMILIES)
DECODERS = [n for n, f in F.FAMILIES.items() if f.classes[0].endswith(("ForCausalLM", "LMHeadModel"))]
UNTIED = ("dbrx",)  # its config class refuses to tie
TIED = [n for n in DECODERS if any(slot.tied for slot in layout_for(n).table) and n not in UNTIED]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def live(name: str, kind: str = "", dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A random model as a user has it: built by its own class, in its own dtype, in eval mode."""
    family = F.FAMILIES[name]
    kind = kind or family.classes[0]
    source = family.json(**changes)
    with torch.random.fork_rng(devices=[]):
        made = F.class_of(kind)(F.config_of(family, source)).to(dtype)
    shapes = {key: tuple(value.shape) for key, value in made.named_parameters()}
    values = F.randomized(shapes, seed=3, spread=0.1)
    with torch.no_grad():
        for key, value in made.named_parameters():
            value.copy_(values[key])
    return made.eval()


def change(small: Any, large: Any, given: F.Batch) -> float:
    """How far the two models' outputs are apart when both are run in float64, whatever dtype they are in."""
    return F.error(*(F.outputs(F.rebuilt(model), given) for model in (small, large)))


def inputs(name: str) -> F.Batch:
    return F.batch(F.FAMILIES[name].classes[0])


def snapshot(model: Any) -> dict[str, Any]:
    """All of a model that a growth might touch."""
    named = dict(model.named_parameters(remove_duplicate=False))
    return {
        "state": {key: value.clone() for key, value in model.state_dict().items()},
        "places": {key: value.data_ptr() for key, value in model.state_dict().items()},
        "frozen": {key: value.requires_grad for key, value in named.items()},
        "gradients": {key: value.grad is None for key, value in named.items()},
        "config": copy.deepcopy(model.config.to_dict()),
        "generation": copy.deepcopy(getattr(model, "generation_config", None)),
        "training": [module.training for module in model.modules()],
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before["state"].keys() == after["state"].keys()
    for key, value in before["state"].items():
        assert torch.equal(value, after["state"][key]), key
    assert {k: v for k, v in before.items() if k not in ("state", "generation")} == {
        k: v for k, v in after.items() if k not in ("state", "generation")
    }
    assert str(before["generation"]) == str(after["generation"])


# What is carried over


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", swept(NAMES))
def test_class_and_dtype(name: str, dtype: torch.dtype) -> None:
    """An axis whose rule scales no weight: nothing rounds in any dtype."""
    small = live(name, dtype=dtype)
    large = isogrow.grow(small, **F.FAMILIES[name].growths[F.FAMILIES[name].alone])
    assert type(large) is type(small)
    wide = [large._keep_in_fp32_modules, large._keep_in_fp32_modules_strict]  # whatever a model is cast to
    others = {name for name, value in large.state_dict().items() if value.dtype != dtype}
    assert all(any(part in name for kept in wide for part in kept or ()) for name in others)
    assert large.dtype == dtype
    assert change(small, large, inputs(name)) < F.EXACT


@pytest.mark.slow
@pytest.mark.parametrize("name", swept(NAMES))
def test_all_axes_at_once(name: str) -> None:
    small = live(name, dtype=torch.float64)
    large = isogrow.grow(small, **F.FAMILIES[name].together)
    assert change(small, large, inputs(name)) < F.EXACT
    with torch.no_grad():
        for matrix in (x for x in large.parameters() if x.dim() == 2):  # some are read only in training
            matrix[..., min(4, matrix.shape[-1] - 1)] += 1e-3
    assert change(small, large, inputs(name)) > F.BROKEN


def test_a_row_that_loading_sets_to_zero_is_kept(tmp_path: Path) -> None:
    """Youtu's initializer zeroes an embedding's padding row as it is loaded (transformers 5.23.0).

    A grown model computes what the one in memory does, and `verify` says whose loss it is.
    """
    small = live("youtu")
    padding = small.config.pad_token_id
    assert small.model.embed_tokens.weight[padding].any()
    large = isogrow.grow(small, ffn=51)
    for model in (large, F.rebuilt(small)):
        assert torch.equal(model.model.embed_tokens.weight.float(), small.model.embed_tokens.weight)
        assert model.lm_head.weight is model.model.embed_tokens.weight
    small.save_pretrained(tmp_path)
    plain = type(small).from_pretrained(tmp_path)
    assert not plain.model.embed_tokens.weight[padding].any()
    report = isogrow.verify(small, large)
    assert report.passed
    assert "reload" in str(report) and "its class changes model.embed_tokens.weight as it loads" in str(
        report
    )


def test_each_tensor_keeps_its_own_dtype() -> None:
    """A model may keep some parts (a head, norms) in a wider dtype than the rest."""
    small = live("llama", dtype=torch.bfloat16)
    small.lm_head.float()
    large = isogrow.grow(small, hidden=42, layers="+1")
    assert large.lm_head.weight.dtype == torch.float32
    assert large.model.layers[3].mlp.up_proj.weight.dtype == torch.bfloat16
    assert torch.equal(large.lm_head.weight[:, :30], small.lm_head.weight)


@pytest.mark.parametrize("training", [True, False])
def test_training_mode(training: bool) -> None:
    small = live("bert").train(training)
    large = isogrow.grow(small, ffn=51)
    assert [module.training for module in large.modules()] == [training] * len(list(large.modules()))


@pytest.mark.slow
def test_a_default_device_has_no_part_in_a_growth(tmp_path: Path) -> None:
    """New entries are made on the CPU, whatever a caller's default is, and go where their tensor is."""
    small = live("llama")
    optimizer = torch.optim.AdamW(small.parameters())
    small(**F.batch("")).logits.square().mean().backward()
    optimizer.step()
    small.save_pretrained(tmp_path / "small")
    wanted = isogrow.grow(small, hidden=42, layers="+1")
    with torch.device("meta"):
        large, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, hidden=42, layers="+1")
        isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", hidden=42, layers="+1")
        report = isogrow.verify(small, large, liveness=False)
        isogrow.grow_(small, optimizer=optimizer, hidden=42, layers="+1")
    assert report.passed and same(large, wanted) and same(small, wanted)
    for state in (*grown.state.values(), *optimizer.state.values()):
        assert not any(x.is_meta for x in state.values())


@pytest.mark.filterwarnings("ignore")  # torch calls its own quantization deprecated
def test_a_model_that_torch_has_quantized_is_refused() -> None:
    packed: Any = torch.ao.quantization.quantize_dynamic(live("llama"), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(FamilyError, match=r"_packed_params.* is a dtype and no tensor.* before it is"):
        isogrow.grow(packed, ffn="x2")


@pytest.mark.parametrize("kernel", ["eager", "grouped_mm"])
def test_how_experts_are_run(kernel: str) -> None:
    """One by one stays one by one: a kernel takes not every width and every dtype."""
    small = live("mixtral")
    small.set_experts_implementation(kernel)
    assert isogrow.grow(small, ffn="x2").config._experts_implementation == kernel


def test_constants_of_an_activation_are_those_of_the_layer_before() -> None:
    """They are tensors, and no weights: what is drawn for a new layer is all but these."""
    small: Any = live("apertus")
    for nth, layer in enumerate(small.model.layers):
        layer.mlp.act_fn.beta.fill_(0.5 + nth)
    large: Any = isogrow.grow(small, layers=len(small.model.layers) + 2, layers_at=(1, 2))
    found = [layer.mlp.act_fn.beta.item() for layer in large.model.layers]
    assert found == [0.5, 0.5, 1.5, 1.5, 2.5]


def test_a_copied_gain_of_a_new_branch_is_not_its_zero() -> None:
    """What is written there is zero too, as the width grows: two zeros in series would never learn."""
    small = live("olmo2")
    width = F.FAMILIES["olmo2"].growths["hidden"]["hidden"]
    large: Any = isogrow.grow(small, LayerAddition("+1"), HiddenExpansion(width), init="copy")
    for norm in ("post_attention_layernorm", "post_feedforward_layernorm"):
        gains = getattr(large.model.layers[-1], norm).weight
        old = small.config.hidden_size
        assert not gains[:old].any() and gains[old:].all()


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_frozen_parameters(name: str) -> None:
    """What is frozen stays frozen, and so do the layers that extend a frozen one."""
    small = live(name)
    for key, value in small.named_parameters():
        value.requires_grad_(".1." in key)
    large = isogrow.grow(small, layers=5, layers_at=(2, 2), ffn=51)
    trains = {key for key, value in large.named_parameters() if value.requires_grad}
    assert trains == {key for key, _ in large.named_parameters() if any(f".{n}." in key for n in (1, 2, 3))}


def test_new_parameters_train() -> None:
    small = live("qwen3")
    large = isogrow.grow(small, **F.FAMILIES["qwen3"].together)
    assert all(value.is_leaf and value.requires_grad for value in large.parameters())
    large(**F.batch("")).logits.square().mean().backward()
    assert all(value.grad is not None for value in large.parameters())
    assert all(value.grad is None for value in small.parameters())


def test_generation_config() -> None:
    small = live("mistral")
    small.generation_config.max_new_tokens = 7
    small.generation_config.eos_token_id = [3, 5]
    large = isogrow.grow(small, ffn=51)
    assert large.generation_config.to_dict() == small.generation_config.to_dict()
    large.generation_config.max_new_tokens = 8
    assert small.generation_config.max_new_tokens == 7


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_implementation(implementation: str) -> None:
    small = live("llama")
    small.set_attn_implementation(implementation)
    large = isogrow.grow(small, ffn=51, layers="+1")
    assert large.config._attn_implementation == implementation
    assert large.model.layers[3].self_attn.config._attn_implementation == implementation


def test_labels() -> None:
    small = live("bert", "BertForSequenceClassification", id2label={0: "a", 1: "b", 2: "c"})
    large = isogrow.grow(small, hidden=60, heads=10)
    assert large.config.id2label == small.config.id2label
    assert large.num_labels == 3


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", swept(TIED))
def test_tied_weights_stay_tied(name: str, tied: bool) -> None:
    small = live(name, tie_word_embeddings=tied)
    large = isogrow.grow(small, **F.FAMILIES[name].growths[F.FAMILIES[name].alone])
    into, out = large.get_input_embeddings().weight, large.get_output_embeddings().weight
    assert (into.data_ptr() == out.data_ptr()) is tied
    assert (into is out) is tied
    small_in, small_out = small.get_input_embeddings().weight, small.get_output_embeddings().weight
    assert (small_in is small_out) is tied


def test_a_part_that_the_model_lacks_is_not_added() -> None:
    """`add_pooling_layer=False` stands in no config."""
    config = F.config_of(F.FAMILIES["bert"], F.FAMILIES["bert"].json())
    small = transformers.BertModel(config, add_pooling_layer=False).double().eval()
    random = torch.get_rng_state()
    large = isogrow.grow(small, hidden=60, heads=10)
    assert large.pooler is None
    assert torch.equal(random, torch.get_rng_state())
    with torch.no_grad():
        a, b = (model(**F.batch("BertModel")).last_hidden_state for model in (small, large))
    assert F.error({"states": a}, {"states": b}) < F.EXACT


def test_old_entries_are_bit_equal() -> None:
    """What no rule scales is the same, NaN and all, where no new entry takes its mean or std."""
    small = live("llama", dtype=torch.bfloat16)
    weight = small.model.layers[1].mlp.down_proj.weight
    with torch.no_grad():
        weight.view(torch.int16)[3, 4] = 0x7FC1  # a NaN with a payload
        weight.view(torch.int16)[5, 6] = -0x8000  # -0.0
    large = isogrow.grow(small, hidden=42, ffn=51)
    grown = large.model.layers[1].mlp.down_proj.weight[:30, :37]
    assert torch.equal(grown.contiguous().view(torch.int16), weight.view(torch.int16))


# What is left alone


@pytest.mark.slow
@pytest.mark.parametrize("name", swept(NAMES))
def test_the_model_is_left_as_it_is(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    small = live(name)
    next(small.parameters()).requires_grad_(False)
    before = snapshot(small)
    large = isogrow.grow(small, **F.FAMILIES[name].together)
    with torch.no_grad():
        for value in large.parameters():
            value.fill_(7.0)
    assert_same(before, snapshot(small))
    assert capfd.readouterr() == ("", "")


def test_the_snapshot_sees_a_change() -> None:
    small = live("llama")
    before = snapshot(small)
    with torch.no_grad():
        small.model.norm.weight[3] += 1e-7
    with pytest.raises(AssertionError, match="norm.weight"):
        assert_same(before, snapshot(small))


@pytest.mark.slow
@pytest.mark.parametrize("name", swept(NAMES))
def test_global_random_state_is_left_alone(name: str) -> None:
    """And it has no part in what is drawn: the same seed gives the same bits."""
    small = live(name)
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    wanted = F.FAMILIES[name].together
    one = isogrow.grow(small, **wanted, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_default_dtype() == dtype
    torch.rand(3)
    two, other = isogrow.grow(small, **wanted, seed=1), isogrow.grow(small, **wanted, seed=2)
    assert same(one, two)
    assert not same(one, other)


def eager(model: Any) -> Any:
    """The model with experts one by one: the grouped kernel takes only widths of whole 16 bytes."""
    for part in model.modules():
        if hasattr(part, "config"):
            part.config._experts_implementation = "eager"
    return model


def same(one: nn.Module, two: nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


# What the grown model does


# Classes that compute something else with a cache than without, whatever their sizes are: Bamba and MiniMax
# count positions from 0 (findings/cached_tokens_stand_at_zero.sh), Granite's hybrid differs from its second
# chunk of states on, and an indexer chooses otherwise among equal scores.
APART = ("bamba", "deepseek_v32", "glm_moe_dsa", "granitemoehybrid", "minimax")


@pytest.mark.slow
@pytest.mark.parametrize("name", swept(DECODERS))
def test_decoding_with_a_cache_is_the_full_forward(name: str) -> None:
    """In float64, token by token: the grown model's own cache, and against the small model's full forward."""
    subject = F.subject(F.FAMILIES[name], spread=0.1)
    large = subject.large(subject.plan(subject.family.together))
    given = {"input_ids": F.batch("")["input_ids"]}
    full = F.outputs(subject.small, given)
    with F.float64():
        own, step_by_step = (F.decoded(model, given) for model in (subject.small, large))
    assert F.error(dict(own), dict(step_by_step)) < F.EXACT
    assert (F.error(full, dict(step_by_step)) < F.EXACT) is (name not in APART)
    shifted = {"input_ids": given["input_ids"].roll(1, 1)}
    assert F.error(full, F.outputs(large, shifted)) > F.BROKEN


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_generation(name: str) -> None:
    small = live(name)
    large = isogrow.grow(small, **F.FAMILIES[name].together)
    prompt = F.batch("")["input_ids"][:2, :5]
    ids = [model.generate(prompt, max_new_tokens=6, do_sample=False) for model in (small, large)]
    assert torch.equal(*ids)


def opened(model: Any, folder: Path, **more: Any) -> Any:
    """What the model's class makes of its files; its config may be of another type than the class's own."""
    return type(model).from_pretrained(folder, config=type(model.config).from_pretrained(folder), **more)


@pytest.mark.slow
@pytest.mark.parametrize("name", swept(NAMES))
def test_saved_and_loaded_by_plain_transformers(name: str, tmp_path: Path) -> None:
    small = live(name)
    small.save_pretrained(tmp_path / "small")
    small = opened(small, tmp_path / "small").eval()  # loading computes some families' positions
    large: Any = isogrow.grow(small, **F.FAMILIES[name].together)
    large.save_pretrained(tmp_path / "large")
    loaded, info = opened(large, tmp_path / "large", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert same(large, loaded)
    with torch.no_grad():
        single = {key: x.float() if x.is_floating_point() else x for key, x in inputs(name).items()}
        a, b = (eager(model)(**single)[0] for model in (large, loaded))
    assert torch.equal(a, b)
    sizes = {key: value for key, value in large.config.to_dict().items() if isinstance(value, int | float)}
    loaded.config.allow_global_per_layer_attribute_access = True  # where layers have values of their own
    assert {key: getattr(loaded.config, key) for key in sizes} == sizes


@pytest.mark.slow
@pytest.mark.parametrize("name", swept(NAMES))
def test_grown_twice(name: str) -> None:
    """A grown model is a model like any other."""
    small = live(name, dtype=torch.float64)
    once = isogrow.grow(small, **F.FAMILIES[name].growths[F.FAMILIES[name].alone])
    twice = isogrow.grow(once, **F.FAMILIES[name].together)
    assert change(small, twice, inputs(name)) < F.EXACT
    assert plan_of(twice) != plan_of(once)


# Plans


def test_a_plan_is_used_again() -> None:
    small, other = live("llama"), live("llama", dtype=torch.float64)
    with torch.no_grad():
        other.lm_head.weight += 1.0
    large = isogrow.grow(small, hidden=42, layers="+1", seed=5)
    found = plan_of(large)
    assert found is not None
    again = isogrow.grow(small, plan=from_json(to_json(found)))
    assert same(large, again)
    sibling = isogrow.grow(other, plan=found)
    assert change(other, sibling, inputs("llama")) < F.EXACT
    assert plan_of(small) is None


@pytest.mark.parametrize(
    ("name", "changes"), [("mistral", {}), ("llama", {"intermediate_size": 39}), ("llama", {"head_dim": 12})]
)
def test_a_plan_for_another_model_is_refused(name: str, changes: dict[str, Any]) -> None:
    found = plan_of(isogrow.grow(live("llama"), hidden=42))
    assert found is not None
    with pytest.raises(SizeError, match="the plan is for 'llama' with .*ffn=37.*, and this model is"):
        isogrow.grow(live(name, **changes), plan=found)


def test_a_plan_beside_sizes_is_refused() -> None:
    found = plan_of(isogrow.grow(live("llama"), hidden=42))
    assert found is not None
    with pytest.raises(SizeError, match="plan= says everything itself: leave out ffn=, or plan="):
        isogrow.grow(live("llama"), plan=found, ffn=51)


# Models that can't be grown


def test_a_class_without_a_config_is_refused() -> None:
    with pytest.raises(FamilyError, match=r"Linear has no config with a model_type.*isogrow\.register"):
        isogrow.grow(nn.Linear(2, 3), hidden=4)


class Own(transformers.RwkvConfig):
    model_type = "own"


@pytest.mark.parametrize(
    ("config", "refusal"),
    [
        (Own, "model_type 'own' is not known.* lists .* draft. writes a layout .*of your own write one"),
        (transformers.RwkvConfig, "model_type 'rwkv' is not grown: its layers hold a recurrence .* lists"),
    ],
)
def test_a_family_that_is_not_grown_is_refused(config: type[transformers.RwkvConfig], refusal: str) -> None:
    made = config(vocab_size=11, hidden_size=6, attention_hidden_size=6, num_hidden_layers=1)
    with torch.device("meta"):
        model = transformers.RwkvForCausalLM(made)
    with pytest.raises(FamilyError, match=refusal):
        isogrow.grow(model, ffn=8)


def test_a_model_without_numbers_is_refused() -> None:
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(F.config_of(F.FAMILIES["llama"], F.FAMILIES["llama"].json()))
    with pytest.raises(CheckpointError, match="embed_tokens.weight is on the meta device.*load the weights"):
        isogrow.grow(model, ffn=51)


def test_a_config_that_is_not_the_models_is_refused() -> None:
    small = live("llama")
    small.config.intermediate_size = 39
    with pytest.raises(CheckpointError, match="the config and the weights do not belong together"):
        isogrow.grow(small, hidden=42)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_head_that_is_apart_though_the_config_ties_it_is_refused(name: str) -> None:
    """transformers keeps the two apart, with a warning, where a checkpoint holds both."""
    small = live(name, tie_word_embeddings=True)
    isogrow.grow(small, ffn="+3")
    small.lm_head.weight = torch.nn.Parameter(small.lm_head.weight + 0.1)
    with pytest.raises(CheckpointError, match="differ, but the config ties them"):
        isogrow.grow(small, ffn="+3")


def test_a_scale_that_float16_can_not_hold_is_refused() -> None:
    small = live("llama", dtype=torch.float16)
    with torch.no_grad():
        small.model.layers[1].self_attn.k_proj.bias[0] = 60000
    isogrow.grow(small, ffn="+3")
    with pytest.raises(CheckpointError, match="k_proj.bias would hold numbers beyond float16's 65504"):
        isogrow.grow(small, head_dim="x2")


def test_a_refusal_leaves_the_model_alone() -> None:
    small = live("gpt2")
    before = snapshot(small)
    with pytest.raises(IsogrowError):
        isogrow.grow(small, hidden=41)
    assert_same(before, snapshot(small))
