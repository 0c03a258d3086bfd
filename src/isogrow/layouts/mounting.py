"""One layout as a part of another: where a model that has a config and a prefix of its own stands in a larger
one, which keeps that config under a key, and those tensors behind a name.

    mounted(LLAMA, at="language_model.", config="text_config.")

Every formula and path of a config key is prefixed; axes, slots and patterns stay what they are, so that rules
and laws see the same model. A second part, beside one whose axes have these names already, is a stack of its
own, whose name stands before its axes and slots:

    mounted(SIGLIP_VISION, at="vision_tower.", config="vision_config.", stack="vision")
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from typing import Any

from isogrow.layouts.formula import CALLS
from isogrow.layouts.layout import Attention, Key, Kinds, Layout, PerLayer, Readout
from isogrow.layouts.lines import PLACEHOLDER, Bias, Binding, Weight
from isogrow.layouts.rotary import Rope
from isogrow.layouts.slots import Norm, Stream

NUMBERS = ("i", "layer", "rope_type")  # what formulas may ask that is neither a size nor a config key
WORD = re.compile(r"'[^']*'|[A-Za-z_][\w.]*")
AXIS = re.compile(r"[A-Za-z_]\w*(?!\w*\s*:)")  # in a pattern; what a colon follows names a part
RESERVED = ("and", "or", "not", "if", "else", "in", "is", "True", "False", "None")

# Of each kind of data, the fields that hold formulas over config keys (and sizes), and those that hold paths.
FORMULAS: dict[type, tuple[str, ...]] = {
    Weight: ("when", "times", "clamp", "idle"),
    Bias: ("when", "idle"),
    PerLayer: ("default",),
    Kinds: ("where",),
    Rope: ("rotated", "when"),
}
PATHS: dict[type, tuple[str, ...]] = {
    PerLayer: ("key",),
    Kinds: ("key",),
    Readout: ("key",),
    Rope: ("theta", "scaling", "share"),
}
# The fields that hold names of slots (or several, with spaces between them), axes, patterns and templates.
SLOTS: dict[type, tuple[str, ...]] = {
    Weight: ("slot", "tied", "needs", "scales", "gates"),
    Bias: ("tied",),
    Attention: ("query", "key", "value", "sink", "bias", "factors"),
}
AXES: dict[type, tuple[str, ...]] = {
    Weight: ("pattern",),
    Attention: ("axis",),
    PerLayer: ("axis",),
    Kinds: ("axis",),
    Readout: ("axis",),
    Stream: ("axis",),
}


def mounted(layout: Layout, at: str, config: str, stack: str = "", **changes: Any) -> Layout:
    """The layout of a model that is a part of another: its tensors' names begin with `at` (behind a prefix
    of `changes`), and its config is found at `config`, which ends with a dot. With a `stack` its axes and
    slots are called so, too (`vision_hidden`, `vision.attn.q`), and its one residual stream.

    Heads keep their names. `changes` are fields of the layout that are said anew.

    >>> from isogrow.layouts.layout import Stream
    >>> row = Weight("norm.weight", "* hidden", "norm", Norm("rms", "pre", "eps"))
    >>> key = Key("width", "hidden")
    >>> small = Layout("small", (row,), {"hidden": "width"}, (key,), streams=(Stream(tie=""),))
    >>> large = mounted(small, "text.", "text_config.")
    >>> large.weights[0].name, large.axes, large.keys[0].name, large.weights[0].norm.eps
    ('text.norm.weight', {'hidden': 'text_config.width'}, 'text_config.width', 'text_config.eps')
    """
    index = {axis for line in layout.lines for slot in line.slots for axis in (*slot.index, *slot.axes)}
    axes = frozenset({*layout.axes, *index})
    moved = _Mount(at, config, axes, stack)
    said: dict[str, Any] = {
        "weights": tuple(moved.row(row) for row in layout.weights),
        "bindings": tuple(moved.binding(layout, binding) for binding in layout.bindings),
        "axes": {moved.axis(axis): moved.said(formula) for axis, formula in layout.axes.items()},
        "keys": tuple(moved.key(key) for key in layout.keys),
        "attentions": tuple(moved.attention(each) for each in layout.attentions),
        "per_layer": tuple(moved.data(each) for each in layout.per_layer),
        "kinds": tuple(
            replace(moved.data(each), beside=tuple((config + key, value) for key, value in each.beside))
            for each in layout.kinds
        ),
        "readouts": tuple(moved.data(each) for each in layout.readouts),
        "constraints": tuple(map(moved.formula, layout.constraints)),
        "kept": tuple(config + key for key in layout.kept),
        "streams": tuple(moved.stream(each) for each in layout.streams),
        "follows": {moved.axis(axis): moved.formula(said) for axis, said in layout.follows.items()},
        "refusals": {moved.axis(axis): why for axis, why in layout.refusals.items()},
        "lifted": {moved.axis(axis): moved.said(when) for axis, when in layout.lifted.items()},
        "sites": {moved.axis(axis): tuple(map(moved.axis, of)) for axis, of in layout.sites.items()},
        "fixed": frozenset(map(moved.axis, layout.fixed)),
        "windows": tuple(map(moved.axis, layout.windows)),
        **changes,
    }
    return replace(layout, **said)


class _Mount:
    """Where a layout is mounted, and the names in its formulas that are no config keys."""

    def __init__(self, at: str, config: str, axes: frozenset[str], stack: str) -> None:
        self.at, self.config, self.axes, self.stack = at, config, axes, stack
        self.known = axes | {*NUMBERS, *CALLS, *RESERVED}

    def formula(self, formula: str) -> str:
        """The same formula over sizes and the keys of the part's own config."""
        return self.moved(formula, self.known)

    def said(self, formula: str) -> str:
        """The same formula over keys of the part's own config alone, one of which may be called as a size."""
        return self.moved(formula, frozenset((*CALLS, *RESERVED)))

    def moved(self, formula: str, known: frozenset[str]) -> str:
        def word(found: re.Match[str]) -> str:
            name = found[0]
            return self.axis(name) if name[0] == "'" or name in known else self.config + name

        return WORD.sub(word, formula)

    def axis(self, name: str) -> str:
        """An axis, as it is called in the whole; any other word stays."""
        return f"{self.stack}_{name}" if self.stack and name in self.axes else name

    def words(self, text: str) -> str:
        """A pattern, a name of an axis: the same with its axes as the whole calls them."""
        return AXIS.sub(lambda found: self.axis(found[0]), text)

    def slots(self, named: str) -> str:
        """Slots, as the whole calls them."""
        return " ".join(f"{self.stack}.{slot}" if self.stack else slot for slot in named.split())

    def data(self, value: Any) -> Any:
        """The same data, its formulas and paths moved, in whatever it holds."""
        if not is_dataclass(value) or isinstance(value, type):
            return value
        own = type(value)
        said: dict[str, Any] = {name: self.formula(getattr(value, name)) for name in FORMULAS.get(own, ())}
        said |= {name: self.path(getattr(value, name)) for name in PATHS.get(own, ())}
        said |= {name: self.words(getattr(value, name)) for name in AXES.get(own, ())}
        said |= {name: self.slots(getattr(value, name)) for name in SLOTS.get(own, ())}
        for each in fields(value):
            held: Any = getattr(value, each.name)
            if isinstance(held, Norm):
                said[each.name] = self.norm(held)
            elif is_dataclass(held):
                said[each.name] = self.data(held)
            elif isinstance(held, tuple) and held and all(map(is_dataclass, held)):
                said[each.name] = tuple(self.data(inner) for inner in held)
        return replace(value, **said)

    def path(self, path: Any) -> Any:
        return self.config + path if isinstance(path, str) else tuple(self.config + each for each in path)

    def norm(self, norm: Norm) -> Norm:
        eps = self.config + norm.eps if isinstance(norm.eps, str) else norm.eps
        return replace(norm, eps=eps, of=self.slots(norm.of), over=tuple(map(self.axis, norm.over)))

    def key(self, key: Key) -> Key:
        default, null = (self.default(value) for value in (key.default, key.null))
        alias = self.config + key.alias if key.alias else ""
        return replace(
            key,
            name=self.config + key.name,
            default=default,
            null=null,
            when=self.said(key.when),
            alias=alias,
            size=self.formula(key.size),
        )

    def default(self, value: Any) -> Any:
        return self.said(value) if isinstance(value, str) else value

    def attention(self, attention: Any) -> Any:
        alibi = attention.alibi
        alibi = alibi and replace(alibi, most=self.formula(alibi.most), when=self.formula(alibi.when))
        return replace(self.data(attention), scale=self.formula(attention.scale), alibi=alibi)

    def row(self, row: Weight) -> Weight:
        bias = row.bias and replace(self.data(row.bias), name=self.name(row.bias.name, row.head))
        stream = self.stack or row.stream
        return replace(self.data(row), name=self.name(row.name, row.head), bias=bias, stream=stream)

    def name(self, name: str, head: bool) -> str:
        name = PLACEHOLDER.sub(lambda found: f"{{{self.words(found[1])}}}", name)
        return self.at + name if name and not head else name

    def binding(self, layout: Layout, binding: Binding) -> Binding:
        heads = {row.slot for row in layout.weights if row.head}

        def slot(said: str | tuple[str, str]) -> str:
            return said if isinstance(said, str) else said[0]

        def moved(said: str | tuple[str, str]) -> str | tuple[str, str]:
            if isinstance(said, str):
                return self.slots(said)
            return self.slots(said[0]), self.words(said[1])

        places = {self.name(name, slot(said) in heads): moved(said) for name, said in binding.places.items()}
        return replace(binding, places=places)

    def stream(self, stream: Stream) -> Stream:
        return replace(
            self.data(stream),
            name=self.stack or stream.name,
            tie=self.formula(stream.tie),
            longest=self.config + stream.longest if stream.longest else "",
        )
