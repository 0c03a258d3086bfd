"""Every link, file, test, name and option in the documents is there, and what they show is what is so."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import documents
import numpy as np
import pytest
import torch
import transformers

from isogrow import laws
from isogrow.errors import PatternError
from isogrow.interpreters.module import grown_state, headers
from isogrow.laws.building import network
from isogrow.layouts.pattern import parse
from isogrow.plans.matching import match

ROOT = documents.ROOT
HOMES = (ROOT, ROOT / "src" / "isogrow", ROOT / "docs", ROOT / "tests")
# Files that models have, or users write: no file of the repository.
THEIRS = {"config.json", "isogrow.json", "plan.json", "modeling_*.py", "configuration_*.py", "utils.py"}
# Options of other commands.
OTHERS = '"--nproc-per-node" "--no-deps" "--no-binary"'  # torchrun's, pip's
SUFFIXES = "py|md|svg|png|json|toml|txt|cff|yaml"
Check = Callable[[Path, str], Iterator[str]]


@cache
def by_file() -> dict[str, set[str]]:
    return {f"tests/{path.name}": functions(path) for path in (ROOT / "tests").glob("test_*.py")}


def functions(path: Path) -> set[str]:
    """The names that a file defines."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(documents.read(path))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@cache
def file_names() -> set[str]:
    """The names, without folders, of all files of the repository."""
    folders = ("src", "tests", "docs", "examples", "benchmarks")
    return {path.name for folder in folders for path in (ROOT / folder).rglob("*.*")}


# ── the checks: each yields what is wrong with one document ──


def links_resolve(path: Path, text: str) -> Iterator[str]:
    for target in documents.links(text):
        name, _, anchor = target.partition("#")
        file = (path.parent / name) if name else path
        if not file.exists():
            yield f"{target} leads nowhere"
        elif anchor and anchor not in documents.anchors(documents.read(file) if name else text):
            yield f"{target} has no such heading"


def files_exist(path: Path, text: str) -> Iterator[str]:
    text = re.sub(r"\w+://\S+", "", documents.prose(text))
    for name in re.findall(rf"[\w*./-]*\w\.(?:{SUFFIXES})\b", text):
        here = any((home / name).exists() for home in (path.parent, *HOMES))
        if not here and name not in THEIRS and name not in file_names():
            yield f"{name} is no file"


def named_tests_exist(path: Path, text: str) -> Iterator[str]:
    """A test is in the file that is named behind it."""
    for names, file in re.findall(r"((?:`test_\w+`[\s,]*(?:and|to)?\s*)+)\(?(tests/test_\w+\.py)", text):
        for name in re.findall(r"test_\w+", names):
            if name not in by_file().get(file, set()):
                yield f"{name} is not in {file}"
    everywhere = set().union(*by_file().values())
    for name in re.findall(r"`(test_\w+)`", text):
        if name not in everywhere:
            yield f"{name} is no test"


def names_exist(path: Path, text: str) -> Iterator[str]:
    """`isogrow.a.b` can be imported; `name` in `file.py` is defined there."""
    for dotted in re.findall(r"`(isogrow(?:\.\w+)+)", text):
        if not imported(dotted):
            yield f"{dotted} can't be imported"
    for name, file in re.findall(r"`(?:\w+\.)?(\w+)`\s+(?:in|of)\s+`?([\w/]+\.py)", text):
        found = next((home / file for home in HOMES if (home / file).exists()), None)
        if found is None or name not in functions(found):
            yield f"{name} is not in {file}"


def imported(dotted: str) -> bool:
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for name in parts[count:]:
            found = getattr(found, name, None)
        return found is not None
    return False


def options_exist(path: Path, text: str) -> Iterator[str]:
    known = "".join(documents.read(file) for file in (ROOT / "src" / "isogrow" / "cli").rglob("*.py"))
    own = documents.read(ROOT / "docs" / "families_table.py")
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
        if f'"{option}"' not in known + own + OTHERS:
            yield f"{option} is no option"


def make_targets_exist(path: Path, text: str) -> Iterator[str]:
    makefile = documents.read(ROOT / "Makefile").splitlines()
    for target in re.findall(r"(?:`|^ *)make (\w+)", text, flags=re.MULTILINE):
        if not any(line.startswith(f"{target}:") for line in makefile):
            yield f"make {target} is no target"


CHECKS: tuple[Check, ...] = (
    links_resolve,
    files_exist,
    named_tests_exist,
    names_exist,
    options_exist,
    make_targets_exist,
)
every_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@pytest.mark.slow
@pytest.mark.sweep("each")
@every_check
@pytest.mark.parametrize("path", documents.DOCUMENTS, ids=lambda path: path.name)
def test_documents(check: Check, path: Path) -> None:
    assert list(check(path, documents.read(path))) == []


