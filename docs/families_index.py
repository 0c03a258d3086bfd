"""Write docs/families.md: which file holds the table of each model type.

python docs/families_index.py            write it
python docs/families_index.py --check    exit with 1 if it is not what stands there
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from isogrow import families
from isogrow.families.wrappers import WRAPPERS

PAGE = Path(__file__).with_name("families.md")


def tables() -> dict[str, tuple[str, list[str]]]:
    """Each module of tables: what it says of itself, and the model types whose tables it holds."""
    found: dict[str, tuple[str, list[str]]] = {}
    for each in iter_modules(families.__path__):
        module = import_module(f"{families.__name__}.{each.name}")
        layouts = getattr(module, "LAYOUTS", ())
        types = [name for layout in layouts for name in layout.model_types or (layout.family,)]
        if each.name == "wrappers":
            types = list(WRAPPERS)
        if types:
            found[each.name] = (" ".join((inspect.getdoc(module) or "").split()), sorted(types))
    return found


def page() -> str:
    """The page in Markdown."""
    rows = [
        f"| [{name}](../src/isogrow/families/{name}.py) | {', '.join(types)} | {about} |"
        for name, (about, types) in tables().items()
    ]
    lines = [
        "# Where a family's table is",
        "",
        "Each model type that grows, and the file of `src/isogrow/families` that holds its table. Wrappers"
        " are lines of `wrappers`, `wrappers_like_llava`, `wrappers_of_grids` and `wrappers_of_sound`. What"
        " tables are made of stands in `edits`, `heads`, `experts`, `mlp_layer_types`, `wrapping` and"
        " `wrapped_towers`. Written by docs/families_index.py.",
        "",
        "| file | model types | what it holds |",
        "|---|---|---|",
        *rows,
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
