"""Engines' tables: sound as data, and what they announce of a growth held against what was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

import documents
import pytest
from subjects import tensors
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as AUTO

from benchmarks.engines.cells import NEWER, Cell, cells, growth, later, source
from isogrow.engines import ENGINES, Engine, announced, announcements, change, engine_for
from isogrow.engines.engine import Fixes, OldName, Period, Rounds, Row, Scale, Takes
from isogrow.engines.reading import READERS
from isogrow.errors import SizeError
from isogrow.families import LAYOUTS, layout_for
from isogrow.layouts.formula import evaluate, names
from isogrow.layouts.layout import Layout
from isogrow.planning.planner import unchecked
from isogrow.planning.portable import complained
from isogrow.planning.request import Request
from isogrow.plans.anatomy import Anatomy, Header
from isogrow.plans.choices import Choices
from isogrow.plans.expansions import expansions
from isogrow.plans.matching import match
from isogrow.plans.plan import Plan
from isogrow.plans.words import WORDS
from isogrow.stores.loadable import built

CELLS, LATER = tuple(cells()), tuple(later())
GROWN: Sequence[Cell] = [cell for cell in CELLS if cell.axis != "baseline"]
# Of the two ways to write a config one: the last.
WRONG: Sequence[Cell] = list({(c.engine, c.family, c.axis): c for c in GROWN if c.verdict != "ok"}.values())
TABLES = sorted(ENGINES)
LARGEST = 64  # layers: of EXAONE 4, by which llama.cpp knows it


@cache
def small(family: str, keys: str, usual: bool = True) -> Anatomy:
    """The small model; without `usual` as it was seen when its cells were measured."""
    layout, config = layout_for(family), source(family, keys)
    if not usual:
        layout = replace(layout, keys=tuple(replace(key, usual="") for key in layout.keys))
    if family in NEWER:  # whose layers differ: their class says which tensors there are
        model = built({**config, "architectures": [AUTO[family]]})
        assert model is not None
        shapes = {name: shape for name, shape in model.shapes.items() if name not in model.twins}
        return match(layout, config, {name: Header(shape, "F32") for name, shape in shapes.items()})
    without = ("head", "decoder", "decoder.bias") if layout.defaults(config)["tie_word_embeddings"] else ()
    held = tensors(layout, config, without)
    return match(layout, config, {name: Header(header.shape, "F32") for name, header in held.items()})


# ── what is announced, against what was measured ──


def grown(cell: Cell, usual: bool = True) -> Plan:
    return unchecked(small(cell.family, cell.keys, usual), expansions(*growth(cell.family, cell.axis)))


def said(cell: Cell) -> list[str]:
    return announced(grown(cell), small(cell.family, cell.keys), cell.engine)


def said_before(cell: Cell) -> list[str]:
    """What is announced of the growth as it was when it was measured."""
    plan, anatomy = grown(cell, usual=False), small(cell.family, cell.keys, usual=False)
    kept = {path: x for path, x in plan.config.items() if path != "rope_theta" or path in anatomy.config}
    return announced(replace(plan, config=kept), anatomy, cell.engine)


@pytest.mark.parametrize("engine", sorted({cell.engine for cell in CELLS}))
def test_what_was_measured_is_announced_and_nothing_else(engine: str) -> None:
    """Each cell where the engine ran the small model: wrong or refused iff a line says so."""
    own = [cell for cell in GROWN if cell.engine == engine]
    assert own and {cell.version for cell in own} == {ENGINES[engine].version}
    missed = [cell for cell in own if cell.verdict in ("off", "refused") and not said(cell)]
    false = [(cell, said(cell)) for cell in own if cell.verdict in ("ok", "mended") and said(cell)]
    unmended = [cell for cell in own if cell.verdict == "mended" and not said_before(cell)]
    assert (missed, false, unmended) == ([], [], [])


@pytest.mark.slow
@pytest.mark.parametrize("engine", sorted({cell.engine for cell in LATER}))
def test_what_was_run_since_is_announced(engine: str) -> None:
    """Wrong or refused: a line says so. A line, and yet alike: an ε that shows just below what counts."""
    own = [cell for cell in LATER if cell.engine == engine and cell.axis != "baseline"]
    assert {cell.version for cell in own} <= {ENGINES[engine].version}
    told = {cell: bool(said(cell)) for cell in own}
    assert [cell for cell in own if cell.verdict in ("off", "refused") and not told[cell]] == []
    assert [cell for cell in own if cell.verdict == "ok" and told[cell] and float(cell.figure) < 2e-5] == []


def test_what_was_run_for_an_engine_is_right_or_was_refused_beforehand() -> None:
    assert {cell.verdict for cell in later("for it")} == {"ok", "refused by plan"}


def test_which_types_an_engine_runs_was_seen() -> None:
    """A small model that it refuses is of a type that its table refuses, or that it runs by other keys."""
    for cell in (cell for cell in LATER if cell.axis == "baseline" and cell.verdict == "refused"):
        engine = ENGINES[cell.engine]
        other = any(
            c.family == cell.family and c.verdict != "refused" for c in LATER if c.engine == cell.engine
        )
        assert cell.family in engine.refused or other, cell


@pytest.mark.slow
@pytest.mark.parametrize("engine", sorted({cell.engine for cell in WRONG}))
def test_for_an_engine_each_is_right_or_refused_with_sizes_that_do(engine: str) -> None:
    """The sizes that a refusal names are asked for in turn."""
    for cell in (cell for cell in WRONG if cell.engine == engine):
        anatomy = small(cell.family, cell.keys)
        sizes, at = growth(cell.family, cell.axis)
        asked = Request(dict(sizes), layers_at=at if "layers" in sizes else None, engines=engine)
        try:
            plan = asked.plan(anatomy)
        except SizeError as refused:
            plan = mended(asked, str(refused), cell).plan(anatomy)
        assert complained(anatomy, plan, (ENGINES[engine],)) == [], cell


def mended(asked: Request, refusal: str, cell: Cell) -> Request:
    """The same request with the sizes that a refusal names; those of an engine that can't have them stop
    here."""
    found = re.search(r"; (?:(\w+=.*?)(?: or layers at the end)?|layers at the end) would do$", refusal)
    if (cell.engine, cell.family) == ("keras-hub", "mistral"):  # coarse, whatever the sizes are
        assert refusal.endswith("leave out keras-hub, or what brings it about")
        return replace(asked, sizes={"ffn": "x2"}, layers_at=None)
    assert found, refusal
    sizes = dict(re.findall(r"(\w+)=(\d+)", found[1])) if found[1] else {}
    return replace(asked, sizes={**asked.sizes, **sizes}, layers_at=asked.layers_at if sizes else "end")


# ── the tables ──


def rows() -> Iterator[tuple[Engine, Row]]:
    for name in TABLES:
        yield from ((ENGINES[name], row) for row in ENGINES[name].rows)


def test_every_engine_says_its_version_and_its_date() -> None:
    for name, engine in ENGINES.items():
        assert engine.name == name and engine.title and engine.version
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", engine.date)
        known = {*engine.families, *engine.refused}
        assert known <= LAYOUTS.keys() and len(known) == len(engine.families) + len(engine.refused)
        assert {family for row in engine.rows for family in row.families} <= (
            {*engine.families} or LAYOUTS.keys()
        )


def test_every_row_says_where_and_how_it_was_seen() -> None:
    for engine, row in rows():
        assert row.seen.how in ("run", "read, not run")
        assert row.seen.version == engine.version and type(row) in READERS


def faults(row: Row, layout: Layout) -> Iterator[str]:
    """What a row says of a family that the family does not know."""
    thetas = {path for attention in layout.attentions for rope in attention.ropes for path in rope.theta}
    if isinstance(row, Fixes) and row.key not in thetas | {key.name for key in layout.keys}:
        yield f"{row.key} is no key"
    if isinstance(row, Period):
        listed = next((each for each in layout.per_layer if each.key == row.key), None)
        view = layout.defaults({})
        ours = [evaluate(listed.default, view.over({"i": i})) for i in range(9)] if listed else []
        theirs = [evaluate(row.formula, {"i": i, "layers": LARGEST}) for i in range(9)]
        if ours != theirs:
            yield f"{row.key} is not what the class computes"
    if isinstance(row, Scale):
        held = {key.name for key in layout.keys if key.usual}
        if not held & names(layout.attentions[0].scale):
            yield "the config does not hold the scale"
    if isinstance(row, OldName) and not thetas:
        yield "nothing rotates"
    formula = row.condition if isinstance(row, Takes) else row.formula if isinstance(row, Rounds) else ""
    if formula and not names(formula) <= {*WORDS, "vocab", "itemsize", "n"}:
        yield f"{formula} names no size"


def test_every_row_is_true_to_its_families() -> None:
    for engine, row in rows():
        for family in row.families or engine.families:
            assert list(faults(row, layout_for(family))) == [], (engine.name, row)


@pytest.mark.parametrize(
    ("row", "family", "fault"),
    [
        (Fixes("rms_norm_eps", 1e-6, (), ENGINES["mlx"].rows[0].seen), "gpt2", "rms_norm_eps is no key"),
        (Period("layer_types", "i", (), ENGINES["mlx"].rows[0].seen), "gemma2", "layer_types is not what"),
        (
            Period("layer_types", "i", (), ENGINES["mlx"].rows[0].seen, True),
            "qwen3_next",
            "layer_types is not",
        ),
        (Scale("head_dim", (), ENGINES["mlx"].rows[0].seen), "llama", "the config does not hold"),
        (OldName((), ENGINES["mlx"].rows[0].seen), "gpt2", "nothing rotates"),
        (Takes("width == 4", (), ENGINES["mlx"].rows[0].seen), "gpt2", "width == 4 names no size"),
    ],
)
def test_a_check_can_fail(row: Row, family: str, fault: str) -> None:
    assert [each[: len(fault)] for each in faults(row, layout_for(family))] == [fault]


# ── what is said ──


@pytest.mark.slow
def test_the_sentences() -> None:
    """A sentence of each kind, as plan and the card say it."""
    kinds: dict[type, str] = {}
    for cell in GROWN:
        for line in said(cell):
            kinds.setdefault(type(_row(cell, line)), line)
    found = set(kinds.values())
    for line in (
        "CTranslate2 4.8.5 runs 'gpt2' with layer_norm_epsilon 1e-05 whatever the config says, which goes"
        " from 0.01 to 0.00666667; --for ctranslate2 keeps it",
        "CTranslate2 4.8.5 fails at the first run of 'llama' models without heads * head_dim == hidden, here"
        " head_dim=16, heads=4, hidden=96; --for ctranslate2 names sizes that do",
        "onnxruntime-genai 0.18.0 rounds hidden ** 0.5 of 'gemma' to two decimals in any dtype: 9.8 for"
        " 9.797959 at hidden=96; --for onnxruntime-genai names sizes that do",
        "onnxruntime-genai 0.18.0 takes attn.q for the head where it is as wide as the vocabulary, here 512;"
        " --for onnxruntime-genai names sizes that do",
    ):
        assert any(line in said(cell) for cell in GROWN), line
    assert {Fixes, Takes, Period, Rounds} <= kinds.keys() and len(found) == len(kinds)


def _row(cell: Cell, line: str) -> Row:
    grown_ = change(small(cell.family, cell.keys).layout, small(cell.family, cell.keys).config, grown(cell))
    for row in ENGINES[cell.engine].of(cell.family):
        reads, _ = READERS[type(row)]
        if (why := reads(row, grown_, False, 0)) and why in line:
            return row
    raise AssertionError(line)


def test_engines_aside_are_spoken_of_only_when_asked_for() -> None:
    anatomy = small("llama", "5")
    plan = unchecked(anatomy, expansions({"ffn": 117}))
    assert announcements(change(anatomy.layout, anatomy.config, plan)) == []
    with pytest.raises(
        SizeError, match="GPTQ in groups of 16 can't cut up .* ffn % n == 0.*; ffn=128 would do"
    ):
        Request({"ffn": 117}, engines="gptq=16").plan(anatomy)


@pytest.mark.parametrize(
    ("asked", "family", "refusal"),
    [
        ("llamacpp", "llama", "'llamacpp' is no engine that is known: give one of ctranslate2, gptq=N,"),
        ("tp", "llama", "'tp' can't be read: give tp=N, where N is the number of devices"),
        ("mlx=2", "llama", "'mlx=2' can't be read: give mlx"),
        ("tp=0", "llama", "give tp=N"),
        (" ,", "llama", "names no engine: give one, or leave it out"),
        (
            "mlx",
            "gpt2",
            "mlx-lm 0.32.2 loads no 'gpt2' model, grown or not .a key is missing .*: leave out mlx",
        ),
        ("openvino", "gemma", "has not been seen with 'gemma': leave out openvino"),
        (("tp=3", "mlx"), "llama", "tensor parallelism over 3 can't cut up .* heads % n == 0"),
    ],
)
def test_what_can_not_be_asked(asked: Any, family: str, refusal: str) -> None:
    with pytest.raises(SizeError, match=refusal):
        Request({"ffn": "x3"}, engines=asked).plan(small(family, "5"))


def test_a_size_that_would_do_is_kept_where_two_others_mend_it() -> None:
    anatomy = small("llama", "5")
    with pytest.raises(SizeError, match=r"; ffn=183 with kv_heads=3 and hidden=66 would do"):
        Request({"ffn": 183}, engines=("tp=3", "llama.cpp")).plan(anatomy)
    Request({"ffn": 183, "kv_heads": 3, "hidden": 66}, engines=("tp=3", "llama.cpp")).plan(anatomy)


def test_a_plan_says_itself_what_it_is_for() -> None:
    anatomy = small("gpt2", "5")
    plan = Request({"hidden": 96, "heads": 6}, engines=("ctranslate2",)).plan(anatomy)
    assert Request(saved=plan).plan(anatomy) == plan
    with pytest.raises(SizeError, match="plan= says everything itself: leave out engines="):
        Request(saved=plan, engines="ctranslate2").plan(anatomy)


def test_several_engines_are_asked_at_once() -> None:
    several = Request({"ffn": "x2"}, engines="llama.cpp, mlx").plan(small("gemma3_text", "5"))
    period = "'sliding_attention' if (i + 1) % 6 else 'full_attention'"
    assert several.steps[0].choices == Choices(kinds=(("layer_types", period),), legacy=True)
    assert several.config == {
        "rope_theta": 77777.0,
        "rope_local_base_freq": 7777.0,
        "intermediate_size": 224,
    }
    assert engine_for("tp=8").called == "tensor parallelism over 8"


# ── docs/engines.md ──


def test_the_page_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(documents.ROOT / "docs")
    made = import_module("engines_page")
    assert documents.read(made.PAGE) == made.page(), "run docs/engines_page.py"
