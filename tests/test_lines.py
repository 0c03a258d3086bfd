"""Rows, what follows from them, and where else their slots lie; and how one table is made from another."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import isogrow
from isogrow.errors import LayoutError
from isogrow.families import LAYOUTS
from isogrow.families.edits import Edit, after, alter, before, drop, like, move, swap
from isogrow.families.llama import LLAMA
from isogrow.layouts.layout import Bias, Binding, Layout, Norm, Weight
from isogrow.plans.anatomy import Header
from isogrow.plans.matching import match

PRE = Norm("layer", "pre", eps=1e-5)
QKV = "{experts} hidden -> (heads (q: 1 + k: 1))"


def row(name: str, pattern: str, slot: str = "s", **said: object) -> Weight:
    return replace(Weight(name, pattern, slot, bias=Bias()), **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weight", "name", "pattern", "slots"),
    [
        (row("a.weight", "x <- y"), "a.bias", "-> x", ["s.bias"]),
        (row("a.weight", "y -> x"), "a.bias", "-> x", ["s.bias"]),
        (row("a.weight", "* (x z) w"), "a.bias", "-> (x z) w", ["s.bias"]),
        (row("a", QKV, "s.*"), "a_bias", "{experts} -> (heads (q: 1 + k: 1))", ["s.q.bias", "s.k.bias"]),
        (row("a", "{e} x <- y", bias=Bias(name="b")), "b", "{e} -> x", ["s.bias"]),
    ],
)
def test_a_bias_follows_from_its_weight(weight: Weight, name: str, pattern: str, slots: list[str]) -> None:
    own, bias = weight.lines()
    assert (bias.name, bias.pattern) == (name, pattern)
    assert [slot.name for slot in bias.slots] == slots
    assert [slot.stem for slot in bias.slots] == [slot.name for slot in own.slots]
    assert [slot.produced for slot in bias.slots] == [slot.produced for slot in own.slots]
    assert [slot.index for slot in bias.slots] == [slot.index for slot in own.slots]


def test_what_a_bias_has_of_its_weight() -> None:
    said = {"norm": PRE, "head": True, "needs": "n", "stream": "x", "when": "a", "required": False}
    weight = row("a.weight", "* x", **said, clamp="1", times="2", tied="t", idle="i", scales="c")
    own, bias = (line.slot for line in weight.lines())
    same = {name for name in said if getattr(own, name) == getattr(bias, name)}
    assert same == said.keys()
    assert (bias.clamp, bias.times, bias.tied, bias.idle, bias.scales) == ("", "", "", "", "")
    _, other = (line.slot for line in replace(weight, bias=Bias("b", tied="z", idle="j")).lines())
    assert (other.when, other.tied, other.idle, other.required) == ("(a) and (b)", "z", "j", False)


# Bindings

STACKED = Layout(
    "stacked",
    (
        Weight("embed.weight", "vocab -> hidden", "embed"),
        Weight("h.{layers}.norm.weight", "* hidden", "mlp_norm", PRE, Bias()),
        Weight("h.{layers}.up.weight", "ffn <- hidden", "mlp.up", bias=Bias()),
        Weight("h.{layers}.down.weight", "hidden <- ffn", "mlp.down", bias=Bias("biased")),
    ),
    {axis: axis for axis in ("vocab", "hidden", "ffn", "layers")},
    bindings=(
        Binding(
            "tree",
            {
                "params.norm.scale": ("mlp_norm", "* {layers} hidden"),
                "params.up.kernel": ("mlp.up", "{layers} hidden -> ffn"),
                "params.down.kernel": ("mlp.down", "{layers} ffn -> hidden"),
            },
        ),
    ),
)
CONFIG = {"vocab": 11, "hidden": 5, "ffn": 7, "layers": 3, "biased": True}
TREE = {
    "embed.weight": (11, 5),
    "params.norm.scale": (3, 5),
    "params.norm.scale_bias": (3, 5),
    "params.up.kernel": (3, 5, 7),
    "params.up.kernel_bias": (3, 7),
    "params.down.kernel": (3, 7, 5),
    "params.down.kernel_bias": (3, 5),
}


def test_layers_in_a_tensor_are_the_same_slots() -> None:
    """Layers stacked, kernels stored in x out: another binding, of which rules and laws see nothing."""
    tree = match(STACKED, CONFIG, {name: Header(shape, "F32") for name, shape in TREE.items()})
    rows = {
        line.name.replace("{layers}", str(i)): Header(line.parsed.shape(CONFIG.__getitem__), "F32")
        for weight in STACKED.weights
        for line in weight.lines()
        for i in range(3)
    }
    apart = match(STACKED, CONFIG, rows)
    assert {name: tree.slots[name] for name in apart.slots} == apart.slots
    assert tree.slots.keys() == apart.slots.keys()
    blocks = [{b for s in one.stored for _, b in s.blocks(one.sizes)} for one in (tree, apart)]
    assert blocks[0] == blocks[1]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("mlp.gate", "tree has 'mlp.gate' at x, which is no slot of the table"),
        (("mlp.gate", "ffn <- hidden"), "which is no slot of the table"),
        (
            ("mlp.up", "{layers} hidden <- ffn"),
            "x has mlp.up as '{layers} hidden <- ffn', and the table",
        ),
        (("mlp.up", "ffn <- hidden"), "has its blocks numbered by ('layers',)"),
    ],
)
def test_a_binding_can_say_no_more_than_where(said: str | tuple[str, str], why: str) -> None:
    layout = replace(STACKED, bindings=(Binding("tree", {"x": said}),))
    with pytest.raises(LayoutError, match=re.escape(why)):
        _ = layout.lines


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_all_bindings_hold_slots_of_the_table(name: str) -> None:
    layout = LAYOUTS[name]
    assert {slot for line in layout.lines for slot in line.slots} == set(layout.table)


# Who reads what

STORAGE = {"line", "lines", "parsed", "bindings", "homes", "header"}
MODULES = {
    f"isogrow.{name}" for name in ("layouts.lines", "layouts.naming", "stores.binding", "layouts.pattern")
}
PACKAGE = Path(isogrow.__file__).parent


def storage(path: Path) -> set[str]:
    """What a file reads of where weights lie."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute)} & STORAGE
    return read | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)} & MODULES


