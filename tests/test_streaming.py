"""`verify(streamed=True)` says what the comparison in memory says, fails where it fails, and holds little."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import families as F
import pytest
import torch
from command import isogrow as command
from safetensors.torch import load_file, save_file
from test_verify import GROWTHS, bert, filled, gpt2, llama, named, reference, sighted
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, SiglipVisionConfig, SiglipVisionModel
from transformers.core_model_loading import revert_weight_conversion

import isogrow
from isogrow.errors import CheckpointError
from isogrow.plans.pieces import Box
from isogrow.stores.sources import open_checkpoint
from isogrow.stores.store import StateDict
from isogrow.verification import checks
from isogrow.verification.memory import largest_layer, shapes_of, shortage, streaming_shortage
from isogrow.verification.report import Report
from isogrow.verification.runs import full
from isogrow.verification.streaming import ahead, lending, living, proof, streamed_pair
from isogrow.verification.streaming.convoy import Passing, abreast
from isogrow.verification.streaming.lending import lent
from isogrow.verification.streaming.rooms import roomy

DIVERSE = {
    "llama": {"tie_word_embeddings": True},
    "gpt2": {},
    "mixtral": {},
    "gemma2": {},
    "t5": {},
    "bert": {},
}
BESIDE = 250e6  # bytes beside two layers that a run may hold


def grown(model: Any, folder: Path, **sizes: Any) -> tuple[Path, Path]:
    """A model and what it grew into, as folders."""
    small, large = folder / "small", folder / "large"
    model.save_pretrained(small)
    isogrow.grow_checkpoint(small, large, **sizes)
    return small, large


def one_by_one(model: Any) -> Any:
    """The same model, whose files hold stacked experts one by one: one that no file was loaded into."""
    made = type(model)(model.config).to(next(model.parameters()).dtype)
    made.load_state_dict(model.state_dict())
    if any("experts" in name for name in model.state_dict()):
        save, state = made.save_pretrained, revert_weight_conversion(made, dict(made.state_dict()))
        made.save_pretrained = lambda folder: (
            save(folder),
            write(folder, {name: x.contiguous() for name, x in state.items()}),
        )
    return made.eval()


def read(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def write(folder: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def nudge(folder: Path, name: str, at: tuple[int, ...], by: float = 1e-2) -> None:
    tensors = read(folder)
    tensors[name][at] += by
    write(folder, tensors)


def streamed(small: Any, large: Any, **options: Any) -> Report:
    return isogrow.verify(small, large, streamed=True, **options)


# ── it says the same ──


@pytest.mark.slow
@pytest.mark.parametrize("name", DIVERSE)
def test_figures_are_those_of_the_comparison_in_memory(name: str, tmp_path: Path) -> None:
    """Files of bfloat16; a tied head, fused and transposed matrices, stacked experts that lie one by one in
    files, softcaps, two stacks, a post-norm encoder."""
    family = F.FAMILIES[name]
    subject = F.subject(family, source=family.json(**DIVERSE[name]), spread=0.1)
    pair = grown(one_by_one(subject.small.to(torch.bfloat16)), tmp_path, **family.together)
    whole, found = isogrow.verify(*pair, streamed=False), streamed(*pair)
    assert whole.passed and found.passed, found.failed
    for check in found.checks:
        theirs = named(whole)[check.name]
        if check.name in ("config", "float64", "own dtype", "padding left", "padding right"):
            assert check.value == pytest.approx(theirs.value, rel=0.2, abs=2e-15), check
            assert check.limit == pytest.approx(theirs.limit, rel=1e-6)
    assert found.figures["own_dtype"]["noise"] == pytest.approx(whole.figures["own_dtype"]["noise"])
    assert {check.name for check in found.skipped} == {"kv cache", "generate", "reload"}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "sizes"), GROWTHS, ids=["llama", "gpt2", "bert"])
def test_models_in_memory_can_be_streamed(make: Callable[[], Any], sizes: dict[str, Any]) -> None:
    small = make()
    large = isogrow.grow(small, **sizes)
    before = {name: x.clone() for name, x in large.state_dict().items()}
    state, threads = torch.get_rng_state(), set(threading.enumerate())
    report = streamed(small, large)
    assert report.passed, report.failed
    assert torch.equal(state, torch.get_rng_state())
    assert set(threading.enumerate()) <= threads
    assert torch.get_default_dtype() == torch.float32
    assert all(torch.equal(x, before[name]) for name, x in large.state_dict().items())
    assert large.config.use_cache == type(large.config)().use_cache  # that of the user's own is left alone


def test_every_layer_is_compared() -> None:
    small = llama()
    layers = streamed(small, isogrow.grow(small, ffn="+6", layers="+1"), liveness=False).figures["layers"]
    assert list(layers) == [
        "model.embed_tokens",
        *(f"model.layers.{n}" for n in range(3)),
        "model.norm",
        "lm_head",
    ]
    assert max(layers.values()) < 1e-14


@pytest.mark.parametrize("whole", [True, False])
def test_padding_that_the_new_model_alone_can_not_take_fails(
    whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the old one can't take is skipped (tests/test_signals.py)."""
    small = gpt2()
    large = isogrow.grow(small, ffn="+7")
    run = checks.padded

    def failing(model: Any, *given: Any) -> Any:
        if model.config.n_inner == large.config.n_inner:
            raise ValueError("no padding here")
        return run(model, *given)

    for module in (checks, proof):
        monkeypatch.setattr(module, "padded", failing)
    report = isogrow.verify(small, large, liveness=False, streamed=not whole)
    assert [check.name for check in report.failed] == ["padding left", "padding right"]
    assert {check.detail for check in report.failed} == {"its class fails: ValueError: no padding here"}


