"""Drafts: what is measured of models, and that a wrong layout does not pass its proof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from command import isogrow as run
from sweeping import swept
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

from isogrow import families
from isogrow.drafting import outside
from isogrow.drafting.attentions import turning
from isogrow.drafting.checking import check, defaults
from isogrow.drafting.comparing import differences
from isogrow.drafting.drafts import Draft, draft, read_layout
from isogrow.drafting.filing import filed
from isogrow.drafting.formulas import fitted
from isogrow.drafting.kinds import config_of, default_config, model_class
from isogrow.drafting.measuring import measure
from isogrow.drafting.norms import measured
from isogrow.drafting.partial import WIDTH
from isogrow.drafting.proof import EXACT, Proof, Shown, proof, proven
from isogrow.drafting.samples import smallest
from isogrow.drafting.tracing import Call
from isogrow.drafting.twins import TINY, numbering, twin
from isogrow.errors import FamilyError, LayoutError
from isogrow.growth.opening import opened
from isogrow.layouts.layout import Attention, Layout, Norm, Weight
from isogrow.layouts.text import read, written

KNOWN = ("llama", "gpt2", "gemma2", "qwen3", "phi3", "mixtral")
EVERY_RUN = ("llama", "gpt2")


@cache
def drafted(model_type: str) -> Draft:
    return draft(model_type)


@pytest.fixture(autouse=True)
def unregistered() -> Iterator[None]:
    """What a test registers is known to no other."""
    known = dict(families.LAYOUTS)
    yield
    families.LAYOUTS.clear()
    families.LAYOUTS.update(known)


# Re-drafts


@pytest.mark.slow
@pytest.mark.parametrize("name", swept(KNOWN, lambda name: name in EVERY_RUN))
def test_a_draft_says_what_the_table_says(name: str) -> None:
    made = drafted(name)
    assert made.proven
    assert differences(made, families.LAYOUTS[name]) == ()


@pytest.mark.slow
def test_a_difference_is_told() -> None:
    known = families.LAYOUTS["llama"]
    rows = tuple(
        replace(row, norm=replace(row.norm, offset=1.0)) if row.norm else row for row in known.weights
    )
    said = differences(drafted("llama"), replace(known, weights=rows))
    assert len(said) == 9 and said[0].startswith(
        "model.layers.0.input_layernorm.weight: the layout has '* hidden'"
    )
    lacking = replace(known, weights=tuple(row for row in rows if row.slot != "mlp.up"))
    assert "is not this model's any more" in differences(drafted("llama"), lacking)[0]


@pytest.mark.slow
def test_a_draft_is_written_and_read_back(tmp_path: Path) -> None:
    made = drafted("llama")
    file = tmp_path / "llama.py"
    file.write_text(written(made.layout))
    assert read_layout(file, "llama") == made.layout
    with pytest.raises(LayoutError, match="is the layout of llama, and the model is a 'qwen2'"):
        read_layout(file, "qwen2")


@pytest.mark.slow
def test_a_draft_of_a_wrapper_is_written_and_read_back(tmp_path: Path) -> None:
    made = drafted("lfm3_vl")
    file = tmp_path / "wrapper.py"
    file.write_text(written(made.layout))
    assert read_layout(file, made.config) == made.layout
    assert made.exact == ("ffn",)


def test_what_is_neither_a_folder_nor_a_type_is_told() -> None:
    with pytest.raises(FamilyError, match="'nobody/nothing' is no folder here and no model type"):
        draft("nobody/nothing")


@pytest.mark.slow
def test_files_that_name_tensors_otherwise_are_seen(tmp_path: Path) -> None:
    made = drafted("lfm3")
    own: Any = model_class(made.config)
    own(config_of(made.config)).save_pretrained(tmp_path)
    families.register(made.layout)
    names = {stored.source for stored in opened(tmp_path).anatomy.stored}
    assert any(name.endswith("self_attn.gate_proj.weight") for name in names)
    assert not any(name.endswith("self_attn.g_proj.weight") for name in names)
    assert filed(made.layout, made.config) == made.layout


@pytest.mark.slow
def test_a_list_as_long_as_a_twin_is_deep_is_of_layers_where_the_source_says_so() -> None:
    own = default_config("dpt")
    assert len(own["neck_hidden_sizes"]) == TINY["layers"] != own["num_hidden_layers"]
    assert drafted("dpt").layout.per_layer == ()


@pytest.mark.slow
def test_layers_stay_where_a_list_numbers_them_and_how_it_is_read_was_not_told() -> None:
    made = drafted("dpt")
    assert made.proven and "ffn" in made.proof.exact()
    why = "its config numbers layers in backbone_out_indices, and how they are read was not told"
    assert made.layout.refusals["layers"] == why
    kinds = {"moe_layers": [0, 2], "no_rope_layers": [], "layer_types": ["full"], "tail_indices": [1.5]}
    assert list(numbering(kinds)) == ["moe_layers"]


@pytest.mark.slow
def test_a_tower_that_is_shown_few_tokens_is_drafted() -> None:
    """ViT-MAE's layers see one patch of four."""
    assert drafted("vit_mae").proof.exact() == ("ffn", "layers")


