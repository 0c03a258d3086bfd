"""Draw docs/plan.svg: what a plan makes of one layer's weights, cut by `isogrow.plans.pieces`.

    python docs/draw_plan.py

A small Llama, known by names and shapes alone, is grown along four axes at once. Every rectangle of the
picture is a piece of the real plan; the script only chooses colours and places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from isogrow.families.llama import LLAMA
from isogrow.layouts.layout import Layout, Line
from isogrow.layouts.lines import name_axes
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy, Header, blocks, name_of
from isogrow.plans.expansions import Size, expansions
from isogrow.plans.matching import match
from isogrow.plans.pieces import Draw, Fill, OldBox, Piece, pieces, whole
from isogrow.plans.plan import Plan
from isogrow.plans.sizes import Sizes

SVG = Path(__file__).with_name("plan.svg")

CONFIG = {
    "model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 28,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
}  # fmt: skip
GROWTH: dict[str, Size] = {"hidden": 24, "heads": 6, "kv_heads": 3, "head_dim": 6, "ffn": 40}
ROWS = (
    ("attn_norm", "attn.q", "attn.k", "attn.v", "attn.o"),
    ("mlp_norm", "mlp.gate", "mlp.up", "mlp.down"),
)

UNIT, HEAD_GAP, GAIN = 5, 2, 12  # pixels: one entry, the space between two heads, the width of a gain
MARGIN, GAP, LABEL, ROW_GAP, WIDTH = 14, 26, 40, 26, 768

KINDS = {
    "old": "old, bit for bit",
    "scaled": "old, rescaled",
    "zero": "zero, the switch",
    "free": "free, random",
}
STYLE = """
  text { font-family: -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 12px }
  text { fill: #1f2328 }
  .name { font-weight: 600 }
  .small { font-size: 11px; fill: #59636e }
  .old { fill: #3b6a98 } .scaled { fill: #93b8dc } .free { fill: #e3b25c }
  .zero { fill: #f1f3f5; stroke: #c4cad0 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 }
    .old { fill: #4a7db0 } .scaled { fill: #a5c6e8 } .free { fill: #d6a04a }
    .zero { fill: #1c2128; stroke: #444c56 }
  }
"""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, of one kind."""

    x: float
    y: float
    width: float
    height: float
    kind: str


def specimen(layout: Layout, config: dict[str, object]) -> Anatomy:
    """A model of this config that exists as names and shapes alone."""
    sizes = Sizes(layout.read(config))
    tensors: dict[str, Header] = {}
    for line in layout.lines:
        if line.slot.required or line.slot.name == "head":
            shape = line.parsed.shape(sizes.of)
            for index in sizes.indices(name_axes(line.name)):
                tensors[name_of(line, layout.prefixes[0], index, sizes)] = Header(shape, "F32")
    return match(layout, config, tensors)


def kind(piece: Piece) -> str:
    """What the entries of a piece are."""
    match piece.value:
        case OldBox():
            return "old" if (piece.a, piece.b) == (1.0, 0.0) else "scaled"
        case Fill(value):
            assert value == 0.0
            return "zero"
        case Draw():
            return "free"
        case _:
            raise AssertionError(f"{piece.value} has no colour")


def entries(made: Plan, line: Line) -> list[list[str]]:
    """The kind of every entry of the stored matrix (a gain is one column), in storage order."""
    ((_, block),) = blocks(line, (("layers", 0),), made.target)
    shape = block.shape(made.target)
    kinds = [""] * prod(shape)
    for piece in pieces(made, block, whole(shape)):
        for point in _points(piece):
            kinds[_flat(point, shape)] = kind(piece)
    columns = prod(line.parsed.shape(made.target.of)[1:])
    return [kinds[start : start + columns] for start in range(0, len(kinds), columns)]


def _points(piece: Piece) -> Iterator[tuple[int, ...]]:
    points: list[tuple[int, ...]] = [()]
    for r in piece.out:
        points = [(*point, i) for point in points for i in r]
    return iter(points)


def _flat(point: tuple[int, ...], shape: tuple[int, ...]) -> int:
    flat = 0
    for i, size in zip(point, shape, strict=True):
        flat = flat * size + i
    return flat


def runs(kinds: list[list[str]]) -> Iterator[tuple[range, range, str]]:
    """Equal neighbours as rectangles: (rows, columns, kind)."""
    start = 0
    for row, line in enumerate(kinds):
        if row + 1 == len(kinds) or kinds[row + 1] != line:
            left = 0
            for column, value in enumerate(line):
                if column + 1 == len(line) or line[column + 1] != value:
                    yield range(start, row + 1), range(left, column + 1), value
                    left = column + 1
            start = row + 1


def spans(length: int, head: int, positions: range) -> Iterator[tuple[float, float]]:
    """(start, extent) in pixels of positions on a dim; heads (of `head` entries) stand a little apart."""
    at = positions.start
    while at < positions.stop:
        stop = min(positions.stop, (at // head + 1) * head)
        yield UNIT * at + HEAD_GAP * (at // head), UNIT * (stop - at)
        at = stop


def extent(length: int, head: int) -> float:
    return UNIT * length + HEAD_GAP * ((length - 1) // head)


def drawn(made: Plan, line: Line) -> tuple[list[Box], float, float]:
    """The boxes of one weight, and its width and height."""
    kinds = entries(made, line)
    rows, columns = len(kinds), len(kinds[0])
    down, across = (_head(made, line, d) for d in (0, 1))
    found = [
        Box(x, y, GAIN if columns == 1 else w, h, value)
        for some, others, value in runs(kinds)
        for y, h in spans(rows, down, some)
        for x, w in spans(columns, across, others)
    ]
    return found, GAIN if columns == 1 else extent(columns, across), extent(rows, down)


def _head(made: Plan, line: Line, dim: int) -> int:
    """How many entries of a dim are one head (all of it, where it has none)."""
    dims = line.parsed.dims
    factors = [str(f) for f in dims[dim].factors] if dim < len(dims) else []
    dense = prod(made.target.of(f) for f in factors) if factors else 1
    return made.target.of(factors[-1]) if "kv_heads" in factors else dense


def label(made: Plan, line: Line) -> tuple[str, str]:
    """A weight's name, and its shape before and after."""
    name = line.name.rpartition("}.")[2].removesuffix(".weight").rpartition(".")[2]
    before, after = ("×".join(map(str, line.parsed.shape(s.of))) for s in (made.source, made.target))
    return name, f"{before} → {after}"


def picture(made: Plan) -> str:
    """The whole SVG."""
    parts: list[str] = []
    y, end = float(MARGIN + 30), (0.0, 0.0)
    for slots in ROWS:
        x, tallest = float(MARGIN), 0.0
        for slot in slots:
            line = LLAMA.homes[slot][0]
            found, width, height = drawn(made, line)
            name, shape = label(made, line)
            gain = slot.endswith("norm")
            parts += [text(x, y + 12, "gain" if gain else name, "name")]
            parts += [text(x, y + 28, shape, "small")]
            parts += [rectangle(box, x, y + LABEL) for box in found]
            x += max(width, 62 if gain else 0) + GAP
            tallest = max(tallest, height)
        end, y = (x, y + LABEL), y + LABEL + tallest + ROW_GAP
    parts = [*heading(made), *parts, *legend(*end)]
    height = y - ROW_GAP + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}"'
        f' height="{height:g}" role="img">\n<title>One layer of a small Llama after growing</title>\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def heading(made: Plan) -> list[str]:
    sizes = {
        "hidden": ("hidden",), "heads": ("kv_heads", "group"), "kv_heads": ("kv_heads",),
        "head_dim": ("key_dim",), "ffn": ("ffn",),
    }  # fmt: skip
    words = [
        f"{name} {prod(map(made.source.of, axes))} → {prod(map(made.target.of, axes))}"
        for name, axes in sizes.items()
    ]
    return [text(MARGIN, MARGIN + 12, "One layer, grown: " + ", ".join(words), "small")]


def legend(x: float, y: float) -> list[str]:
    """The colours, one below the other."""
    parts: list[str] = []
    for i, (kind, words) in enumerate(KINDS.items()):
        at = y + 22 * i
        parts += [rectangle(Box(0, 0, 12, 12, kind), x, at), text(x + 20, at + 10, words, "small")]
    return parts


def rectangle(box: Box, x: float, y: float) -> str:
    inset = 0.5 if box.kind == "zero" else 0.0  # a stroke lies half outside its rectangle
    place = (box.x + x + inset, box.y + y + inset, box.width - 2 * inset, box.height - 2 * inset)
    return '<rect class="{}" x="{:g}" y="{:g}" width="{:g}" height="{:g}"/>'.format(box.kind, *place)


def text(x: float, y: float, words: str, style: str) -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}">{words}</text>'


def made_plan() -> Plan:
    return plan(specimen(LLAMA, dict(CONFIG)), expansions(GROWTH))


if __name__ == "__main__":
    SVG.write_text(picture(made_plan()), encoding="utf-8")