def test_a_row_is_as_long_as_the_class_runs_where_few_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a class that takes rows of one length alone, longer than the small batch's. Only its first layer is
    asked, so that no more is read."""
    monkeypatch.setattr(proof, "TOKENS", 40)
    monkeypatch.setattr(proof, "FEW", (2, 5))
    small, large = map(open_checkpoint, grown(gpt2(), tmp_path, ffn="+7"))
    asked: list[int] = []

    def choosy(module: nn.Module, given: Any) -> None:
        asked.append(given[0].shape[-2])
        if asked[-1] != 25:
            raise ValueError("rows of 25 tokens alone")

    with streamed_pair(small, large, None) as both:
        model: Any = both.pair.small
        first = model.transformer.h[0].register_forward_pre_hook(choosy)
        second = model.transformer.h[1].register_forward_pre_hook(lambda *_: pytest.fail("it goes on"))
        given = proof.given_to(both)
        first.remove()
        second.remove()
    assert not given.all_ids and given.probe["input_ids"].shape == (2, 25)
    assert asked[:4] == [5, 4, 3, 2] and asked[-2:] == [26, 25]


def test_what_a_report_leaves_out_it_says() -> None:
    small = gpt2()
    report = streamed(small, isogrow.grow(small, ffn="+7"))
    assert [check.name for check in report.checks] == [
        "config", "weights", "float64", "own dtype", "padding left", "padding right",
        "kv cache", "generate", "reload", "liveness", "distinct",
    ]  # fmt: skip
    assert all(check.detail.startswith("not streamed: ") for check in report.skipped)
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True


# ── it fails when it must ──


@pytest.mark.slow
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_nudged_weight_is_found_and_its_layer_and_block_named(layer: int, tmp_path: Path) -> None:
    small, large = grown(llama(), tmp_path, ffn="+6", hidden=28)
    nudge(large, f"model.layers.{layer}.mlp.up_proj.weight", (5, 7))
    (failed,) = streamed(small, large).failed
    assert (failed.name, failed.value) == ("weights", 1.0)
    name, block = f"model.layers.{layer}.mlp.up_proj.weight", f"mlp.up of layers {layer}"
    assert failed.detail.startswith(f"first of 1 that differ: {name} ({block}: 1 entries, by a relative ")
    assert f"; first difference in model.layers.{layer}, by a relative " in failed.detail


def test_one_ulp_fails(tmp_path: Path) -> None:
    small, large = grown(gpt2(), tmp_path, ffn="+6")
    nudge(large, "transformer.h.2.mlp.c_fc.weight", (3, 5), by=1e-8)
    (failed,) = streamed(small, large).failed
    assert "transformer.h.2.mlp.c_fc.weight (mlp.up of layers 2: 1 entries" in failed.detail


def test_a_nudged_switch_of_a_new_layer_is_found_there(tmp_path: Path) -> None:
    small, large = grown(llama(), tmp_path, layers="+2", layers_at=(1, 3))
    nudge(large, "model.layers.4.mlp.down_proj.weight", (5, 7))
    (failed,) = streamed(small, large).failed
    assert "mlp.down of layers 4" in failed.detail and "first difference in model.layers.4, " in failed.detail


def test_an_expert_that_no_token_reaches_is_compared_by_its_weights(tmp_path: Path) -> None:
    family = F.FAMILIES["mixtral"]
    model = F.subject(family, spread=0.1).small.to(torch.float32)
    small, large = grown(one_by_one(model), tmp_path, ffn="+6")
    names = sorted(n for n in read(large) if n.endswith("experts.1.w2.weight"))
    nudge(large, names[-1], (2, 3))
    (failed,) = streamed(small, large).failed
    assert names[-1] in failed.detail and " of experts 1: 1 entries" in failed.detail


@pytest.mark.slow
def test_a_row_that_no_small_batch_looks_up_is_compared_by_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isogrow.verification.streaming.proof.TOKENS", 8)
    small, large = grown(bert(), tmp_path, ffn="+6")
    report = streamed(small, large, liveness=False)
    assert report.passed and "all other token ids by their weights" in named(report)["float64"].detail
    for table, row in (("position", 25), ("word", 60)):
        name = f"embeddings.{table}_embeddings.weight"
        nudge(large, name, (row, 3))
        (failed,) = streamed(small, large).failed
        assert failed.detail.startswith(f"first of 1 that differ: {name}")
        write(large, {**read(large), name: read(small)[name]})


def test_a_wrong_config_fails_in_float64(tmp_path: Path) -> None:
    """The weights are right and the function is not."""
    small, large = grown(llama(), tmp_path, ffn="+6")
    path = large / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 1e-2}))
    report = streamed(small, large)
    assert [check.name for check in report.failed] == ["config", "float64"]
    assert named(report)["float64"].detail.startswith("first difference in model.layers.0, by a relative ")


def test_free_entries_may_be_the_users_own() -> None:
    small = gpt2()
    large = isogrow.grow(small, ffn="+6")
    with torch.no_grad():
        large.transformer.h[0].mlp.c_fc.weight[:, 80:].mul_(3.0)
    assert streamed(small, large).passed


def test_what_is_stored_nowhere_is_refused(tmp_path: Path) -> None:
    small, large = grown(bert(), tmp_path, ffn="+6")
    write(large, {name: x for name, x in read(large).items() if "pooler" not in name})
    with pytest.raises(CheckpointError, match=r"BertModel has pooler.dense.bias, and it is stored nowhere"):
        streamed(small, large)


def test_a_model_of_one_s_own_is_refused() -> None:
    small = reference()
    with pytest.raises(CheckpointError, match="only those are compared layer by layer"):
        streamed(small, isogrow.grow(small, ffn="+3"))


# ── liveness, layer by layer ──


def dead_in_one_layer(large: Any) -> None:
    large.model.layers[1].mlp.gate_proj.weight[36] = 0  # what up writes is multiplied by 0, for ever


def twin_in_one_layer(large: Any) -> None:
    mlp = large.model.layers[1].mlp
    for projection in (mlp.gate_proj, mlp.up_proj):
        projection.weight[36] = projection.weight[35]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "failing", "words"),
    [
        (dead_in_one_layer, "liveness", "1 of 18 ffn channels of mlp."),
        (twin_in_one_layer, "distinct", "copies for ever: ffn of layers 1"),
    ],
)
def test_one_spoilt_unit_is_found(spoil: Callable[[Any], None], failing: str, words: str) -> None:
    small = llama()
    large = isogrow.grow(small, ffn="+6")
    with torch.no_grad():
        spoil(large)
    report = streamed(small, large)
    assert failing in {check.name for check in report.failed}
    assert words in named(report)[failing].detail
    assert named(report)[failing].detail.endswith("; each layer alone")


@pytest.mark.slow
def test_channels_of_the_residual_are_said_to_be_unchecked() -> None:
    small = llama()
    report = streamed(small, isogrow.grow(small, hidden=28, ffn="+6"))
    assert named(report)["liveness"].detail.endswith("new hidden channels run through all, unchecked")
    alone = named(streamed(small, isogrow.grow(small, hidden=28)))["liveness"]
    words = "nothing new inside a layer that was run; new hidden channels run through all, unchecked"
    assert (alone.passed, alone.detail) == (None, words)


@pytest.mark.slow
@pytest.mark.parametrize("vocab", [101, 2000])  # of which every id is run, and of which not
def test_layers_that_images_alone_reach_are_trained_too(vocab: int) -> None:
    small = sighted(vocab)
    large = isogrow.grow(small, ffn="+4", **{"vision.ffn": "+6"})
    assert named(streamed(small, large))["liveness"].passed
    with torch.no_grad():
        for layer in large.model.vision_tower.encoder.layers:
            layer.mlp.fc1.weight[24:] = 0
            layer.mlp.fc1.bias[24:] = 0
    (failed, _) = streamed(small, large).failed
    assert failed.name == "liveness" and "18 of 18 vision_ffn channels of vision.mlp.up" in failed.detail


@pytest.mark.slow
def test_what_is_outside_layers_is_said_to_be_unchecked() -> None:
    config = SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=27,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=12,
        patch_size=4,
    )
    small = filled(SiglipVisionModel(config))
    detail = named(streamed(small, isogrow.grow(small, ffn="+6")))["liveness"].detail
    assert detail.endswith("; each layer alone; outside layers, unchecked: pool.down, pool.up, pool.up.bias")


def test_no_pass_is_kept_while_the_next_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """What had gradient is as large as a weight."""
    whole, marks = living.training, list[Any]()

    def watched(*given: Any, **options: Any) -> Any:
        for each in whole(*given, **options):
            assert all(mark() is None for mark in marks)
            marks.append(weakref.ref(each.now["layer.mlp.up_proj.weight"]))
            yield each
            del each

    monkeypatch.setattr(living, "training", watched)
    small = llama()
    assert streamed(small, isogrow.grow(small, ffn="+6")).passed
    assert len(marks) > 4


# ── when it is done ──


def test_what_memory_does_not_hold_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = grown(gpt2(), tmp_path, ffn="+6")
    monkeypatch.setattr("isogrow.verification.memory.COPIES", 10**9)
    report = isogrow.verify(small, large)
    assert report.passed and "layer by layer" in named(report)["float64"].detail
    (refused,) = isogrow.verify(small, large, streamed=False).checks
    assert refused.passed is None and "nothing was compared" in refused.detail
    monkeypatch.setattr("isogrow.verification.memory.available", lambda: 1000)
    (refused,) = isogrow.verify(small, large).checks
    assert refused.passed is None and "for a layer of each in float64" in refused.detail


def test_a_layer_that_can_not_be_trained_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isogrow.verification.memory.TRAINED", 10**9)
    small = gpt2()
    report = streamed(small, isogrow.grow(small, ffn="+6"))
    assert report.passed and named(report)["liveness"].detail.startswith("needs about ")
    assert "to train a layer" in named(report)["distinct"].detail


def test_two_layers_of_70_billion_fit_where_the_models_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isogrow.verification.memory.available", lambda: 20_000_000_000)
    layers = []
    for ffn in (28672, 36864):
        config = LlamaConfig(
            hidden_size=8192,
            intermediate_size=ffn,
            num_hidden_layers=2,
            num_attention_heads=64,
            num_key_value_heads=8,
        )
        with torch.device("meta"):
            layers.append(largest_layer(shapes_of(LlamaForCausalLM(config))))
    assert layers[0] == 855_654_400
    assert "GB of memory in float64" in shortage(80 * layers[0], 80 * layers[1])
    assert streaming_shortage(*layers) == ""
    assert "a layer of each in float64" in streaming_shortage(layers[0], 2 * layers[1])


@pytest.mark.slow
def test_grow_proves_what_memory_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpt2().save_pretrained(tmp_path / "small")
    monkeypatch.setattr("isogrow.verification.memory.COPIES", 10**9)
    ran = command("grow", tmp_path / "small", tmp_path / "large", "--ffn", "+6", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["verification"]["passed"] and "not streamed" in ran.json["skipped"]
    monkeypatch.setattr("isogrow.verification.memory.available", lambda: 1000)
    ran = command("grow", tmp_path / "small", tmp_path / "other", "--ffn", "+6", "--json")
    assert ran.code == 0 and ran.json["verification"] is None
    assert "nothing was compared" in ran.json["skipped"]


@pytest.mark.slow
def test_the_verbs_can_be_told_to(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "small")
    ran = command("grow", tmp_path / "small", tmp_path / "large", "--ffn", "+6", "--streamed")
    assert ran.code == 0 and "layer by layer" in " ".join(ran.out.split())
    ran = command("verify", tmp_path / "small", tmp_path / "large", "--streamed", "--json")
    assert ran.code == 0 and "layers" in ran.json["figures"]
    nudge(tmp_path / "large", "model.layers.1.mlp.up_proj.weight", (5, 7))
    ran = command("verify", tmp_path / "small", tmp_path / "large", "--streamed")
    assert ran.code == 1 and "mlp.up of layers 1" in " ".join(ran.out.split())


# ── lending ──


class Fetched:
    """Gives regions of tensors, and keeps what it was asked for."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors, self.asked = tensors, list[tuple[str, Box]]()

    def __call__(self, name: str, region: Box) -> Tensor:
        self.asked.append((name, region))
        return self.tensors[name][tuple(slice(r.start, r.stop) for r in region)]