@pytest.mark.parametrize(
    ("check", "text", "fault"),
    [
        (links_resolve, "[a](docs/gone.md)", "docs/gone.md leads nowhere"),
        (links_resolve, "[a](docs/laws.md#gone)", "docs/laws.md#gone has no such heading"),
        (links_resolve, "# One\n[a](#two)", "#two has no such heading"),
        (files_exist, "see rules/gone.py", "rules/gone.py is no file"),
        (files_exist, "`docs/gone.svg`", "docs/gone.svg is no file"),
        (named_tests_exist, "`test_gone`", "test_gone is no test"),
        (named_tests_exist, "`test_house` (tests/test_docs.py)", "test_house is not in tests/test_docs.py"),
        (names_exist, "`isogrow.plans.plan.gone`", "isogrow.plans.plan.gone can't be imported"),
        (names_exist, "`isogrow.gone.Plan`", "isogrow.gone.Plan can't be imported"),
        (names_exist, "`gone` in `rules/hidden.py`", "gone is not in rules/hidden.py"),
        (options_exist, "give --gone", "--gone is no option"),
        (make_targets_exist, "`make gone`", "make gone is no target"),
        (make_targets_exist, "    make gone   it", "make gone is no target"),
    ],
)
def test_a_check_can_fail(check: Check, text: str, fault: str) -> None:
    assert list(check(ROOT / "README.md", text)) == [fault]


@every_check
def test_a_sound_document_passes(check: Check) -> None:
    text = (
        "# One\n[a](#one) [b](docs/laws.md#law-1-preservation) [c](https://example.org/x.md) `config.json`\n"
        "`grow` in `rules/hidden.py`, rules/hidden.py, `isogrow.plans.plan.Plan`, `isogrow.grow(model)`\n"
        "`--ffn x2`\n"
        "`test_house` (tests/test_house.py), `make test`\n"
    )
    assert list(check(ROOT / "README.md", text)) == []


def test_every_module_is_in_the_design() -> None:
    text = documents.read(ROOT / "docs" / "design.md")
    modules = [path for path in (ROOT / "src" / "isogrow").iterdir() if (path / "__init__.py").exists()]
    modules += (ROOT / "src" / "isogrow").glob("[!_]*.py")
    missing = [path.stem for path in modules if not re.search(rf"`{path.stem}(/|\.py)?`", text)]
    assert missing == []


# ── docs/patterns.md ──

PATTERNS = documents.read(ROOT / "docs" / "patterns.md")


def test_the_code_about_patterns_runs() -> None:
    for block in documents.code(PATTERNS, "python"):
        exec(compile(block, "patterns.md", "exec"), {})


def test_the_shapes_of_patterns() -> None:
    (said,) = re.findall(r"^Shapes for (.*?)\.$", PATTERNS, flags=re.MULTILINE | re.DOTALL)
    sizes = {name: int(size) for name, size in re.findall(r"(\w+) (\d+)", said)}
    assert len(set(sizes.values())) == len(sizes)
    rows = re.findall(r"^\| `([^`]+)` \|.*\| ([\d ×]+) \|$", PATTERNS, flags=re.MULTILINE)
    assert len(rows) > 10
    for pattern, shape in rows:
        found = parse(pattern)
        assert found.shape(sizes.__getitem__) == tuple(map(int, shape.split(" × "))), pattern
        assert str(parse(str(found))) == str(found)


def test_the_errors_of_patterns() -> None:
    blocks = documents.code(PATTERNS, "text")
    assert len(blocks) > 3
    for block in blocks:
        text = block.splitlines()[1].strip() if block.startswith("pattern:") else block.split("'")[1]
        with pytest.raises(PatternError) as refused:
            parse(text)
        assert str(refused.value) == block.rstrip("\n")


# ── docs/plan.svg ──


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "docs")
    return import_module("draw_plan")


def test_the_picture_is_up_to_date(drawing: Any) -> None:
    assert documents.read(drawing.SVG) == drawing.picture(drawing.made_plan())


def test_the_picture_is_what_grow_makes(drawing: Any) -> None:
    """Every entry has the colour of what a grown model really holds there."""
    config = transformers.LlamaConfig.from_dict(drawing.CONFIG)
    small = transformers.LlamaForCausalLM(config).double()
    for parameter in small.parameters():
        torch.nn.init.normal_(parameter)
    made = drawing.made_plan()
    anatomy = match(drawing.LLAMA, drawing.CONFIG, headers(small))
    state = grown_state(small.state_dict(), anatomy, made)
    old = {float(x) for value in small.state_dict().values() for x in value.flatten()}
    for slot in (slot for slots in drawing.ROWS for slot in slots):
        line = drawing.LLAMA.homes[slot][0]
        values = state["model." + line.name.format(layers=0)].numpy()
        kinds = np.array(drawing.entries(made, line)).reshape(values.shape)
        is_old = np.vectorize(old.__contains__)(values)
        assert ((kinds == "zero") == (values == 0)).all(), slot
        assert ((kinds == "old") == is_old).all(), slot
        before = np.prod(line.parsed.shape(made.source.of))
        assert np.isin(kinds, ["old", "scaled"]).sum() == before, slot


def test_the_picture_holds_each_entry_once(drawing: Any) -> None:
    made = drawing.made_plan()
    for slot in (slot for slots in drawing.ROWS for slot in slots):
        line = drawing.LLAMA.homes[slot][0]
        boxes, _, _ = drawing.drawn(made, line)
        width = drawing.GAIN if len(line.parsed.dims) == 1 else drawing.UNIT
        area = sum(box.width * box.height for box in boxes)
        assert area == drawing.UNIT * width * prod(line.parsed.shape(made.target.of)), slot


def test_what_the_readme_says_of_the_picture(drawing: Any) -> None:
    """All of it has gradient within two training steps."""
    made, anatomy = drawing.made_plan(), drawing.specimen(drawing.LLAMA, drawing.CONFIG)
    assert {life.step for life in laws.lives(anatomy, network(anatomy, made))} == {1, 2}
