"""The house rules that a machine can hold: who imports whom, who prints, how long things are."""

from __future__ import annotations

import ast
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import isogrow

# High to low: a module imports only what stands in a lower row, so those of one row know nothing
# of each other. A module or package that stands in no row is refused.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("recipes",),
    ("demo", "drafting", "train"),
    ("gradmax", "verification"),
    ("growth",),
    ("interpreters",),
    ("optim", "planning"),
    ("stores",),
    ("numbers", "paper", "rules", "laws", "engines"),
    ("families", "plans"),
    ("layouts",),
    ("errors", "paths", "quiet"),
)
LIGHT = (
    "planning",
    "rules",
    "laws",
    "engines",
    "families",
    "plans",
    "layouts",
    "errors",
    "paths",
)  # no torch is loaded here
HEAVY = ("torch", "transformers", "accelerate", "safetensors.torch")
SIBLINGS = ("interpreters",)  # packages whose modules never import each other
FROM_ROOT = ("__version__",)  # all that a module may import from `isogrow` itself

VOICE = "cli.voice"  # the one module that prints
PRINTERS = (
    *("print", "builtins.print", "pprint.pprint", "sys.stdout", "sys.stderr"),
    *("rich.print", "rich.print_json", "rich.inspect", "rich.get_console", "rich.console.Console"),
    *("rich.progress.Progress", "rich.progress.track", "rich.live.Live", "rich.status.Status"),
    *("typer.echo", "typer.secho", "click.echo", "click.secho"),
)
GLOBAL = (  # random state, and settings of torch for the whole process
    *("random.seed", "numpy.random.seed", "torch.manual_seed", "torch.seed", "torch.set_rng_state"),
    *("torch.default_generator.manual_seed", "torch.set_default_dtype", "torch.set_default_device"),
    *("torch.set_num_threads", "torch.set_grad_enabled", "torch.set_flush_denormal"),
    *("torch.set_float32_matmul_precision", "torch.use_deterministic_algorithms"),
)
PUT_BACK = (  # the modules that set such, each for a block alone
    *("demo", "optim.measured", "recipes.starting", "stores.writing"),
    *("verification.float64", "verification.streaming.convoy"),
)
FILE_LINES = 400
FUNCTION_LINES = 60

PACKAGE = Path(__file__).parents[1] / "src" / "isogrow"
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}


@dataclass(frozen=True)
class Source:
    """One file of the package: `module` is its dotted name, `path` is relative to the package."""

    path: Path
    module: str
    text: str
    tree: ast.Module

    @property
    def layer(self) -> str:
        """The name that stands in LAYERS; "" for the package's own `__init__.py`."""
        return _part(self.module, 1)


Check = Callable[[Source], Iterator[str]]

parsed = cache(ast.parse)  # by text, for all checks of one tree


# ── reading the tree ──


def sources(package: Path) -> list[Source]:
    """Every Python file under `package`, which may be a made-up tree."""
    return [_source(package, path) for path in sorted(package.rglob("*.py"))]


def _source(package: Path, path: Path) -> Source:
    inside = path.relative_to(package)
    parts = inside.with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    text = path.read_text(encoding="utf-8")
    return Source(inside, ".".join(("isogrow", *parts)), text, parsed(text, str(inside)))


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all that a file imports, inside functions and TYPE_CHECKING too."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(source, node)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
            yield from ((node.lineno, name) for name in names if isinstance(name, str))


