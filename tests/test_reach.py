"""What each axis can grow to, as `inspect` and `families` tell it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import documents
import pytest
import tiny
from command import CLASSES, checkpoints, isogrow
from families_verb import Asked
from safetensors.torch import load_file, save_file

from isogrow.cli.facts import SHOWN, named
from isogrow.cli.tables.axes import brief
from isogrow.errors import IsogrowError
from isogrow.families import LAYOUTS
from isogrow.growth.opening import opened
from isogrow.planning.planner import plan
from isogrow.planning.reach import SMALL, Reach, reaches, specimen
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import Size, expansions
from isogrow.plans.words import addressed, spelled


@pytest.fixture(scope="module")
def models() -> Mapping[str, Path]:
    return checkpoints()


@pytest.fixture(scope="module")
def llama() -> Path:
    return checkpoints()["LlamaForCausalLM"]


# ── inspect, families: what each axis can grow to ──


def grows(each: Reach) -> str:
    return " ".join([each.grows, *each.partners]) if each.grows == "with" else each.grows


EXPECTED = {
    "LlamaForCausalLM": "hidden steps, ffn any, heads some, kv_heads some, head_dim steps, layers any",
    "Qwen3ForCausalLM": "hidden any, ffn any, heads steps, kv_heads any, head_dim steps, layers any",
    "GPT2LMHeadModel": "hidden with heads head_dim, ffn any, heads with hidden, head_dim with hidden,"
    " layers any",
    "BertForMaskedLM": "hidden with heads head_dim, ffn any, heads with hidden, head_dim with hidden,"
    " layers no",
}


def asked(anatomy: Anatomy, **sizes: Size) -> bool:
    try:
        plan(anatomy, expansions(sizes))
    except IsogrowError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_reach_is_what_the_planner_says(name: str, models: Mapping[str, Path]) -> None:
    anatomy = opened(str(models[name])).anatomy
    found = list(reaches(anatomy, named(anatomy.sizes)))
    shown = ", ".join(f"{each.axis} {grows(each)}" for each in found if each.axis in SHOWN)
    assert shown == EXPECTED[name]
    for each in found:
        assert all(asked(anatomy, **{each.axis: size}) for size in each.sizes)
        for partner, pairs in each.partners.items():
            assert all(asked(anatomy, **{each.axis: one, partner: two}) for one, two in pairs)
        if each.grows == "any":
            assert each.sizes[0] == each.now + 1
        else:
            alone = [n for n in range(each.now + 1, 2 * each.now) if asked(anatomy, **{each.axis: n})]
            assert alone == ([] if each.grows in ("with", "no") else within(each, 2 * each.now))
            assert all(each.why)


def within(each: Reach, end: int) -> list[int]:
    if each.grows == "some":
        return [size for size in each.sizes if size < end]
    return list(range(each.now + each.step, end, each.step))


def test_bert_grows_hidden_in_multiples_only(models: Mapping[str, Path]) -> None:
    anatomy = opened(str(models["BertForMaskedLM"])).anatomy
    hidden = next(each for each in reaches(anatomy, named(anatomy.sizes)) if each.axis == "hidden")
    assert hidden.step == hidden.now == 24
    assert hidden.partners["heads"] == ((48, 8), (72, 12), (96, 16))
    assert "heads * head_dim == hidden" in hidden.why[0]
    assert "multiples of 24" in hidden.why[1]


def test_inspect(llama: Path) -> None:
    ran = isogrow("inspect", llama)
    assert (ran.code, ran.err) == (0, "")
    tensors = load_file(llama / "model.safetensors")
    assert f"parameters  {sum(t.numel() for t in tensors.values()):,}\n" in ran.out
    assert f"stored      {len(tensors)} tensors, 83.4 kB, safetensors\n" in ran.out
    assert "dtype       float32\n" in ran.out
    assert " hidden     24  multiples of 4: 28, 32…" in ran.out
    assert " layers      3  any size\n" in ran.out
    assert "positions pair its channels" in ran.out
    assert "key_dim   " not in ran.out


@pytest.mark.slow
def test_inspect_says_with_which_partner(models: Mapping[str, Path]) -> None:
    out = isogrow("inspect", models["GPT2LMHeadModel"]).out
    assert "with heads: 30/5, 36/6…" in out
    assert "with head_dim: 28/7, 32/8…" in out
    assert "tied        yes" in out
    bert = isogrow("inspect", models["BertForMaskedLM"]).out
    assert " layers      3  refused" in bert
    assert "computes the" in bert


def test_inspect_json(models: Mapping[str, Path]) -> None:
    ran = isogrow("inspect", models["GPT2LMHeadModel"], "--json")
    assert (ran.code, ran.err) == (0, "")
    data = ran.json
    assert (data["family"], data["format"], data["tied"]) == ("gpt2", "safetensors", True)
    assert data["dtypes"] == {"float32": data["tensors"]}
    assert data["sizes"]["hidden"] == tiny.HIDDEN
    axes = {each["axis"]: each for each in data["axes"]}
    assert axes["ffn"]["grows"] == "any"
    assert axes["hidden"]["with"]["heads"][0] == [30, 5]
    assert axes["key_dim"]["grows"] == "no"
    assert axes["key_dim"]["why"]


def test_a_tied_head_is_counted_once(llama: Path, tmp_path: Path) -> None:
    """A checkpoint may hold the embedding a second time, as the head."""
    made = tiny.model("LlamaForCausalLM", tie_word_embeddings=True)
    made.save_pretrained(tmp_path / "tied")
    tensors = load_file(tmp_path / "tied" / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "tied" / "model.safetensors", metadata={"format": "pt"})
    data = isogrow("inspect", tmp_path / "tied", "--json").json
    assert data["parameters"] == made.num_parameters()
    assert data["tensors"] == len(tensors)


@pytest.mark.slow
def test_families(families_asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isogrow.cli.facts.known", lambda types: families_asked.json)
    ran = isogrow("families", *families_asked.types)
    assert (ran.code, ran.err) == (0, "")
    # The table comes first; a reason below it may begin a line with a family's name, too.
    lines = [line.split() for line in reversed(ran.out.splitlines()) if line.strip()]
    rows = {first: rest for first, *rest in lines}
    assert rows.keys() >= set(families_asked.types or LAYOUTS)
    assert rows["qwen3"] == ["any", "any", "steps", "any", "n", "times", "any"]
    assert rows["llama"] == ["steps", "any", "some", "some", "steps", "any"]
    assert rows["bert"][-1] == "refused"
    of_heads = [line.split()[0] for line in ran.out.splitlines() if "hidden % heads == 0" in line]
    assert of_heads and len(set(of_heads)) == len(of_heads), "a reason stands once for each axis"


def test_the_longest_name_leaves_room_for_all_columns() -> None:
    longest = max(LAYOUTS, key=len)
    ran = isogrow("families", "albert", longest)
    rows = {first: rest for first, *rest in map(str.split, filter(str.strip, ran.out.splitlines()))}
    assert longest in rows and rows["albert"][-1] == "refused"


@pytest.mark.slow
def test_families_json(families_asked: Asked) -> None:
    assert families_asked.code == 0
    data = families_asked.json
    assert [each["model_type"] for each in data["families"]] == sorted(families_asked.types or LAYOUTS)
    bert = next(each for each in data["families"] if each["model_type"] == "bert")["axes"]
    assert bert["layers"]["grows"] == "no"
    assert "post-norm" in bert["layers"]["why"][0]
    assert "kv_heads" not in bert
    assert set(bert["hidden"]["with"]) == {"heads", "head_dim"}


def test_a_model_type_that_can_not_be_grown() -> None:
    ran = isogrow("families", "llama", "lama")
    assert (ran.code, ran.out) == (2, "")
    assert "'lama' is no model type that can be grown: `isogrow families` lists" in " ".join(ran.err.split())


# LFM2's class makes ffn a multiple of 256, unless it is told not to; CodeGen wants heads in fours; BigBird's
# stay what they are; of two towers each has sizes of its own.
TOWERS = {"clip", "clipseg", "metaclip_2", "owlv2", "owlvit", "siglip", "siglip2"}
AT_DEFAULTS = {"lfm2", "big_bird", "codegen", *TOWERS}


@pytest.mark.parametrize("model_type", sorted(LAYOUTS))
def test_a_specimen_is_small_and_whole(model_type: str) -> None:
    anatomy = specimen(LAYOUTS[model_type])
    assert anatomy.config["model_type"] == model_type
    assert (anatomy.sizes.of(anatomy.layout.residual) == 48) == (model_type not in AT_DEFAULTS)
    first = (("layers", 0),)
    due = {slot for slot in LAYOUTS[model_type].table if slot.required and slot.stored}
    due = {slot for slot in due if LAYOUTS[model_type].applies(slot, anatomy.config, first)}
    assert {slot.name for slot in due} <= anatomy.all_slots.keys()


def test_a_refusal_in_brief() -> None:
    assert brief("layers can't grow: post-norm; grow ffn instead") == "layers can't grow: post-norm"
    assert brief("key_dim=9 is odd, and pairs: give 10") == "key_dim=9 is odd, and pairs"


def test_an_axis_that_follows_another_grows_with_it() -> None:
    anatomy = specimen(LAYOUTS["bloom"])
    ffn = next(each for each in reaches(anatomy, named(anatomy.sizes)) if each.axis == "ffn")
    assert (ffn.now, ffn.grows) == (192, "with")
    assert ffn.partners == {"hidden": ((384, 96), (576, 144), (768, 192))}
    assert ffn.why == ("ffn is 4 * hidden",)


@pytest.mark.parametrize("model_type", ["mamba2", "bamba", "granitemoehybrid"])
def test_a_width_whose_ratio_a_config_keeps_whole_grows_to_some_sizes(model_type: str) -> None:
    """The made-up model has the ratio of its class, so that the table says of it what `inspect` does."""
    anatomy = specimen(LAYOUTS[model_type])
    (hidden,) = reaches(anatomy, {"hidden": anatomy.sizes.of("hidden")})
    assert (hidden.grows, hidden.sizes) == ("some", (2 * hidden.now,))
    readme = documents.read(documents.ROOT / "README.md")
    assert f"\n| {model_type} | some sizes |" in readme


# Families whose hints named what no request can say, or what is refused.
HINTED = (
    "whisper",
    "ministral3",
    "mamba2",
    "bamba",
    "wav2vec2",
    "siglip_text_model",
    "luke",
    "xglm",
    "bart",
    "gpt2",
    "llama",
)
OPTIONS = re.compile(r"; (.*) would do$")


@pytest.mark.parametrize("model_type", HINTED)
def test_what_a_hint_names_is_taken(model_type: str) -> None:
    """Said beside what was asked, or in its place, by the words that it names."""
    anatomy = specimen(LAYOUTS[model_type])
    for word, now in named(anatomy.sizes, anatomy.layout.stacks).items():
        for asked_for in ({word: now + 1}, {word: now + 2}):
            try:
                plan(anatomy, expansions(asked_for))
            except IsogrowError as error:
                found = OPTIONS.search(str(error))
                for option in found[1].split(" or ") if found else ():
                    named_ones = {n: int(size) for n, size in re.findall(r"([\w.]+)=(\d+)", option)}
                    merged = {addressed(n): size for n, size in (asked_for | named_ones).items()}
                    plan(anatomy, expansions({spelled(*n): size for n, size in merged.items()}))


def test_a_hint_that_would_lead_nowhere_is_not_given() -> None:
    anatomy = specimen(LAYOUTS["whisper"])
    with pytest.raises(
        IsogrowError, match=r"hidden=48; no sizes near these would do: leave them as they are$"
    ):
        plan(anatomy, expansions({"heads": 7}))


@pytest.mark.parametrize("model_type", ["olmoe", "helium", "llama", "qwen3"])
def test_heads_that_a_hint_gives_are_taken(model_type: str) -> None:
    anatomy = specimen(LAYOUTS[model_type])
    with pytest.raises(IsogrowError, match="heads=7 can't be had with kv_heads=2") as refused:
        plan(anatomy, expansions({"heads": 7}))
    found = re.findall(r"heads=(\d+)", str(refused.value).partition("; give ")[2])
    assert bool(found) == (model_type in ("llama", "qwen3"))
    for heads in found:
        plan(anatomy, expansions({"heads": int(heads)}))


def test_what_no_request_can_say_is_not_told_to_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an inner width that is `hidden` itself, and whose axes have no words, hidden can't grow alone."""
    monkeypatch.setitem(SMALL, "state_value_dim", 8)
    anatomy = specimen(LAYOUTS["mamba2"])
    with pytest.raises(IsogrowError, match=r"state_value_dim=8; no sizes near these would do: leave them as"):
        plan(anatomy, expansions({"hidden": 49}))
