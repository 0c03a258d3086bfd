"""`isogrow.verification.liveness`: what gets gradient when, what never does, and what stays a copy."""

from __future__ import annotations

from typing import Any

import families as F
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import isogrow
from isogrow.errors import IsogrowError
from isogrow.verification.float64 import rebuilt
from isogrow.verification.liveness import distinct, generic_loss, gradients, training
from isogrow.verification.runs import batches

BATCHES = list(batches(tiny.VOCAB, tiny.POSITIONS, rows=2))
TYPED = list(batches(tiny.VOCAB, tiny.POSITIONS, rows=2, token_types=2))
MLP = "model.layers.1.mlp"
NEW = slice(37, None)  # the ffn channels taken for new ones


def switched(*zero: str) -> Any:
    """A Llama whose new ffn channels are zero in the projections named."""
    model: Any = tiny.model("LlamaForCausalLM")
    mlp = model.model.layers[1].mlp
    with torch.no_grad():
        for name in zero:
            weight = getattr(mlp, f"{name}_proj").weight
            (weight[:, NEW] if name == "down" else weight[NEW]).zero_()
    return model


def new_part(seen: dict[str, Tensor], name: str) -> Tensor:
    mask = seen[f"{MLP}.{name}_proj.weight"]
    return mask[:, NEW] if name == "down" else mask[NEW]


def test_a_switch_opens_at_the_first_step_and_the_rest_at_the_second() -> None:
    first, second = gradients(switched("down"), BATCHES, steps=2)
    assert new_part(first, "down").all()
    assert not new_part(first, "gate").any()
    assert not new_part(first, "up").any()
    assert all(new_part(second, name).all() for name in ("down", "gate", "up"))


def test_two_zeros_in_series_never_live() -> None:
    for seen in gradients(switched("down", "up"), BATCHES, steps=4, lr=0.1):
        assert not any(new_part(seen, name).any() for name in ("down", "gate", "up"))
        assert seen[f"{MLP}.down_proj.weight"].any()


FLOOR = 1e-14  # well above rounding, far below the least gradient of these models


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_all_that_the_function_depends_on_gets_gradient(name: str) -> None:
    given = TYPED if "Bert" in name else BATCHES
    (seen,) = gradients(tiny.model(name), given, steps=1, floor=FLOOR)
    for key, mask in seen.items():
        if key.endswith("key.bias"):
            assert not mask.any(), key
        elif key.endswith("c_attn.bias"):
            query, keys, value = mask.chunk(3)
            assert query.all() and value.all() and not keys.any(), key
        elif key.endswith("word_embeddings.weight") and name != "BertForMaskedLM":
            assert mask[1:].all() and not mask[0].any()  # no gradient goes to its padding row
        else:
            assert mask.all(), key


def test_without_a_floor_rounding_counts_as_gradient() -> None:
    (seen,) = gradients(tiny.model("BertModel"), TYPED, steps=1)
    biases = torch.stack([mask for key, mask in seen.items() if key.endswith("key.bias")])
    assert biases.any()


def test_seen_only_grows() -> None:
    steps = gradients(switched("down"), BATCHES[:1], steps=3)
    for before, after in zip(steps, steps[1:], strict=False):
        assert all((after[name] | ~before[name]).all() for name in before)


def test_what_was_seen_once_stays_seen() -> None:
    model, calls = nn.Linear(2, 3), iter((0, 1, 2))
    batch = {"input": torch.ones(4, 2)}

    def one_channel(outputs: Any, _: int) -> Tensor:
        return outputs["output"][:, next(calls)].square().sum()

    steps = gradients(model, [batch], one_channel, steps=3)
    assert [seen["bias"].tolist() for seen in steps] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_each_step_follows_the_gradient_of_all_batches_at_its_weights() -> None:
    model, lr = nn.Linear(1, 1, bias=False).double(), 0.1
    model.weight.requires_grad_(False).fill_(5.0)
    batches = [{"input": torch.tensor([[1.0]])}, {"input": torch.tensor([[3.0]])}]

    def loss(outputs: Any, index: int) -> Tensor:
        # Of batch 0: w²/2, and of batch 1: 9 (w − 9)² / 2, whose pull is the stronger.
        return (outputs["output"] - (0.0, 27.0)[index]).square().sum() / 2

    weights = [each.values["weight"].item() for each in training(model, batches, loss, 40, lr)]
    assert weights[:3] == pytest.approx([5.1, 5.2, 5.3], rel=1e-12)
    # About the minimum, w = 8.1, the steps turn round at once.
    assert all(abs(weight - 8.1) < 1.01 * lr for weight in weights[32:])
    assert not model.weight.requires_grad


def test_tied_parameters_appear_under_each_name() -> None:
    (seen,) = gradients(tiny.model("GPT2LMHeadModel"), BATCHES, steps=1)
    assert torch.equal(seen["lm_head.weight"], seen["transformer.wte.weight"])
    assert seen.keys() == tiny.model("GPT2LMHeadModel").state_dict().keys()


def test_the_callers_model_and_random_state_are_left_alone() -> None:
    model = tiny.model("BertForMaskedLM").train()
    frozen = model.get_parameter("bert.embeddings.LayerNorm.weight").requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    (seen,) = gradients(model, TYPED, steps=1, lr=0.5)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())
    assert all(module.training for module in model.modules())
    assert not frozen.requires_grad
    assert seen["bert.embeddings.LayerNorm.weight"].all()