def _base(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = source.module.split(".")
    drop = node.level - (source.path.name == "__init__.py")
    return ".".join(parts[: len(parts) - drop] + ([node.module] if node.module else []))


def _called(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _part(dotted: str, index: int) -> str:
    parts = dotted.split(".")
    return parts[index] if index < len(parts) else ""


# ── the checks: each yields what is wrong with one file ──


def every_module_has_a_row(source: Source) -> Iterator[str]:
    if source.layer and source.layer not in RANK:
        yield f"{source.path}: {source.layer} has no row in LAYERS"


def imports_flow_down(source: Source) -> Iterator[str]:
    if source.layer not in RANK:  # the package's __init__.py is free; the rest is refused above
        return
    for line, name in imports(source):
        fault = _fault(source, name) if _part(name, 0) == "isogrow" else ""
        if fault:
            yield f"{source.path}:{line}: {fault}"


def _fault(source: Source, name: str) -> str:
    target = _part(name, 1)
    if target not in RANK:
        return "" if target in FROM_ROOT else f"imports {name}, which has no row in LAYERS"
    if target != source.layer:
        return "" if RANK[target] > RANK[source.layer] else f"imports {name}, which is not lower"
    own = _part(source.module, 2)
    sibling = own and _part(name, 2) != own
    return f"imports its sibling {name}" if target in SIBLINGS and sibling else ""


def no_torch_where_it_is_light(source: Source) -> Iterator[str]:
    if source.layer not in LIGHT:
        return
    for line, name in imports(source):
        if any(name == heavy or name.startswith(f"{heavy}.") for heavy in HEAVY):
            yield f"{source.path}:{line}: imports {name}, and {source.layer} is light"


def only_the_cli_prints(source: Source) -> Iterator[str]:
    if source.module == f"isogrow.{VOICE}":
        return
    known = _bindings(source)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name | ast.Attribute) and _dotted(node, known) in PRINTERS:
            yield f"{source.path}:{node.lineno}: {_dotted(node, known)} is for {VOICE} alone"


def global_state_is_let_be(source: Source) -> Iterator[str]:
    if source.module.removeprefix("isogrow.") in PUT_BACK:
        return
    known = _bindings(source)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name | ast.Attribute) and _dotted(node, known) in GLOBAL:
            yield f"{source.path}:{node.lineno}: {_dotted(node, known)} is for the whole process"


