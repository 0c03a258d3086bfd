"""`isogrow.verification.runs`: each way of running a model agrees with the plain one, and can fail to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import tiny
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.utils import ModelOutput

from isogrow.errors import IsogrowError
from isogrow.verification.float64 import float64, rebuilt
from isogrow.verification.liveness import gradients
from isogrow.verification.runs import (
    batches,
    decoded,
    decodes,
    first_tensor,
    full,
    generated,
    lengths,
    main_outputs,
    padded,
    row_by_row,
    takes_one_row,
)

ROWS, WIDTH = 3, 17
BATCH = next(batches(tiny.VOCAB, WIDTH, rows=ROWS))
NAMES = {
    "LlamaModel": ["last_hidden_state"],
    "GPT2Model": ["last_hidden_state"],
    "BertModel": ["last_hidden_state", "pooler_output"],
}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 24, "intermediate_size": 34, "num_hidden_layers": 2, "num_attention_heads": 4},
    "gpt2": {"n_embd": 20, "n_layer": 2, "n_head": 4, "n_positions": 26},
    "opt": {
        **{"hidden_size": 24, "ffn_dim": 34, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"max_position_embeddings": 26, "word_embed_proj_dim": 24},
    },
    "bloom": {"hidden_size": 24, "n_layer": 2, "n_head": 4},
}
POOLED = {"BertModel": "pooler_output", "BertForSequenceClassification": "logits"}


def exact(name: str, **changes: Any) -> Any:
    return rebuilt(tiny.model(name, **changes))


def apart(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[float]:
    assert a.keys() == b.keys()
    assert all(a[name].shape == b[name].shape for name in a)
    return [((a[name] - b[name]).abs().max() / a[name].abs().max()).item() for name in a]


def worst(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return max(apart(a, b))


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_full_names_the_outputs_and_leaves_the_model(name: str) -> None:
    model = tiny.model(name).train()
    outputs = full(model, BATCH)
    assert list(outputs) == NAMES.get(name, ["logits"])
    assert not any(value.requires_grad for value in outputs.values())
    assert all(module.training for module in model.modules())
    again = full(model, BATCH)  # dropout would differ
    assert all(torch.equal(outputs[key], again[key]) for key in outputs)


def test_a_module_that_was_still_stays_still() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout()).train()
    model[1].eval()
    with pytest.raises(TypeError):
        full(model, {"no such input": torch.ones(1, 2)})
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_channels_pick_from_the_last_dim() -> None:
    model, channels = tiny.model("BertModel"), torch.tensor([5, 0, 11])
    whole, part = full(model, BATCH), full(model, BATCH, channels)
    for name, value in whole.items():
        assert torch.equal(part[name], value[..., [5, 0, 11]])
    decoder = tiny.model("GPT2Model")
    for run in (decoded, row_by_row):
        assert run(decoder, BATCH, channels)["last_hidden_state"].shape == (ROWS, WIDTH, 3)
    assert padded(decoder, BATCH, "left", channels)["last_hidden_state"].shape[-1] == 3


def test_main_outputs_of_other_models() -> None:
    tensor, loss = torch.ones(2), torch.zeros(())
    assert main_outputs(tensor) == {"output": tensor}
    assert main_outputs((tensor, loss)) == {"output": tensor}
    assert main_outputs((tensor, tensor.long(), (tensor,), 2 * tensor))["output 2"].equal(2 * tensor)
    assert main_outputs({"loss": loss, "logits": tensor, "cache": None}) == {"logits": tensor}
    assert first_tensor([None, tensor]) is tensor
    with pytest.raises(IsogrowError, match="a module returned tuple without a tensor"):
        main_outputs((None, "text"))


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_row_by_row_agrees_with_full(name: str) -> None:
    model = exact(name)
    with float64():
        assert worst(full(model, BATCH), row_by_row(model, BATCH)) < 1e-13


def test_decodes_says_who_has_a_cache() -> None:
    assert [name for name in tiny.CONFIGS if decodes(tiny.model(name), BATCH)] == tiny.DECODERS
    assert not decodes(nn.Linear(2, 3), BATCH)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ("eager", "sdpa"))
@pytest.mark.parametrize("name", tiny.DECODERS)
def test_decoded_agrees_with_full(name: str, attention: str) -> None:
    model = rebuilt(tiny.model(name), attention=attention)
    with float64():
        assert 0 < worst(full(model, BATCH), decoded(model, BATCH)) < 1e-13


class Wrapped(nn.Module):
    """A model that never gets to see one of its arguments."""

    def __init__(self, model: nn.Module, lost: str) -> None:
        super().__init__()
        self.model, self.lost, self.config = model, lost, model.config

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        **given: Any,
    ) -> Any:
        given |= {"input_ids": input_ids, "position_ids": position_ids, "past_key_values": past_key_values}
        given |= {self.lost: None}
        return self.model(**given)


class Renamed(nn.Module):
    """A model that calls its cache as transformers does since 5.24, and returns it as that."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, input_ids: Tensor, cache: Any = None, **given: Any) -> Any:
        made = self.model(input_ids, past_key_values=cache, **given)
        return ModelOutput(logits=made.logits, cache=made.past_key_values)