def hollowed(model: nn.Module) -> tuple[nn.Module, Fetched]:
    tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return model.to("meta"), Fetched(tensors)


@pytest.mark.parametrize("entries", [1, 30, 10**9])
def test_a_lent_model_computes_what_it_does_with_weights(
    entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.inner = nn.Embedding(11, 6), nn.MultiheadAttention(6, 2, batch_first=True)
            self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 11)
            self.head.weight = self.table.weight

        def forward(self, input: Tensor) -> Tensor:
            x = self.table(input)
            return self.head(self.norm(x + self.inner(x, x, x)[0])) @ self.table.weight

    monkeypatch.setattr(lending, "ENTRIES", entries)
    model, batch = Tied().double(), {"input": torch.tensor([[3, 4, 9, 3]])}
    right = full(model, batch)["output"]
    hollow, fetch = hollowed(model)
    with lent(hollow, fetch):
        found = full(hollow, batch)["output"]
    assert torch.allclose(found, right, rtol=1e-13, atol=1e-13)
    assert all(value.is_meta for value in hollow.parameters())
    if entries < 66:
        rows = [region[0] for name, region in fetch.asked if name == "table.weight"]
        assert rows[:2] == [range(3, 5), range(9, 10)]


def test_of_stacked_experts_those_with_tokens_are_fetched() -> None:
    class Stacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.Parameter(torch.randn(5, 3, 2))

        def forward(self, input: Tensor) -> Tensor:
            assert self.experts.device.type == "cpu" and self.experts.dtype == torch.float32
            return sum(
                (functional.linear(input, self.experts[n]) for n in torch.tensor([1, 4])), torch.zeros(3)
            )

    hollow, fetch = hollowed(Stacked())
    with lent(hollow, fetch):
        hollow(torch.ones(1, 2))
    assert [region[0] for _, region in fetch.asked] == [range(1, 2), range(4, 5)]