def test_training_is_float64_repeatable_and_bounded() -> None:
    model = tiny.model("BertModel")  # its configuration has dropout
    start = rebuilt(model).state_dict()
    lr = 0.01
    (one,), (two,) = (list(training(model, TYPED, steps=1, lr=lr)) for _ in range(2))
    assert one.loss == two.loss > 0
    moves = [(one.values[name] - start[name]).abs().max().item() for name in one.values]
    assert max(moves) == pytest.approx(lr, rel=1e-12)
    for name, value in one.values.items():
        assert value.dtype == torch.float64
        assert torch.equal(value, two.values[name])


def test_the_loss_falls() -> None:
    losses = [each.loss for each in training(tiny.model("BertModel"), TYPED, steps=8, lr=0.003)]
    assert losses[-1] < losses[0]


def test_every_output_counts_in_the_generic_loss() -> None:
    logits, hidden = torch.ones(2, 3, 5, requires_grad=True), torch.ones(2, 7, requires_grad=True)
    single = torch.ones(2, 1, requires_grad=True)  # cross-entropy of one class has no gradient
    outputs = {"logits": logits, "pooler_output": hidden, "start_logits": single}
    torch.autograd.backward(generic_loss(outputs, 0))
    assert all((value.grad != 0).all() for value in outputs.values())
    assert generic_loss(outputs, 0) == generic_loss(outputs, 0) != generic_loss(outputs, 1)


def test_a_loss_of_ones_own() -> None:
    (seen,) = gradients(
        tiny.model("BertModel"), TYPED, lambda outputs, _: outputs["pooler_output"].sum(), steps=1
    )
    assert seen["pooler.dense.weight"].all()
    (seen,) = gradients(
        tiny.model("BertModel"),
        TYPED,
        lambda outputs, _: outputs["last_hidden_state"].square().sum(),
        steps=1,
    )
    assert not seen["pooler.dense.weight"].any()


@pytest.mark.parametrize("factor", (float("nan"), float("inf"), 0.0))
def test_a_loss_that_tells_nothing_is_refused(factor: float) -> None:
    with pytest.raises(IsogrowError, match="at training step 1 the largest gradient is"):
        gradients(tiny.model("GPT2Model"), BATCHES, lambda outputs, i: generic_loss(outputs, i) * factor)


def test_a_gradient_that_is_no_number_is_refused_in_any_parameter() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    with torch.no_grad():
        model[1].bias[2] = float("nan")
    with pytest.raises(IsogrowError, match="largest gradient is nan"):
        gradients(model, [{"input": torch.ones(1, 2)}])


def unit(values: Any) -> Tensor:
    """All that makes up an ffn unit: (ffn, 3 hidden)."""
    gate, up, down = (values[f"{MLP}.{name}_proj.weight"] for name in ("gate", "up", "down"))
    return torch.cat([gate, up, down.T], dim=1)


def copies_left(before: torch.Tensor, after: torch.Tensor) -> list[int]:
    """Rows that were copies of another before and are still."""
    return (~distinct(before, 0) & ~distinct(after, 0)).nonzero().flatten().tolist()


def test_copies_stay_copies_unless_something_differs() -> None:
    model: Any = tiny.model("LlamaForCausalLM")
    mlp = model.model.layers[1].mlp
    with torch.no_grad():
        for weight in (mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight.T):
            weight[40:44] = weight[0:4]
        mlp.down_proj.weight[:, 42:44] *= 0.5
    before = unit(rebuilt(model).state_dict())
    gates = rebuilt(model).state_dict()[f"{MLP}.gate_proj.weight"]
    *_, last = training(model, BATCHES, steps=3, lr=0.01)
    assert copies_left(before, unit(last.values)) == [0, 1, 40, 41]
    # The gates alone were copies in all four, and two of them parted.
    after = last.values[f"{MLP}.gate_proj.weight"]
    assert (~distinct(gates, 0)).nonzero().flatten().tolist() == [0, 1, 2, 3, 40, 41, 42, 43]
    assert copies_left(gates, after) == [0, 1, 40, 41]


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.integers(1, 4),
    st.sampled_from((0, 1, 2)),
)
def test_distinct_agrees_with_comparing_all_pairs(kinds: list[int], width: int, dim: int) -> None:
    generator = torch.Generator().manual_seed(3)
    table = torch.randn(6, width, 2, generator=generator, dtype=torch.float64)
    values = table[kinds].movedim(0, dim)
    expected = [kinds.count(kind) == 1 for kind in kinds]
    for tolerance in (0.0, 1e-12):
        assert distinct(values, dim, tolerance).tolist() == expected
        assert distinct(values, dim - 3, tolerance).tolist() == expected


def test_distinct_weighs_against_the_largest_entry() -> None:
    values = torch.tensor([[100.0, 0.0], [100.0, 1e-9], [100.0, 3e-8]], dtype=torch.float64)
    assert distinct(values, 0, 1e-10).tolist() == [False, False, True]
    assert distinct(values, 0, 1e-12).tolist() == [True, True, True]
    assert distinct(values, 0, 1e-9).tolist() == [False, False, False]


def test_distinct_of_many_wide_channels() -> None:
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(700, 1500, generator=generator)
    values[690] = values[5]
    assert (~distinct(values, 0, 0.0)).nonzero().flatten().tolist() == [5, 690]
    assert not distinct(torch.full((70, 900), 0.1), 0).any()
    assert distinct(torch.ones(1, 9), 0).all()


def test_a_row_of_a_token_that_no_text_has_is_no_new_channel() -> None:
    """Gemma 4's inputs of each layer's own are looked up by tokens, whose padding never has gradient."""
    family = F.FAMILIES["gemma4_text"]
    with torch.random.fork_rng(devices=[]):
        small = F.class_of(family.classes[0])(F.config_of(family, family.json())).eval()
    report = isogrow.verify(small, isogrow.grow(small, layers="+2"))
    assert report.passed, report.failed