def test_a_cache_by_its_newer_name_is_used() -> None:
    name = next(name for name in tiny.DECODERS if name.startswith("Llama"))
    model = Renamed(exact(name))
    assert decodes(model, BATCH)
    with float64():
        assert 0 < worst(full(model, BATCH), decoded(model, BATCH)) < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize("name", tiny.DECODERS)
def test_decoded_fails_without_the_cache(name: str) -> None:
    model = Wrapped(exact(name), "past_key_values")
    with float64():
        assert worst(full(model, BATCH), decoded(model, BATCH)) > 1e-2


@pytest.mark.slow
def test_decoded_takes_a_padded_batch() -> None:
    mask = torch.ones_like(BATCH["input_ids"])
    mask[1, :6] = 0
    positions = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 0)
    batch = {**BATCH, "attention_mask": mask, "position_ids": positions}
    for name in tiny.DECODERS:
        model = exact(name)
        with float64():
            whole, steps = full(model, batch), decoded(model, batch)
        (key,) = whole
        real = mask.bool()
        assert worst({key: whole[key][real]}, {key: steps[key][real]}) < 1e-13, name


def test_decoded_of_a_sequence_classifier_is_the_last_step() -> None:
    with torch.random.fork_rng(devices=[]):
        made = transformers.LlamaForSequenceClassification(tiny.llama(num_labels=5, pad_token_id=0))
    tiny.randomize_(made)
    model, batch = rebuilt(made), {"input_ids": BATCH["input_ids"].clamp_min(1)}
    with float64():
        assert decodes(model, batch)
        assert worst(full(model, batch), decoded(model, batch)) < 1e-13


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "bloom"])
def test_a_classifier_without_a_padding_token_runs_row_by_row(kind: str) -> None:
    config = transformers.AutoConfig.for_model(kind, vocab_size=tiny.VOCAB, **CLASSIFIERS[kind], num_labels=5)
    config.pad_token_id = None
    with torch.random.fork_rng(devices=[]):
        made = transformers.AutoModelForSequenceClassification.from_config(config)
    tiny.randomize_(made)
    model, batch = rebuilt(made), {"input_ids": BATCH["input_ids"]}
    assert takes_one_row(model)
    with float64():
        with pytest.raises(ValueError, match="Cannot handle batch sizes > 1"):
            model(**batch)
        whole = full(model, batch)
        assert whole["logits"].shape == (len(batch["input_ids"]), 5)
        assert worst(whole, row_by_row(model, batch)) == 0
        assert worst(whole, decoded(model, batch)) < 1e-13
    seen = gradients(model, [batch], steps=1)[-1]
    last = next(mark for name, mark in seen.items() if name.startswith(("score", "classifier")))
    assert bool(last.all())


def test_a_classifier_with_a_padding_token_runs_at_once() -> None:
    for config in (tiny.llama(pad_token_id=0), tiny.llama(pad_token_id=None)):
        with torch.random.fork_rng(devices=[]):
            padded_, plain = (
                made(config)
                for made in (transformers.LlamaForSequenceClassification, transformers.LlamaForCausalLM)
            )
        assert takes_one_row(padded_) == (config.pad_token_id is None)
        assert not takes_one_row(plain)


def test_decoded_refuses_a_model_without_a_cache() -> None:
    with pytest.raises(IsogrowError, match="BertModel returns no key-value cache"):
        decoded(tiny.model("BertModel"), BATCH)