# ── runs abreast ──


def test_a_weight_is_loaded_once_for_all_runs() -> None:
    loads: list[str] = []

    def load(name: str, region: Box) -> Tensor:
        loads.append(name)
        return torch.ones(2)

    def work(run: Passing) -> float:
        total = 0.0
        for layer in range(3):
            total += float(run.fetch("numbers", f"w{layer}", (range(2),)).sum())
            run.leave()
        return total

    assert abreast({name: work for name in "abcd"}, {"numbers": load}) == dict.fromkeys("abcd", 6.0)
    assert loads == ["w0", "w1", "w2"]


def test_those_that_want_the_same_go_on_at_once_with_their_own_default() -> None:
    both, found = threading.Barrier(2), dict[str, torch.dtype]()

    def work(run: Passing) -> None:
        run.fetch("numbers", "w" if run.name in "ab" else "v", (range(2),))
        if run.name in "ab":
            both.wait(timeout=60)  # one alone would wait for ever
        found[run.name] = torch.get_default_dtype()

    threads = torch.get_num_threads()
    abreast(dict.fromkeys("abc", work), {"numbers": lambda name, region: torch.ones(2)}, wide="ab")
    assert found == {"a": torch.float64, "b": torch.float64, "c": torch.float32}
    assert torch.get_default_dtype() == torch.float32 and torch.get_num_threads() == threads