@pytest.mark.slow
def test_a_refusal_of_its_own_is_said_as_it_is() -> None:
    made = drafted("llama")
    told = replace(made.layout, refusals={"hidden": "its width is not told"})
    assert proven(told, made.config).refusals["hidden"] == "its width is not told"


# The proof can fail


def wrong(layout: Layout) -> Proof:
    seen = proof(layout, drafted(layout.family).config)
    assert not seen.passed
    return seen


def with_norms(layout: Layout, **changes: Any) -> Layout:
    def changed(row: Weight) -> Weight:
        return replace(row, norm=replace(row.norm, **changes)) if row.norm is not None else row

    return replace(layout, weights=tuple(map(changed, layout.weights)))


@pytest.mark.slow
def test_a_norm_of_the_wrong_kind_is_refused() -> None:
    seen = wrong(with_norms(drafted("llama").layout, kind="layer"))
    assert "off by" in seen.wrong()["hidden"]
    assert {"ffn", "layers"} <= set(seen.exact())


@pytest.mark.slow
def test_an_epsilon_of_another_key_is_seen_in_hidden() -> None:
    seen = wrong(with_norms(drafted("llama").layout, eps="initializer_range"))
    assert set(seen.wrong()) == {"hidden"}


@pytest.mark.slow
def test_a_scale_misread_is_refused() -> None:
    made = drafted("llama").layout
    rope = made.attentions[0].rope
    seen = wrong(replace(made, attentions=(Attention(scale="1 / key_dim", rope=rope),)))
    assert set(seen.wrong()) == {"key_dim", "value_dim"}
    refused = proven(
        replace(made, attentions=(Attention(scale="1 / key_dim", rope=rope),)), drafted("llama").config
    )
    assert "on a small twin of this model head_dim=" in refused.refusals["key_dim"]


@pytest.mark.slow
def test_heads_in_another_order_are_refused() -> None:
    made = drafted("llama").layout
    rows = tuple(
        replace(row, pattern=row.pattern.replace("kv_heads group", "group kv_heads")) for row in made.weights
    )
    assert (
        any(not error < EXACT for _, error in wrong(replace(made, weights=rows)).compositions)
        or wrong(replace(made, weights=rows)).refusals()
    )


def test_what_is_not_shown_may_not_grow() -> None:
    exact, off = Shown("ffn", (({"ffn": 40}, 0.0),)), Shown("hidden", (({"hidden": 50}, 0.3),))
    unseen, led = Shown("layers", refused="a rule said no"), Shown("shared_ffn", refused="it follows")
    seen = Proof((exact, off, unseen, led), led=frozenset({"shared_ffn"}))
    assert not seen.passed and seen.exact() == ("ffn",)
    assert seen.refusals() == {
        "layers": "no growth of it could be shown on a small twin: a rule said no",
        "hidden": "on a small twin of this model hidden=50 was off by 0.3 in float64",
    }
    assert Proof((exact, unseen)).passed and not Proof((unseen,)).passed


@pytest.mark.slow
def test_a_layout_that_names_not_all_is_no_layout_of_it() -> None:
    made = drafted("llama").layout
    rows = tuple(row for row in made.weights if row.slot != "mlp.gate")
    seen = wrong(replace(made, weights=rows))
    assert "no pattern of 'llama' names it" in seen.failed
    with pytest.raises(LayoutError, match="the layout 'llama' is not this model's"):
        proven(replace(made, weights=rows), drafted("llama").config)