@given(st.integers(1, 9), st.integers(2, 12))
def test_lengths_leave_padding_and_tokens(rows: int, width: int) -> None:
    kept = lengths({"input_ids": torch.zeros(rows, width, dtype=torch.long)})
    assert len(kept) == rows
    assert all(max(1, width // 2 - 1) <= each < width for each in kept)
    assert len(set(kept)) == min(rows, max(width // 2, 1))


def test_lengths_refuses_rows_of_one_token() -> None:
    with pytest.raises(IsogrowError, match="give at least two"):
        lengths({"input_ids": torch.zeros(2, 1, dtype=torch.long)})


def alone(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `padded` must return: each row cut to its length and run without any padding."""
    parts = [
        full(model, {name: value[row : row + 1, :n] for name, value in batch.items()})
        for row, n in enumerate(lengths(batch))
    ]
    rows = {name: [part[name] for part in parts] for name in parts[0]}
    return {
        name: torch.cat([each[0] if each.ndim > 2 else each for each in values])
        for name, values in rows.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("side", ("left", "right"))
@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_padded_rows_agree_with_rows_alone(name: str, side: Any) -> None:
    model = exact(name)
    with float64():
        expected, found = dict(alone(model, BATCH)), dict(padded(model, BATCH, side))
    if side == "left" and name in POOLED:  # a pooler reads the first token, which is padding there
        assert worst(expected, found) > 1e-2
        del expected[POOLED[name]], found[POOLED[name]]
    assert all(each < 1e-13 for each in apart(expected, found))


@pytest.mark.parametrize("name", ("LlamaForCausalLM", "GPT2LMHeadModel", "BertForMaskedLM"))
def test_padded_fails_without_the_mask(name: str) -> None:
    model = Wrapped(exact(name), "attention_mask")
    with float64():
        assert worst(alone(model, BATCH), padded(model, BATCH, "left")) > 1e-2


@pytest.mark.parametrize("name", ("GPT2LMHeadModel", "BertForMaskedLM"))
def test_padded_fails_without_position_ids(name: str) -> None:
    model = Wrapped(exact(name), "position_ids")
    with float64():
        assert worst(alone(model, BATCH), padded(model, BATCH, "left")) > 1e-2


def test_padded_pads_every_input_of_the_rows() -> None:
    batch = next(batches(tiny.VOCAB, WIDTH, rows=ROWS, token_types=2))
    model = exact("BertForMaskedLM")
    with float64():
        for side in ("left", "right"):
            assert worst(alone(model, batch), padded(model, batch, side)) < 1e-13


@pytest.mark.parametrize("name", [each for each in tiny.DECODERS if each not in tiny.HEADLESS])
def test_generated_is_greedy(name: str) -> None:
    model, steps = exact(name), 6
    prompt = BATCH["input_ids"][:, :5]
    ids = prompt
    with float64():
        answer = generated(model, prompt, steps)
        for _ in range(steps):
            following = full(model, {"input_ids": ids})["logits"][:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, following], dim=1)
    assert torch.equal(answer, ids[:, 5:])


def test_generated_goes_on_past_the_end_of_text() -> None:
    model = exact("LlamaForCausalLM")
    prompt = BATCH["input_ids"][:1, :5]
    with float64():
        end = generated(model, prompt, 4)[0, 1].item()
        model.generation_config.eos_token_id = end
        ids = generated(model, prompt, 4)
    assert ids.shape == (1, 4)
    assert end not in ids


def test_generated_refuses_what_can_not_generate() -> None:
    for name in ("BertModel", "LlamaModel"):
        with pytest.raises(IsogrowError, match=f"{name} can't generate"):
            generated(tiny.model(name), BATCH["input_ids"], 2)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**40))
def test_batches_hold_every_id_at_every_position_width(
    vocab: int, positions: int, rows: int, seed: int
) -> None:
    before = torch.get_rng_state()
    made = list(batches(vocab, positions, rows=rows, seed=seed))
    assert torch.equal(before, torch.get_rng_state())
    assert len(made) == -(-vocab // (rows * positions))
    ids = torch.cat([batch["input_ids"] for batch in made])
    assert ids.dtype == torch.int64
    assert ids.shape[1] == positions
    assert ids.unique().tolist() == list(range(vocab))
    again = torch.cat([each["input_ids"] for each in batches(vocab, positions, rows=rows, seed=seed)])
    assert torch.equal(ids, again)


def test_batches_depend_on_the_seed_and_leave_out() -> None:
    first, other = (next(batches(53, 7, seed=seed))["input_ids"] for seed in (0, 1))
    assert not torch.equal(first, other)
    ids = torch.cat([each["input_ids"] for each in batches(53, 7, exclude=(0, 52, 99))])
    assert ids.unique().tolist() == list(range(1, 52))
    with pytest.raises(IsogrowError, match="no id below 2 is left"):
        next(batches(2, 7, exclude=range(5)))


def test_batches_hold_every_token_type() -> None:
    batch = next(batches(53, 9, token_types=3))
    assert batch["token_type_ids"].shape == batch["input_ids"].shape
    assert batch["token_type_ids"].unique().tolist() == [0, 1, 2]
    assert "token_type_ids" not in next(batches(53, 9))