def test_gradients_that_are_made_in_a_room_are_the_same() -> None:
    """Of a matrix that is multiplied with twice, with a bias, and of one that has no room."""
    one, two = nn.Linear(5, 5).double(), nn.Linear(5, 3, bias=False).double()
    x = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)

    def backward() -> list[Tensor]:
        for each in (x, *one.parameters(), *two.parameters()):
            each.grad = None
        two(one(one(x))).square().sum().backward()
        return [each.grad for each in (x, *one.parameters(), *two.parameters()) if each.grad is not None]

    wanted, room = [x.clone() for x in backward()], torch.empty(5, 5, dtype=torch.float64)
    with roomy({id(one.weight): room}):
        found = backward()
    assert found[1] is room and len(found) == len(wanted) == 4
    assert all(torch.allclose(a, b, rtol=1e-13) for a, b in zip(found, wanted, strict=True))


def test_a_run_that_fails_ends_all() -> None:
    ended: list[str] = []

    def work(run: Passing) -> None:
        try:
            run.fetch("numbers", "w", (range(2),))
            if run.name == "b":
                raise KeyError("b")
            run.fetch("numbers", "v", (range(2),))
        finally:
            ended.append(run.name)

    before = threading.active_count()
    with pytest.raises(KeyError, match="b"):
        abreast({name: work for name in "abc"}, {"numbers": lambda name, region: torch.ones(2)})
    assert sorted(ended) == ["a", "b", "c"] and threading.active_count() == before