@pytest.mark.parametrize("path", [*PACKAGE.glob("rules/*.py"), *PACKAGE.glob("laws/*.py")], ids=str)
def test_rules_and_laws_read_slots_alone(path: Path) -> None:
    assert storage(path) == set()


def test_reading_storage_is_seen() -> None:
    assert storage(PACKAGE / "plans" / "parts.py") == {"line", "parsed", "isogrow.layouts.pattern"}


# Edits


def slots(*edits: Edit) -> list[str]:
    return [w.slot for w in like(LLAMA, "other", *edits, attentions=()).weights if not w.head]


NEW = Weight("new", "* hidden", "new")


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (drop("attn.k mlp.up"), "embed attn_norm attn.q attn.v attn.o mlp_norm mlp.gate mlp.down final_norm"),
        (
            swap("attn.v attn.q", NEW),
            "embed attn_norm new attn.k attn.o mlp_norm mlp.gate mlp.up mlp.down final_norm",
        ),
        (
            after("attn.q", NEW),
            "embed attn_norm attn.q new attn.k attn.v attn.o mlp_norm mlp.gate mlp.up mlp.down final_norm",
        ),
        (
            before("attn.q", NEW),
            "embed attn_norm new attn.q attn.k attn.v attn.o mlp_norm mlp.gate mlp.up mlp.down final_norm",
        ),
        (
            move("attn.o", behind="mlp.up"),
            "embed attn_norm attn.q attn.k attn.v mlp_norm mlp.gate mlp.up attn.o mlp.down final_norm",
        ),
        (
            alter("attn.q", slot="new"),
            "embed attn_norm new attn.k attn.v attn.o mlp_norm mlp.gate mlp.up mlp.down final_norm",
        ),
    ],
)
def test_an_edit_names_slots(edit: Edit, expected: str) -> None:
    assert slots(edit) == expected.split()


@pytest.mark.parametrize(
    "edit",
    [
        drop,
        lambda slot: swap(slot, NEW),
        lambda slot: after(slot, NEW),
        lambda slot: before(slot, NEW),
        lambda slot: move(slot, behind="embed"),
        lambda slot: move("embed", behind=slot),
        lambda slot: alter(slot, bias=None),
    ],
)
def test_a_slot_that_no_row_has_is_refused(edit: Callable[[str], Edit]) -> None:
    with pytest.raises(LayoutError, match=r"no row has the slot 'attn\.k\.bias': there are "):
        slots(edit("attn.k.bias"))


def test_what_else_another_family_has() -> None:
    made = like(LLAMA, "other", defaults={"vocab_size": 5, "own": 7}, lacks="rms_norm_eps", constraints=())
    assert (made.family, made.model_types, made.constraints) == ("other", ("other",), ())
    keys = {key.name: key.default for key in made.keys}
    assert (keys["vocab_size"], keys["own"], "rms_norm_eps" in keys) == (5, 7, False)
    assert made.weights == LLAMA.weights
