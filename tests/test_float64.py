"""`isogrow.verification.float64`: no cast narrows, models are float64 all through, and nothing lasts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import tiny
import torch
import transformers
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from isogrow.errors import CheckpointError
from isogrow.verification.float64 import build, float64, rebuilt, widened

IDS = torch.arange(2 * 19).view(2, 19) % tiny.VOCAB
X = torch.linspace(0.1, 1.9, 7, dtype=torch.float64)
NARROW = torch.ones(1, dtype=torch.float32)

CASTS: dict[str, Callable[[], Tensor]] = {
    "to(dtype)": lambda: X.to(torch.float32),
    "to(dtype=)": lambda: X.to(dtype=torch.bfloat16),
    "to(device, dtype)": lambda: X.to("cpu", torch.float16),
    "to(device=, dtype=)": lambda: X.to(device="cpu", dtype=torch.float32),
    "to(other)": lambda: X.to(NARROW),
    "to(tensor=)": lambda: X.to(tensor=NARROW),
    "type_as": lambda: X.type_as(NARROW),
    "float": lambda: X.float(),
    "half": lambda: X.half(),
    "bfloat16": lambda: X.bfloat16(),
    "type(dtype)": lambda: X.type(torch.float32),
    "type(name)": lambda: X.type("torch.FloatTensor"),
    "type(half name)": lambda: X.type(dtype="torch.HalfTensor"),
    "type(class)": lambda: X.type(torch.BFloat16Tensor),
    "softmax": lambda: nn.functional.softmax(X, dim=-1, dtype=torch.float32),
    "log_softmax": lambda: X.log_softmax(-1, torch.float32),
    "mean": lambda: X.mean(dtype=torch.float32),
    "sum": lambda: torch.sum(X, dtype=torch.float32),
    "cumsum": lambda: X.cumsum(0, dtype=torch.float32),
    "tensor": lambda: torch.tensor([0.1], dtype=torch.float32),
    "as_tensor": lambda: torch.as_tensor(X, dtype=torch.float32),
    "zeros": lambda: torch.zeros(3, dtype=torch.float32),
    "empty": lambda: torch.empty(3, dtype=torch.float16),
    "full": lambda: torch.full((3,), 0.1, dtype=torch.float32),
    "arange": lambda: torch.arange(0, 6, 2, dtype=torch.float),
    "linspace": lambda: torch.linspace(0, 1, 3, dtype=torch.float32),
    "randn": lambda: torch.randn(3, generator=torch.Generator().manual_seed(0), dtype=torch.float32),
    "ones_like": lambda: torch.ones_like(X, dtype=torch.float32),
    "new_zeros": lambda: X.new_zeros(3, dtype=torch.float32),
    "integers to float": lambda: torch.arange(3).float(),
    "module.to": lambda: nn.Linear(2, 3).to(torch.bfloat16).weight,
    "module.half": lambda: nn.Linear(2, 3).half().weight,
    "Linear(dtype=)": lambda: nn.Linear(2, 3, dtype=torch.float32).weight,
    "default": lambda: torch.ones(2),
    "default of a number": lambda: torch.tensor(0.1),
}
ROTARY = ("LlamaForCausalLM", "Qwen3ForCausalLM")


@pytest.mark.parametrize("cast", CASTS)
def test_every_cast_stays_float64_in_the_mode_alone(cast: str) -> None:
    assert CASTS[cast]().dtype in (torch.float32, torch.float16, torch.bfloat16)
    with float64():
        assert CASTS[cast]().dtype == torch.float64


def test_values_keep_all_their_digits() -> None:
    with float64():
        assert torch.equal(X.float(), X)
        assert torch.tensor([0.1], dtype=torch.float32).item() == 0.1
    assert torch.tensor([0.1], dtype=torch.float32).item() != 0.1


def test_complex_casts_stay_complex128() -> None:
    z = torch.ones(2, dtype=torch.complex128)
    with float64():
        for cast in (z.to(torch.complex64), z.cfloat(), torch.zeros(2, dtype=torch.complex64)):
            assert cast.dtype == torch.complex128
        assert torch.view_as_complex(X[:6].float().view(3, 2)).dtype == torch.complex128


def test_integers_bits_and_questions_are_left_alone() -> None:
    with float64():
        assert X.to(torch.int32).dtype == torch.int32
        assert X.type(torch.LongTensor).dtype == torch.int64
        assert X.to(torch.ones(1, dtype=torch.bool)).dtype == torch.bool
        assert torch.zeros(3, dtype=torch.int32).view(torch.float32).dtype == torch.float32
        assert X.type() == "torch.DoubleTensor"
        assert torch.finfo(torch.float32).bits == 32
        assert NARROW.dtype == torch.float32


def state() -> tuple[Any, ...]:
    """All that the mode changes."""
    return (
        torch.get_default_dtype(),
        torch._C._len_torch_function_stack(),
        torch.is_autocast_enabled("cpu"),
        X.float().dtype,
        torch.ones(2).dtype,
    )


def test_leaving_restores_everything() -> None:
    before = state()
    with float64():
        assert state() != before
        with float64():
            pass
        assert X.float().dtype == torch.ones(1).dtype == torch.float64
    assert state() == before


def test_an_exception_restores_everything() -> None:
    before = state()
    with pytest.raises(KeyError, match="from within"), float64():
        torch.set_default_dtype(torch.float16)
        raise KeyError("from within")
    assert state() == before


def test_another_default_and_autocast_come_back() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with float64():
                assert not torch.is_autocast_enabled("cpu")
                assert nn.Linear(7, 2)(X).dtype == torch.float64
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_default_dtype() == torch.bfloat16
    finally:
        torch.set_default_dtype(torch.float32)


def gap(a: Tensor, b: Tensor) -> float:
    return ((a.double() - b.double()).abs().max() / a.abs().max()).item()


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def rotation() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    square = torch.randn(tiny.HIDDEN, tiny.HIDDEN, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(square).Q


def permutation() -> Tensor:
    order = torch.randperm(tiny.HIDDEN, generator=torch.Generator().manual_seed(2))
    return torch.eye(tiny.HIDDEN, dtype=torch.float64)[order]


def pair(name: str) -> tuple[type[nn.Module], Any, dict[str, Tensor], dict[str, Tensor]]:
    """Weights and others of the same function: hidden rotated, under a LayerNorm permuted."""
    model = tiny.model(name)
    weights = widened(model.state_dict())
    family = {"G": "gpt2", "B": "bert"}.get(name[0], "gated")
    if family == "gated":  # a gain does not commute with a rotation, but a gain of one does
        hidden_gains = [n for n in weights if n.endswith(("layernorm.weight", "model.norm.weight"))]
        weights |= {n: torch.ones_like(weights[n]) for n in hidden_gains}
    turn = rotation() if family == "gated" else permutation()
    return type(model), model.config, weights, tiny.turned(weights, tiny.HIDDEN_DIMS[family], turn)


HEADS = (*ROTARY, "GPT2LMHeadModel", "BertForMaskedLM")


@pytest.mark.parametrize("attention", ("eager", "sdpa"))
@pytest.mark.parametrize("name", HEADS)
def test_equal_functions_agree_in_the_mode(name: str, attention: str) -> None:
    kind, config, weights, others = pair(name)
    a, b = (build(kind, config, each, attention=attention) for each in (weights, others))
    assert a.config._attn_implementation == attention
    with float64():
        assert 0 < gap(logits(a), logits(b)) < 1e-13


@pytest.mark.parametrize("name", ROTARY)
def test_equal_functions_disagree_in_float64_weights_without_the_mode(name: str) -> None:
    kind, config, weights, others = pair(name)
    a, b = (build(kind, config, each) for each in (weights, others))
    assert gap(logits(a), logits(b)) > 1e-9


@pytest.mark.parametrize("name", HEADS)
def test_equal_functions_disagree_in_float32(name: str) -> None:
    kind, config, weights, others = pair(name)
    a, b = (build(kind, config, each).float() for each in (weights, others))
    assert gap(logits(a), logits(b)) > 1e-9


@pytest.mark.parametrize("name", HEADS)
def test_a_nudged_weight_disagrees_in_the_mode(name: str) -> None:
    kind, config, weights, others = pair(name)
    nudged = next(n for n in others if n.endswith(("down_proj.weight", "dense.weight", "c_proj.weight")))
    others[nudged] = others[nudged].clone()
    others[nudged][1, 2] += 1e-6
    a, b = (build(kind, config, each) for each in (weights, others))
    with float64():
        assert gap(logits(a), logits(b)) > 1e-12


def test_eager_and_sdpa_agree_in_the_mode() -> None:
    for name in HEADS:
        model = tiny.model(name)
        with float64():
            eager, sdpa = (logits(rebuilt(model, attention=each)) for each in ("eager", "sdpa"))
        assert gap(eager, sdpa) < 1e-13, name


@pytest.mark.parametrize("name", ROTARY)
def test_rotary_tables_are_float64(name: str) -> None:
    model = tiny.model(name)
    built: Any = build(type(model), model.config, model.state_dict())
    theta = model.config.rope_parameters["rope_theta"]
    pairs = torch.arange(0, tiny.HEAD_DIM, 2, dtype=torch.float64)
    exact = theta ** -(pairs / tiny.HEAD_DIM)
    for table in (built.model.rotary_emb.inv_freq, built.model.rotary_emb.original_inv_freq):
        assert table.dtype == torch.float64
        assert gap(exact, table) < 1e-15
        assert gap(exact, table.float()) > 1e-9


@pytest.mark.parametrize(
    "rope",
    (
        dict(rope_type="linear", factor=2.5),
        dict(rope_type="dynamic", factor=2.5),
        dict(rope_type="yarn", factor=2.5, original_max_position_embeddings=13),
        dict(
            rope_type="llama3",
            factor=2.5,
            low_freq_factor=1.0,
            high_freq_factor=3.0,
            original_max_position_embeddings=13,
        ),
        dict(
            rope_type="longrope",
            factor=2.5,
            short_factor=[1.1, 1.2, 1.3, 1.4, 1.5],
            long_factor=[2.1, 2.2, 2.3, 2.4, 2.5],
            original_max_position_embeddings=13,
        ),
    ),
    ids=lambda rope: rope["rope_type"],
)
def test_scaled_rotary_tables_are_float64(rope: dict[str, Any]) -> None:
    model = tiny.model("LlamaForCausalLM", rope_parameters={"rope_theta": 500.0, **rope})
    built: Any = rebuilt(model)
    with float64():
        logits(built)
    table = built.model.rotary_emb.inv_freq
    assert table.dtype == torch.float64
    assert not torch.equal(table, table.float().double())


class Narrowed(TorchDispatchMode):
    """Notes each operation, below every Python function, whose result is a narrower float."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, Tensor) and each.is_floating_point() and each.element_size() < 8:
                self.operations.add(str(func))
        return result


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_no_operation_of_a_model_is_narrower(name: str) -> None:
    built: Any = rebuilt(tiny.model(name))
    with Narrowed() as narrowed, float64(), torch.enable_grad():
        result = built(input_ids=IDS)
        next(iter(result.values())).sum().backward()
        if built.can_generate():
            built.generate(IDS, max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert not narrowed.operations


def test_narrower_operations_are_seen_without_the_mode() -> None:
    built = rebuilt(tiny.model("LlamaForCausalLM"))
    with Narrowed() as narrowed:
        logits(built)
    assert "aten._to_copy.default" in narrowed.operations


@contextmanager
def untouched(*things: Any) -> Iterator[None]:
    """Fails if the block draws from the global random state or changes one of the things."""
    random, before = torch.get_rng_state(), copy.deepcopy(things)
    yield
    assert torch.equal(random, torch.get_rng_state())
    for old, new in zip(before, things, strict=True):
        if isinstance(old, dict):
            assert old.keys() == new.keys()
            assert all(torch.equal(old[name], new[name]) for name in old)
        else:
            assert old.to_dict() == new.to_dict()


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_build_loads_every_weight_and_changes_nothing(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    model = tiny.model(name)
    weights = model.state_dict()
    with untouched(weights, model.config):
        built = build(type(model), model.config, weights)
    assert capfd.readouterr() == ("", "")
    assert not built.training
    for key, value in built.state_dict().items():
        assert value.dtype == torch.float64
        assert torch.equal(value, weights[key].double()), key


def test_build_shares_no_storage() -> None:
    model = tiny.model("LlamaModel").double()
    weights = model.state_dict()
    built = build(type(model), model.config, weights)
    with torch.no_grad():
        for value in built.parameters():
            value.fill_(7.0)
    assert not any((value == 7.0).all() for value in weights.values())


def test_build_refuses_missing_weights(capfd: pytest.CaptureFixture[str]) -> None:
    model = tiny.model("LlamaForCausalLM")
    weights = model.state_dict()
    del weights["model.layers.1.mlp.up_proj.weight"]
    with (
        untouched(weights, model.config),
        pytest.raises(CheckpointError, match=r"no weight for 'model\.layers\.1\.mlp\.up_proj\.wei"),
    ):
        build(type(model), model.config, weights)
    del weights["lm_head.weight"]
    with pytest.raises(CheckpointError, match=r"'lm_head\.weight' and 1 more"):
        build(type(model), model.config, weights)
    assert capfd.readouterr() == ("", "")


def test_build_refuses_weights_that_the_class_would_forgive() -> None:
    class Forgiving(transformers.LlamaForCausalLM):
        _keys_to_ignore_on_load_missing = [r"norm\.weight"]

    model = tiny.model("LlamaForCausalLM")
    weights = model.state_dict()
    build(Forgiving, model.config, weights)
    del weights["model.norm.weight"]
    with pytest.raises(CheckpointError, match=r"no weight for 'model\.norm\.weight'"):
        build(Forgiving, model.config, weights)


def test_build_refuses_another_shape() -> None:
    model = tiny.model("GPT2LMHeadModel")
    weights = model.state_dict() | {"transformer.ln_f.bias": torch.zeros(25)}
    with pytest.raises(CheckpointError, match=r"'transformer\.ln_f\.bias' has shape \(25,\) where"):
        build(type(model), model.config, weights)


def test_build_ties_what_the_config_ties() -> None:
    model = tiny.model("LlamaForCausalLM", tie_word_embeddings=True)
    weights = model.state_dict()
    del weights["lm_head.weight"]
    built: Any = build(type(model), model.config, weights)
    assert built.lm_head.weight is built.model.embed_tokens.weight
    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        build(type(model), tiny.llama(), weights)


def test_build_takes_weights_with_and_without_a_prefix() -> None:
    masked, base = tiny.model("BertForMaskedLM"), tiny.model("BertModel", seed=1)
    bare = base.state_dict()
    prefixed = {f"bert.{name}": value for name, value in bare.items()}
    unread = {name: value for name, value in masked.state_dict().items() if "cls." in name}
    for given in (bare, prefixed, prefixed | unread):
        built = build(transformers.BertModel, base.config, given)
        assert torch.equal(built.state_dict()["pooler.dense.bias"], bare["pooler.dense.bias"])
    with pytest.raises(CheckpointError, match=r"no weight for 'pooler\.dense\.bias' and 1 more"):
        build(transformers.BertModel, masked.config, masked.state_dict())


def test_rebuilt_copies_a_module_of_ones_own() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Dropout()).train()
    again = rebuilt(model)
    assert again[0].weight.dtype == torch.float64
    assert not again.training
    assert model.training
    assert model[0].weight.dtype == torch.float32
    assert torch.equal(again[0].weight, model[0].weight.double())


def test_a_mixture_of_experts_runs_in_float64() -> None:
    config = transformers.MixtralConfig(
        **tiny.GATED, num_local_experts=3, num_experts_per_tok=2, experts_implementation="grouped_mm"
    )
    with torch.random.fork_rng(devices=[]):
        model = transformers.MixtralForCausalLM(config)
    tiny.randomize_(model)
    built = rebuilt(model)
    with Narrowed() as narrowed, float64():
        exact = logits(built)
    assert 0 < gap(exact, logits(model)) < 1e-4
    assert not narrowed.operations


def test_widened_copies() -> None:
    given = {"ids": IDS, "half": NARROW.half(), "wide": X}
    wide = widened(given)
    assert [value.dtype for value in wide.values()] == [torch.int64, *[torch.float64] * 2]
    assert all(wide[name].data_ptr() != given[name].data_ptr() for name in given)