# ── reading ahead ──


def test_what_comes_next_is_begun_once_until_it_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(ahead, "begin_read", lambda store, name: begun.append(name))
    monkeypatch.setattr(ahead, "AHEAD", 2)
    store = ahead.Ahead(StateDict({name: torch.ones(n + 1) for n, name in enumerate("abcde")}))
    for name in "aabb":
        ((_, entries),) = store.parts(name)
        assert len(entries) == 1 + "abcde".index(name)
    assert begun == ["b", "c", "d"]
    for name in "cdea":
        list(store.parts(name))
    assert begun == ["b", "c", "d", "e", "b", "c"]  # from the beginning again


# ── memory ──

MEASURED = """
import sys, threading, time
from pathlib import Path
import torch, transformers, isogrow
from isogrow.stores.mapping import mapped
from isogrow.stores.sources import open_checkpoint
from isogrow.stores.store import all_of
from isogrow.verification.streaming import proof

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

def watch():
    while True:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.005)

small, large = sys.argv[1:]
proof.TOKENS = 8  # as of a model with many token ids
torch.set_num_threads(1)
isogrow.verify(Path(small).parent / "tiny", Path(small).parent / "tiny large", streamed=True)
baseline = anonymous()
peak = [baseline]
threading.Thread(target=watch, daemon=True).start()
report = isogrow.verify(small, large, streamed=True, liveness=False)
assert report.passed, report
time.sleep(0.1)
print(peak[0] - baseline)
held = []
for folder in (small, large):
    with mapped(open_checkpoint(folder)) as store:
        held += [all_of(store, name).clone() for name in store.headers]
time.sleep(0.1)
print(peak[0] - baseline)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for its memory")
def test_no_more_than_two_layers_are_in_memory(tmp_path: Path) -> None:
    """40 layers of 8 MB; what holds them all is told from what does not."""
    sizes = {"vocab_size": 61, "num_attention_heads": 4, "num_key_value_heads": 2}
    wide = {"hidden_size": 384, "intermediate_size": 1408, "num_hidden_layers": 40}
    tiny = {"hidden_size": 24, "intermediate_size": 34, "num_hidden_layers": 2}
    for name, config in (("tiny", tiny), ("small", wide)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = LlamaForCausalLM(LlamaConfig(**sizes, **config))
        model.save_pretrained(tmp_path / name)
        isogrow.grow_checkpoint(
            tmp_path / name, tmp_path / ("large" if name == "small" else "tiny large"), ffn="+64"
        )
        layer = sum(x.numel() for x in model.model.layers[0].parameters())
        del model
    assert 7.5e6 < 4 * layer < 9e6
    limit = 2 * 8 * layer + BESIDE
    assert 8 * 40 * layer > 2 * limit  # one of both alone in float64
    args = [sys.executable, "-c", MEASURED, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    streamed, held = map(int, done.stdout.split()[-2:])
    assert streamed < limit < held
