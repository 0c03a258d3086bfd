"""What `plan` tells, as tables: the steps, the sizes before and after, the edits of config.json."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from isogrow.cli.tables.blocks import page, pairs, size, table, title, whole
from isogrow.layouts.slots import BIAS, bias_of

Data = Mapping[str, Any]

STYLES = {
    "zero": "magenta",
    "free": "green",
    "copied": "cyan",
    "mean": "yellow",
    "constant": "magenta",
    "scaled": "blue",
}
# What is told of each rank.
RANKED = {
    "read": "reads",
    "received": "receives",
    "sent": "sends",
    "before": "holds before",
    "after": "holds after",
    "peak": "holds at the peak",
}


def planned(data: Data) -> RenderableType:
    """What `plan` tells."""
    learns = data["learns_by_step"]
    facts = [
        ("learns", f"every new part has gradient by training step {learns}"),
        ("old caches valid", caches(data["caches"])),
        ("largest tensor", _tensor(data["largest"])),
        ("peak memory", f"about {size(data['memory'])} beside the libraries (an estimate)"),
        ("seed", str(data["seed"])),
        *(("grow needs", option) for option in data["needs"]),
        *([("stays behind", ", ".join(data["left"]))] if data["left"] else []),
        *(("elsewhere", line) for line in data["elsewhere"]),
    ]
    parts: list[RenderableType] = [steps(data["steps"]), change(data["before"], data["after"])]
    if data["config"]:
        parts.append(_config(data["config"]))
    after = [_sharded(data["sharded"])] if "sharded" in data else []
    return page(title(f"{data['model']}, {data['family']}"), *parts, pairs(facts), *after)


def _sharded(data: Data) -> RenderableType:
    """What growing a sharded job costs a rank."""
    state = {"adamw": "AdamW's moments too", "none": "the model alone"}[data["optimizer_state"]]
    said = f"{data['ranks']:,} ranks ({data['mesh']}), {data['rounds']:,} rounds of exchange; {state}"
    made = table("a rank", "min", "median", "max", right=("min", "median", "max"))
    for name, words in RANKED.items():
        found = data["balance"][name]
        made.add_row(words, *(size(found[key]) for key in ("min", "median", "max")))
    made.add_row("sums and means", *([size(data["totals"])] * 3))
    return Group(Text(said), "", made)


def caches(found: Data) -> str:
    """Whether cached keys and values of old layers are valid: yes or no, and why."""
    return f"{'yes' if found['valid'] else 'no'}: {'; '.join(found['why'])}"


def newness(data: Data) -> RenderableType:
    """What `inspect --new` tells: layers' tensors that have the same boxes stand in one line."""
    facts = [
        ("new entries", f"{data['new']:,} of {data['parameters']:,}"),
        ("new tensors", str(len(data["added"]))),
        ("grown tensors", str(len(data["grown"]))),
        ("old caches valid", caches(data["caches"])),
    ]
    made, alike = table("tensor", "shape", "new entries", ratios=(0, 0, 1)), _alike(data)
    whole(made, alike)
    for name, (shape, boxes) in alike.items():
        made.add_row(name, " × ".join(map(str, shape)), boxes)
    return page(title(f"{data['model']}, {data['family']}"), pairs(facts), made)


def _alike(data: Data) -> dict[str, tuple[tuple[int, ...], str]]:
    """Tensors by their names, with a star for the numbers in which those that are alike differ."""
    rows = [(name, (), "all") for name in data["added"]]
    rows += [(name, tuple(new["shape"]), _boxes(new["boxes"])) for name, new in data["grown"].items()]
    alike: dict[tuple[str, tuple[int, ...], str], list[str]] = {}
    for name, shape, boxes in rows:
        alike.setdefault((re.sub(r"\d+", "*", name), shape, boxes), []).append(name)
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for (star, shape, boxes), names in alike.items():
        found[names[0] if len(names) == 1 else f"{star} ({len(names)})"] = (shape, boxes)
    return found


