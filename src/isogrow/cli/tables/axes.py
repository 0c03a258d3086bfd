"""What `inspect` and `families` tell of axes, as tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from isogrow.cli.facts import column
from isogrow.cli.tables.blocks import numbers, page, pairs, size, table, title

Data = Mapping[str, Any]

LEGEND = (
    "any: any larger size. steps, some: as the config allows. n times: what it is, a whole number of times."
    " with: not alone, together with that axis."
)

# Of 80 columns, for names of model types; longer ones have columns stand closer, with headings in two lines
# where they are long, and no margin.
ROOM = 23


def inspection(data: Data) -> RenderableType:
    """What `inspect` tells."""
    facts = [
        ("family", data["family"]),
        ("parameters", f"{data['parameters']:,}"),
        ("stored", f"{data['tensors']} tensors, {size(data['bytes'])}, {data['format']}"),
        ("dtype", ", ".join(data["dtypes"])),
        ("tied", "yes, the embedding is the head" if data["tied"] else "no"),
    ]
    if data["ignored"]:
        facts.append(("ignored", _listed(data["ignored"], 3)))
    axes = table("axis", "now", "grows to", "because", ratios=(0, 0, 3, 4), right=("now",))
    for each in shown_axes(data["axes"]):
        why = Text("; ".join(reasons(each)), "dim")
        axes.add_row(Text(each["axis"], "bold"), f"{each['now']:,}", reach(each), why)
    return page(title(data["model"], data.get("revision")), pairs(facts), axes)


def shown_axes(axes: Iterable[Data]) -> list[Data]:
    """The axes that people need: key and value dims apart only where they can grow apart."""
    axes = list(axes)
    joined = any(each["axis"] == "head_dim" for each in axes)
    apart = any(
        each["axis"] in ("key_dim", "value_dim") and each["grows"] not in ("no", "with") for each in axes
    )
    hidden = ("key_dim", "value_dim") if joined and not apart else ("head_dim",) if apart else ()
    return [each for each in axes if each["axis"] not in hidden]


def reach(each: Data) -> Text:
    """What one axis can grow to, in words."""
    match each["grows"]:
        case "any":
            return Text("any size", "green")
        case "steps":
            first = numbers(each["sizes"][:2])
            whole = "multiples" if each["now"] % each["step"] == 0 else "steps"
            return Text.assemble((f"{whole} of {each['step']:,}", "green"), f": {first}…")
        case "some":
            return Text.assemble(("some sizes", "yellow"), f": {numbers(each['sizes'])}…")
        case "with":
            return _partners(each)
        case _:
            return Text("refused", "red")


def _partners(each: Data) -> Text:
    lines: list[Text] = []
    for partner, sizes in each["with"].items():
        some = ", ".join("/".join(map(str, each)) for each in sizes[:2])
        lines.append(Text.assemble((f"with {partner}", "yellow"), f": {some}…"))
    return Text("\n").join(lines)


def reasons(each: Data) -> list[str]:
    """Why an axis does not grow to any size, without the numbers that were asked."""
    return list(dict.fromkeys(map(brief, each["why"])))


def brief(why: str) -> str:
    """A refusal without the sizes that were asked and the mend: the reason alone.

    >>> brief("'gpt2' can't hold these sizes: its config needs a == b, and they would be a=1; a=2 would do")
    'its config needs a == b'
    """
    why = re.sub(r"^'[^']+' can't hold these sizes: ", "", why)
    return re.split(r", and they would be |[;:] give |; grow ", why)[0]


def families(data: Data) -> RenderableType:
    """What `families` tells."""
    columns = data["axes"]
    made = table("model type", *columns)
    made.columns[0].no_wrap = True  # a name in two lines can't be searched for
    close = max((len(each["model_type"]) for each in data["families"]), default=0) > ROOM
    for each, name in zip(made.columns[1:], columns, strict=True):
        said = name.replace("_", "_\n") if close else name
        each.header = said
        each.min_width = each.max_width = max(map(len, [*said.split("\n"), "refused"]))
    for family in data["families"]:
        found = (column(family, axis) for axis in columns)
        cells = [Text("\n").join([_cell(one), *([Text(names)] if names else [])]) for one, names in found]
        made.add_row(Text(family["model_type"], "bold"), *cells)
    rest = (Text(LEGEND, "dim"), Text(around(data)), _reasons(data))
    if not close:
        return page(made, *rest)
    made.padding = 0
    return Group("", made, page(*rest))


def around(data: Data) -> str:
    """The models of two parts that grow in their language model, and their towers."""
    return (
        f"{', '.join(data['wrappers'])} grow in their language model, where that is of one of these types,"
        " and so in a tower (vision.layers, audio.ffn)."
    )


def _reasons(data: Data) -> RenderableType:
    """Why an axis doesn't grow to any size, once for all the model types that share the reason."""
    shared: dict[tuple[str, str], list[str]] = {}
    for axis in data["axes"]:
        for family in data["families"]:
            for why in reasons(family["axes"].get(axis, {"why": []})):
                shared.setdefault((axis, why), []).append(family["model_type"])
    found: dict[tuple[str, str], list[str]] = {}
    for (axis, why), types in shared.items():
        found.setdefault((why, ", ".join(types)), []).append(axis)
    notes = table("axes", "model types", "because", ratios=(2, 2, 5))
    for (why, types), axes in found.items():
        notes.add_row(Text(", ".join(axes), "bold"), types, Text(why, "dim"))
    return notes


def _cell(each: Data | None) -> Text:
    if each is None:
        return Text("·", "dim")
    match each["grows"]:
        case "any":
            return Text("any", "green")
        case "steps":
            whole = each["step"] == each["now"]
            return Text("n times" if whole else "steps", "green")
        case "some":
            return Text("some", "yellow")
        case "with":
            whole = "n times\n" if each["step"] == each["now"] else ""
            return Text(whole + "with " + "\nor ".join(each["with"]), "yellow")
        case _:
            return Text("refused", "red")


def _listed(names: list[str], limit: int) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