def _bindings(source: Source) -> dict[str, str]:
    """Local name → dotted origin, for every import that binds one."""
    found: dict[str, str] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom):
            base = _base(source, node)
            found |= {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
    return found


def _dotted(node: ast.expr, known: dict[str, str]) -> str:
    match node:
        case ast.Name(id=name):
            return known.get(name, name)
        case ast.Attribute(value=value, attr=attr):
            return f"{_dotted(value, known)}.{attr}"
    return ""


def files_are_short(source: Source) -> Iterator[str]:
    length = len(source.text.splitlines())
    if length > FILE_LINES:
        yield f"{source.path}: {length} lines, more than {FILE_LINES}"


def functions_are_short(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{source.path}:{node.lineno}: {node.name} has {length} lines"


def nothing_is_called_utils(source: Source) -> Iterator[str]:
    if "utils" in source.path.with_suffix("").parts:
        yield f"{source.path}: utils says nothing; name it after what it does"


CHECKS: tuple[Check, ...] = (
    every_module_has_a_row,
    imports_flow_down,
    no_torch_where_it_is_light,
    only_the_cli_prints,
    global_state_is_let_be,
    files_are_short,
    functions_are_short,
    nothing_is_called_utils,
)


def cycles(package: Path) -> list[str]:
    """Modules that import each other, at their top or later, straight or around; a package counts as its
    `__init__`, which may import what it holds."""
    files = {source.module: source for source in sources(package) if source.path.name != "__init__.py"}
    reads = {
        module: {
            name for _, said in imports(source) for name in (said, said.rpartition(".")[0]) if name in files
        }
        for module, source in files.items()
    }
    reached = {module: _reached(module, reads) for module in reads}
    return sorted(module for module, found in reached.items() if module in found)


def _reached(module: str, reads: Mapping[str, set[str]]) -> set[str]:
    found, left = set[str](), [*reads[module]]
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            left += reads[name]
    return found


def faults(check: Check, package: Path) -> list[str]:
    """What `check` finds in the whole package."""
    return [fault for source in sources(package) for fault in check(source)]


# ── the house holds ──


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_house(check: Check) -> None:
    assert sources(PACKAGE), f"no source under {PACKAGE}"
    assert faults(check, PACKAGE) == []


def test_no_modules_import_each_other() -> None:
    assert cycles(PACKAGE) == []


def test_a_cycle_is_found(tmp_path: Path) -> None:
    one = {"a.py": "from isogrow.stores.b import f", "c.py": "import isogrow.stores.a"}
    two = {"b.py": "def f():\n    from isogrow.stores import c", "d.py": "from isogrow.stores import a"}
    tree = {f"stores/{name}": text for name, text in (one | two).items()}
    assert cycles(_write(tmp_path, SOUND | tree)) == [f"isogrow.stores.{name}" for name in "abc"]


def test_those_that_set_global_state_do() -> None:
    free = [source for source in sources(PACKAGE) if source.module.removeprefix("isogrow.") in PUT_BACK]
    assert len(free) == len(PUT_BACK)
    renamed = [dataclasses.replace(source, module="isogrow.other") for source in free]
    assert all(list(global_state_is_let_be(source)) for source in renamed)


def test_layers_name_each_module_once() -> None:
    assert len(RANK) == sum(len(row) for row in LAYERS)
    assert RANK.keys() >= set(LIGHT)
    assert VOICE.partition(".")[0] in RANK


# ── each check can fail ──

SOUND = {
    "__init__.py": "from isogrow.cli import main\nimport torch",
    "errors.py": "import ast",
    "plans.py": "from isogrow.errors import PlanError\nfrom isogrow import __version__",
    "rules/__init__.py": "from isogrow.rules.norm import f\nfrom . import norm",
    "rules/norm.py": "import safetensors\nimport torchish\nfrom isogrow import plans",
    "interpreters/__init__.py": "from isogrow.interpreters import module, reference",
    "interpreters/module.py": "import torch\nfrom .. import plans\nfrom ..rules.norm import f",
    "interpreters/reference.py": "from isogrow import paper",
    "cli/__init__.py": "from isogrow.cli import voice\nfrom isogrow.cli.voice import say",
    "cli/voice.py": "from rich.console import Console\nprint(Console())",
    "recipes/table.py": "from rich.console import Group\nblueprint = 1",
}
LONG_FUNCTION = "def f():\n" + "    x = 1\n" * FUNCTION_LINES


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / "isogrow" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root / "isogrow"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_sound_tree_passes(check: Check, tmp_path: Path) -> None:
    assert faults(check, _write(tmp_path, SOUND)) == []


@pytest.mark.parametrize(
    ("check", "name", "text", "fault"),
    [
        (every_module_has_a_row, "extra.py", "", "extra.py: extra has no row"),
        (every_module_has_a_row, "extra/deep.py", "", "extra has no row"),
        (imports_flow_down, "plans.py", "from isogrow.laws import f", "plans.py:1: imports isogrow"),
        (imports_flow_down, "plans.py", "import isogrow.cli", "isogrow.cli, which is not lower"),
        (imports_flow_down, "plans.py", "from isogrow import laws", "isogrow.laws, which is not"),
        (imports_flow_down, "plans.py", "from . import laws", "isogrow.laws, which is not lower"),
        (imports_flow_down, "rules/a.py", "from ..plans import f\nfrom ..demo import g", "a.py:2"),
        (imports_flow_down, "rules/__init__.py", "from ..demo import g", "isogrow.demo.g"),
        (imports_flow_down, "plans.py", "def f():\n    from isogrow import laws", "plans.py:2"),
        (imports_flow_down, "plans.py", "if TYPE_CHECKING:\n    import isogrow.laws", "plans.py:2"),
        (imports_flow_down, "plans.py", "import_module('isogrow.laws')", "isogrow.laws"),
        (
            imports_flow_down,
            "train/a.py",
            "import isogrow.recipes.report",
            "isogrow.recipes.report, which is not",
        ),
        (
            global_state_is_let_be,
            "plans.py",
            "import torch\ntorch.manual_seed(0)",
            "plans.py:2: torch.manual",
        ),
        (global_state_is_let_be, "plans.py", "import numpy as np\nnp.random.seed(0)", "numpy.random.seed is"),
        (global_state_is_let_be, "a.py", "from torch import set_num_threads as f\nf(1)", "torch.set_num"),
        (imports_flow_down, "plans.py", "from isogrow import gone", "isogrow.gone, which has"),
        (imports_flow_down, "plans.py", "import isogrow", "isogrow, which has no row"),
        (imports_flow_down, "interpreters/a.py", "from .b import f", "sibling isogrow"),
        (imports_flow_down, "interpreters/a.py", "from . import b", "sibling isogrow"),
        (imports_flow_down, "interpreters/a.py", "import isogrow.interpreters", "its sibling"),
        (no_torch_where_it_is_light, "families/llama.py", "import torch", "llama.py:1: imports torch"),
        (no_torch_where_it_is_light, "errors.py", "from torch import nn", "errors.py:1"),
        (no_torch_where_it_is_light, "rules/a.py", "def f():\n    import torch.nn", "a.py:2"),
        (no_torch_where_it_is_light, "plans.py", "from transformers import AutoConfig", "is light"),
        (no_torch_where_it_is_light, "plans.py", "from safetensors.torch import save_file", "is light"),
        (no_torch_where_it_is_light, "plans.py", "import importlib\n__import__('torch')", "plans.py:2"),
        (only_the_cli_prints, "demo.py", "print(1)", "demo.py:1: print is for cli.voice alone"),
        (only_the_cli_prints, "demo.py", "f(progress=print)", "demo.py:1: print"),
        (only_the_cli_prints, "demo.py", "from rich import print as p\np(1)", "rich.print"),
        (only_the_cli_prints, "demo.py", "import rich.console as c\nc.Console()", "Console"),
        (only_the_cli_prints, "demo.py", "from rich.console import Console as C\nC()", "demo.py:2"),
        (only_the_cli_prints, "demo.py", "import sys\nsys.stdout.write('')", "sys.stdout is for"),
        (only_the_cli_prints, "__init__.py", "print(1)", "__init__.py:1: print"),
        (only_the_cli_prints, "cli/tables.py", "print(1)", "cli/tables.py:1: print"),
        (files_are_short, "plans.py", "\n" * (FILE_LINES + 1), "plans.py: 401 lines"),
        (functions_are_short, "plans.py", LONG_FUNCTION, "plans.py:1: f has 61 lines"),
        (functions_are_short, "plans.py", f"async {LONG_FUNCTION}", "f has 61 lines"),
        (nothing_is_called_utils, "rules/utils.py", "", "utils says nothing"),
        (nothing_is_called_utils, "utils/a.py", "", "utils says nothing"),
    ],
)
def test_a_check_can_fail(check: Check, name: str, text: str, fault: str, tmp_path: Path) -> None:
    found = faults(check, _write(tmp_path, {name: text}))
    assert len(found) == 1
    assert fault in found[0]


# ── what a fresh process loads ──


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def _loaded(*arguments: str) -> set[str]:
    """Top-level names of all modules that `python arguments` imports."""
    run = _python("-X", "importtime", *arguments)
    timed, said = [], []
    for line in run.stderr.splitlines():
        (timed if line.startswith("import time:") else said).append(line)
    assert run.returncode == 0, "\n".join(said)
    return {line.rsplit("|", 1)[-1].strip().partition(".")[0] for line in timed}


@pytest.mark.slow
def test_loaded_sees_a_nested_import() -> None:
    assert {"json", "torch"} <= _loaded("-c", "import json, torch")


def test_the_package_is_lazy() -> None:
    run = _python("-c", "import isogrow, sys; assert 'torch' not in sys.modules")
    assert run.returncode == 0, run.stderr


def test_no_module_has_a_public_name() -> None:
    """Importing it would put the module where users expect the function."""
    modules = {source.layer for source in sources(PACKAGE)}
    assert "growth" in modules and modules.isdisjoint(isogrow.__all__)


def test_every_public_name_is_there_and_known_to_type_checkers() -> None:
    text = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    for name in isogrow.__all__:
        assert getattr(isogrow, name) is not None
        assert name == "__version__" or f" import {name} as {name}\n" in text
    first = list(isogrow.__all__)[:6]
    assert first == ["grow", "grow_", "grow_training", "Training", "grow_checkpoint", "growing"]


def test_help_loads_no_torch() -> None:
    assert _loaded("-m", "isogrow", "--help").isdisjoint({"torch", "transformers"})


def test_light_modules_load_no_torch() -> None:
    light = [s.module for s in sources(PACKAGE) if s.layer in LIGHT]
    assert light
    loaded = _loaded("-c", "".join(f"import {module}\n" for module in light))
    assert loaded.isdisjoint({"torch", "transformers"})