def _boxes(boxes: list[list[list[int]]]) -> str:
    """The first boxes, as Python indexes them."""
    sides = [", ".join(f"{a}:{b}" + (f":{step}" if step > 1 else "") for a, b, step in box) for box in boxes]
    rest = len(sides) - 2
    return "  ".join(f"[{side}]" for side in sides[:2]) + (f"  and {rest} more" if rest > 0 else "")


def grows(step: Data) -> str:
    """What a step grows, with the heads that it comes to."""
    sizes = f"{step['axis']} {step['old']:,} → {step['new']:,}"
    if step["heads"]:
        sizes += f" (heads {step['heads'][0]:,} → {step['heads'][1]:,})"
    return sizes


def steps(found: Iterable[Data]) -> RenderableType:
    """The steps of a plan: what grows, and what its blocks become."""
    parts: list[RenderableType] = []
    for i, step in enumerate(found, 1):
        parts += [
            *([""] if i > 1 else []),
            Text.assemble((f"{i} ", "dim"), (step["expansion"], "bold"), "  ", (grows(step), "cyan")),
            Padding(_blocks(step), (0, 0, 0, 3)),
        ]
    return Group(*parts)


def _blocks(step: Data) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for kind, slots in sorted(step["blocks"].items(), key=lambda item: list(STYLES).index(_known(item[0]))):
        grid.add_row(Text(kind, STYLES[_known(kind)]), _slots(slots))
    factors: dict[float, list[str]] = {}
    for slot, factor in step["scaled"].items():
        factors.setdefault(factor, []).append(slot)
    for factor, slots in factors.items():
        scaled = Text.assemble(_slots(slots), (f"  × {factor:.4g}", "dim"))
        grid.add_row(Text("scaled", STYLES["scaled"]), scaled)
    for note in step["notes"]:
        grid.add_row(Text("note", "dim"), Text(note, "dim"))
    return grid


def _known(kind: str) -> str:
    return kind if kind in STYLES else "constant"


def _slots(slots: Iterable[str]) -> Text:
    """Slots, their biases beside them: `attn.q+bias`."""
    names = list(slots)
    found: list[str] = []
    for name in names:
        stem = name.removesuffix(BIAS)
        if stem == name or stem not in names:
            found.append(f"{name}+bias" if bias_of(name) in names else name)
    return Text("  ".join(found))


def change(before: Data, after: Data) -> RenderableType:
    """Sizes, parameters and bytes before and after."""
    made = table("", "before", "after", "", right=("before", "after"))
    sizes = {axis: (before["sizes"].get(axis), now) for axis, now in after["sizes"].items()}
    for axis, (old, new) in sizes.items():
        if axis in ("key_dim", "value_dim") and "head_dim" in sizes and "head_dim" in before["sizes"]:
            continue
        old_text = "" if old is None else f"{old:,}"
        made.add_row(axis, old_text, Text(f"{new:,}", "bold" if old != new else "dim"), "")
    rows = (("parameters", f"{before['parameters']:,}", f"{after['parameters']:,}", "parameters"),
            ("stored", size(before["bytes"]), size(after["bytes"]), "bytes"))  # fmt: skip
    for name, old_text, new_text, by in rows:
        ratio = after[by] / before[by] if before[by] else 1.0
        made.add_row(name, old_text, Text(new_text, "bold"), Text(f"× {ratio:.2f}", "dim"))
    return made


def _config(edits: Mapping[str, Any]) -> RenderableType:
    made = table("config.json", "before", "after")
    whole(made, edits)
    for path, (old, new) in edits.items():
        made.add_row(path, Text(_value(old), "dim"), _value(new))
    return made


def _value(value: Any) -> str:
    if value is None:
        return "–"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:37] + "…"


def _tensor(data: Data) -> str:
    shape = " × ".join(map(str, data["shape"]))
    return f"{data['name']}, {shape} {data['dtype']}, {size(data['bytes'])}"