# What is measured


@pytest.mark.parametrize(
    ("norm", "found"),
    [
        (nn.LayerNorm(10, eps=1e-3), ("layer", 0.0, 1e-3)),
        (nn.RMSNorm(10, eps=1e-2), ("rms", 0.0, 1e-2)),
        (Gemma2RMSNorm(10, eps=1e-4), ("rms", 1.0, 1e-4)),
    ],
)
def test_a_norm_is_known_by_calling_it(norm: nn.Module, found: tuple[str, float, float]) -> None:
    norm = norm.double()
    generator = torch.Generator().manual_seed(0)
    for value in norm.parameters():
        value.data += 0.3 * torch.randn(value.shape, generator=generator)
    seen = measured(norm, 10)
    assert seen is not None and (seen.kind, seen.offset, seen.eps) == pytest.approx(found)


@pytest.mark.parametrize("module", [nn.Linear(10, 10), nn.GELU(), nn.Identity(), nn.Softmax(-1)])
def test_what_is_no_norm_is_none(module: nn.Module) -> None:
    assert measured(module.double(), 10) is None


@pytest.mark.parametrize(("pairs", "channels"), [("half", 8), ("adjacent", 8), ("half", 4), ("adjacent", 4)])
def test_the_channels_that_turn(pairs: str, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(7, 3, 8, generator=generator, dtype=torch.float64)
    part = made.clone()
    half = channels // 2
    for i in range(half):
        a, b = (i, i + half) if pairs == "half" else (2 * i, 2 * i + 1)
        angle = torch.arange(7, dtype=torch.float64)[:, None] * 0.7 ** (i + 1)
        part[..., a] = made[..., a] * angle.cos() - made[..., b] * angle.sin()
        part[..., b] = made[..., b] * angle.cos() + made[..., a] * angle.sin()
    seen = turning(made.flatten(1), part.transpose(0, 1))
    assert seen is not None and (seen.channels, seen.pairs) == (channels, pairs)
    assert turning(made.flatten(1), made.transpose(0, 1)) is None


def test_a_formula_holds_in_every_sample() -> None:
    one = {"hidden_size": 48, "num_attention_heads": 6, "head_dim": 8}
    other = {"hidden_size": 96, "num_attention_heads": 6, "head_dim": 8}
    assert fitted([(one, 8), (other, 8)]) == "head_dim"
    assert fitted([(one, 8), (other, 16)]) == "hidden_size // num_attention_heads"
    assert fitted([(one, 8), (other, 17)]) is None


def test_a_twin_keeps_flags_and_each_kind_of_layer() -> None:
    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    made = twin({"num_hidden_layers": 6, "layer_types": kinds, "attention_bias": True, "vocab_size": 9999})
    assert made["layer_types"] == ["sliding_attention"] * 3 + ["full_attention"]
    assert (made["num_hidden_layers"], made["vocab_size"]) == (TINY["layers"], TINY["vocab"])
    assert made["attention_bias"] is True


def test_sizes_of_a_twin_are_distinct() -> None:
    sizes = [size for word, size in TINY.items() if not word.startswith("per_layer")]
    once = {size for size in sizes if sizes.count(size) == 1}
    assert {TINY[word] for word in ("hidden", "heads", "head_dim", "ffn", "expert_ffn", "vocab")} <= once


# What is refused, and the command line


def test_types_of_which_no_layout_is_told() -> None:
    with pytest.raises(FamilyError, match="model_type 'nosuch' is none that transformers"):
        draft("nosuch")
    with pytest.raises(
        FamilyError, match="a 'bart' model is an encoder and a decoder, and only single stacks"
    ):
        draft("bart")
    with pytest.raises(FamilyError, match="it is a model of several parts"):
        draft("blt")


# The library against what is built in


def test_a_default_that_moved_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert defaults("llama") == defaults("t5") == ()
    known = families.LAYOUTS["llama"]
    keys = tuple(replace(key, default=11) if key.name == "num_hidden_layers" else key for key in known.keys)
    monkeypatch.setitem(families.LAYOUTS, "llama", replace(known, keys=keys))
    assert defaults("llama") == ("by default the class takes layers=32, the table 11",)
    rows = tuple(row for row in known.weights if row.slot != "mlp.up")
    monkeypatch.setitem(families.LAYOUTS, "llama", replace(known, weights=rows))
    assert "its default model is no longer the table's: model.layers.0.mlp.up_proj" in defaults("llama")[0]


def test_defaults_that_make_no_model_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(config: Any) -> Any:
        raise TypeError("no table of\nangles")

    monkeypatch.setattr("isogrow.drafting.checking.built_on_meta", fails)
    why = (
        "its class makes no model of its defaults (TypeError: no table of angles), so they were not compared"
    )
    with pytest.raises(FamilyError) as told:
        defaults("llama")
    assert str(told.value) == why
    monkeypatch.setattr("isogrow.drafting.checking.draft", lambda _: drafted("llama"))
    found = check("llama")
    assert (found.said, found.drafted, found.why) == ((), "proven", why)


def test_embeddings_keep_their_factors_in_whatever_order_they_are_called() -> None:
    ids, places = torch.tensor([[3, 5, 9, 9]]), torch.tensor([[0, 1, 2, 3]])
    words, positions = nn.Embedding(11, 16).double(), nn.Embedding(7, 16).double()
    calls = [
        Call("positions", positions, places, positions(places).detach()),
        Call("words", words, ids, 4 * words(ids).detach()),
    ]
    for order in (calls, calls[::-1]):
        rows, values = outside._tables(order, ids, "")  # pyright: ignore[reportPrivateUsage]
        assert [row.slot for row in rows] == ["embed", "positions"]
        start = sum(call.made for call in order)
        slots = [row.slot for row in rows]
        assert outside._times(start, values, slots) == {"embed": "hidden ** 0.5"}  # pyright: ignore


@pytest.mark.slow
def test_the_check_ends_with_one_where_a_table_is_no_longer_the_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (run("draft", "--check", "llama", "clip_vision_model").code, check("bart").said) == (0, ())
    known = families.LAYOUTS["llama"]
    monkeypatch.setitem(families.LAYOUTS, "llama", with_norms(known, offset=1.0))
    said = run("draft", "--check", "llama", "gpt2", "--json")
    assert said.code == 1 and said.json["changed"] == ["llama"]
    assert said.json["types"][0]["said"][0].startswith(
        "model.layers.0.input_layernorm.weight: the layout has"
    )
    assert "no pattern" not in said.out and said.json["types"][1] | {"why": ""} == {
        "model_type": "gpt2", "drafted": "proven", "why": "", "said": []
    }  # fmt: skip


# What is told in part


@pytest.mark.slow
def test_what_is_not_told_stays_as_it_is() -> None:
    """A recurrence has no role that is known: layers are added around it, and an MLP grows where one is."""
    with pytest.raises(FamilyError, match="mixer.x_proj reads neither the residual nor a norm of it"):
        assert measure(smallest(default_config("mamba"))).layers
    made = drafted("mamba")
    assert made.proven and made.exact == ("layers",) and not made.whole
    kept = [row for row in made.layout.weights if row.slot.startswith("kept.")]
    assert {"kept.mixer_A_log", "kept.norm_weight"} <= {row.slot for row in kept}
    assert made.layout.refusals["hidden"] == WIDTH
    assert read(written(made.layout)) == made.layout
    assert drafted("bamba").exact == ("ffn", "layers")


@pytest.mark.slow
def test_a_kept_module_that_is_said_to_write_is_found_out() -> None:
    """New layers compute the identity because what writes to the residual is known: the proof shows it."""
    made = drafted("mamba").layout
    silent = tuple(
        replace(row, pattern="-> own_out_0 own_out_1", idle="True") if row.slot.startswith("own.") else row
        for row in made.weights
    )
    seen = proof(
        replace(made, weights=silent, fixed=made.fixed | {"own_out_0", "own_out_1"}), drafted("mamba").config
    )
    assert not seen.passed and "off by" in seen.wrong()["layers"]


@pytest.mark.slow
def test_towers_and_wrappers_are_drafted_within_what_stands_around() -> None:
    tower = drafted("clip_vision_model")
    assert tower.exact == ("ffn", "layers") and "pixel_values" in tower.proof.given
    assert "its layers was not told" in tower.layout.refusals["hidden"]
    around = drafted("llava")
    assert {"ffn", "heads", "kv_heads", "layers"} <= set(around.exact)
    assert "pixel_values" in around.proof.given and around.layout.model_types == ("llava",)
    assert around.layout.axes["ffn"] == "text_config.intermediate_size"
    assert {"model.multi_modal_projector.", "model.vision_tower."} <= set(around.layout.carried)


def test_the_verb_refuses() -> None:
    assert run("draft").err.startswith("refused: no model is named: give a model type, like qwen3")
    assert (
        "is no projection and no norm; write its layout by hand (docs/add-a-family.md)"
        in run("draft", "vits").err
    )
    said = run("draft", "nosuch")
    assert said.code == 2 and "is none that transformers" in said.err


@pytest.mark.slow
def test_a_drafted_layout_grows_a_checkpoint(tmp_path: Path) -> None:
    file, small, large = tmp_path / "nemotron.py", tmp_path / "small", tmp_path / "large"
    said = run("draft", "nemotron", "--out", file, "--json")
    assert said.code == 0 and said.json["proven"] and file.is_file()
    assert (
        run("draft", "nemotron", "--out", file).err.count("exists: name another file, or give --overwrite")
        == 1
    )
    said = {**drafted_config("nemotron"), "num_hidden_layers": 2}
    config = transformers.NemotronConfig.from_dict(
        {**said, "num_key_value_heads": said["num_attention_heads"]}
    )
    transformers.NemotronForCausalLM(config).save_pretrained(small)
    assert "write one by `isogrow draft nemotron --out FILE`" in run("grow", small, large, "--ffn", "x2").err
    done = run("grow", small, large, "--ffn", "x2", "--layers", "+1", "--layout", file)
    assert done.code == 0, done.err
    grown = transformers.AutoConfig.from_pretrained(large)
    assert (grown.intermediate_size, grown.num_hidden_layers) == (2 * config.intermediate_size, 3)


@pytest.mark.slow
def test_an_axis_that_its_proof_refuses_does_not_grow(tmp_path: Path) -> None:
    made = drafted("llama").layout
    norm = Norm("layer", "pre", eps="rms_norm_eps")
    rows = tuple(replace(row, norm=norm) if row.norm is not None else row for row in made.weights)
    file = tmp_path / "llama.py"
    file.write_text(written(replace(made, weights=rows)))
    small = tmp_path / "small"
    config = transformers.LlamaConfig.from_dict({**drafted("llama").config, "num_hidden_layers": 2})
    transformers.LlamaForCausalLM(config).save_pretrained(small)
    said = run("grow", small, tmp_path / "large", "--hidden", "96", "--layout", file)
    assert said.code == 2
    assert "hidden can't grow in 'llama': on a small twin of this model hidden=" in said.err
    assert not (tmp_path / "large").exists()


@pytest.mark.slow
def test_a_default_that_the_class_does_not_have_is_seen_where_a_config_leaves_the_key_out(
    tmp_path: Path,
) -> None:
    """A file that says another ε than the class has grows nothing in hidden where config.json has none."""
    known = families.LAYOUTS["llama"]
    keys = tuple(replace(key, default=1e-3) if key.name == "rms_norm_eps" else key for key in known.keys)
    file = tmp_path / "llama.py"
    file.write_text(written(replace(known, keys=keys)))
    said = drafted_config("llama")
    assert "hidden" not in read_layout(file, said).refusals
    del said["rms_norm_eps"]
    made = read_layout(file, said)
    assert set(made.refusals) - set(known.refusals) == {"hidden"}
    assert "off by" in made.refusals["hidden"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slot", "changes", "why"),
    [
        ("attn.k", {"pattern": "labels <- hidden"}, "its rows contradict each other"),
        ("embed", {"pattern": "hidden <- vocab"}, "config says"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(slot: str, changes: dict[str, Any], why: str) -> None:
    known = families.LAYOUTS["qwen3"]
    rows = tuple(replace(row, **changes) if row.slot == slot else row for row in known.weights)
    with pytest.raises(LayoutError, match=why):
        proven(replace(known, weights=rows), drafted_config("qwen3"))


def drafted_config(model_type: str) -> dict[str, Any]:
    return twin(default_config(model_type))
