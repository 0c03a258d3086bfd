"""How a language model of any known family stands in a wrapper: what a row of wrappers.py means.

What grows is the language model, and towers whose model types are known (wrapped_towers.py). What else stands
beside it stays what it is, but for the rows that write to its residual or read a tower's: those are as wide
as that, and grow with it. Where no rule is known by which they could, `hidden` is refused, and all else
grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from isogrow.families.edits import after
from isogrow.families.wrapped_towers import STACKS, UNKNOWN, Tower, beside, carried, renames, unseen
from isogrow.layouts.layout import Bias, Key, Layout, Rename, Stream, Weight
from isogrow.layouts.mounting import WORD, mounted

TIE = "tie_word_embeddings"
NESTED = "text_config."
MAYBE = Bias(required=False)
P = "multi_modal_projector."
INNER = {"projector": "hidden"}
# Axes of what stands beside the language model, where no tower is known that has them.
OUTSIDE = {"features", "details", "latent", "projector", "depths", "groups", "ends"}
WRITTEN = "hidden <- features"
STATES = {"states": "len(vision_feature_layer) if str(vision_feature_layer)[0] in '[(' else 1"}
OUT = (Key("vision_config.out_hidden_size", "hidden", 3584),)
NORMED = (
    "what turns the tower's features into embeddings normalises them over as many channels, so new ones would"
    " count in its mean: grow ffn, heads or layers instead"
)


@dataclass(frozen=True)
class Wrapper:
    """A model type that wraps a language model: where that stands, and what stands beside it.

    `parts` are the names of what stands beside it, all of it carried but for `rows`, tensors that write to
    the residual beside the embedding; the widths `inner` of a projector are formulas over its sizes.
    `text` is the model type of a text_config that names none, and `at` where its tensors stand. `tie` is what
    the class takes for tie_word_embeddings where the config does not say (a formula, if a string; None where
    the language model is a class with a head, which asks its own), and `either` is true where the language
    model's own is asked, too. `keys` of the wrapper's own config hold sizes; `kept` are keys of an ε that the
    projector reads, too. `flat` is true where a config may have the language model's keys as its own, without
    a text_config. `leading` is a formula: behind so many first layers features of images are added.
    `renames` are further old names, `refusals` axes that no rule may grow here. `towers` are those of the
    parts that grow, where their model types are known; `rows` call their axes after them (`vision_hidden`),
    and `read` are formulas over config keys for further axes of `rows`.
    """

    model_type: str
    text: str
    parts: tuple[str, ...]
    rows: tuple[Weight, ...] = ()
    inner: Mapping[str, str] = field(default_factory=dict[str, str])
    at: str = "language_model"
    tie: bool | str | None = False
    either: bool = False
    keys: tuple[Key, ...] = ()
    kept: tuple[str, ...] = ()
    flat: bool = False
    leading: str = ""
    renames: tuple[Rename, ...] = ()
    refusals: Mapping[str, str] = field(default_factory=dict[str, str])
    towers: tuple[Tower, ...] = ()
    read: Mapping[str, str] = field(default_factory=dict[str, str])


def wrapping(
    wrapper: Wrapper, text: Layout, nested: bool = True, towers: tuple[tuple[Tower, Layout], ...] = ()
) -> Layout:
    """The layout of a wrapper around a language model of a known family; `nested`: its config has a
    text_config. `towers` are the tables of those of its towers that are of known families."""
    inside, at = wrapper.tie is None, f"{wrapper.at}."
    base = "" if inside else "model."
    grown = {tower.at for tower, _ in towers}
    parts = (
        *(part for part in wrapper.parts if part not in grown),
        *(name for tower, own in towers for name in carried(tower, own)),
    )
    made = mounted(
        text,
        at=at + text.prefixes[0] if inside else at,
        config=NESTED if nested else "",
        family=f"{wrapper.model_type} with {text.family}",
        model_types=(wrapper.model_type,),
        prefixes=("",) if inside else ("model.", ""),
        carried=tuple(base + part for part in parts),
        renames=(
            *(() if inside else _renames(wrapper)),
            *(each for tower, own in towers for each in renames(tower, own, base)),
        ),
        apart=dict.fromkeys(STACKS, UNKNOWN),
        leading=wrapper.leading,
        follows={**text.follows, **wrapper.inner},
        refusals={**text.refusals, **wrapper.refusals},
    )
    first, behind = made.streams[0].name, list[Weight]()
    rows = tuple(replace(row, stream=first) for row in wrapper.rows)
    for tower in (tower for tower in wrapper.towers if tower.at not in grown):
        rows = tuple(unseen(row, tower.stack) for row in rows)
    made = replace(made, weights=_headed(made.weights, at)) if inside else made
    for tower, own in towers:
        made, unread = beside(made, tower, own, rows)
        behind += unread
    made = replace(made, axes={**made.axes, **(wrapper.read if towers else {})})
    inner = {axis: _said(made.axes, formula) for axis, formula in wrapper.inner.items()}
    own = wrapper.keys if wrapper.tie is None else (Key(TIE, default=wrapper.tie), *wrapper.keys)
    return replace(
        made,
        weights=after("embed", *rows, *behind)(made.weights),
        axes={**made.axes, **inner},
        keys=(*(key for key in made.keys if key.name != TIE), *own),
        fixed=made.fixed | (OUTSIDE - wrapper.inner.keys()) | wrapper.read.keys(),
        kept=(*made.kept, *wrapper.kept),
        signalled=(*made.signalled, *(row.slot for row in wrapper.rows)),
        streams=tuple(replace(stream, tie=_tie(wrapper, stream, nested)) for stream in made.streams),
    )


def _said(axes: Mapping[str, str], formula: str) -> str:
    """A formula over sizes as one over the config keys that say them."""
    return WORD.sub(lambda found: f"({axes[found[0]]})" if found[0] in axes else found[0], formula)


def _headed(rows: tuple[Weight, ...], at: str) -> tuple[Weight, ...]:
    """The same rows, of heads that stand in the language model."""
    return tuple(replace(row, name=at + row.name) if row.head and row.name else row for row in rows)


def _tie(wrapper: Wrapper, stream: Stream, nested: bool) -> str:
    """When the head that reads a stream is the embedding."""
    if wrapper.tie is None or not stream.tie:
        return stream.tie
    return f"{TIE} or {NESTED}{TIE}" if wrapper.either and nested else TIE


def unnested(at: str) -> tuple[Rename, ...]:
    """Old names of a language model that stood where the whole model's parts stand now."""
    parts = ("embed_tokens.", "layers.", "norm.")
    return tuple(Rename(f"model.{part}", f"model.{at}.{part}") for part in parts)


def _renames(wrapper: Wrapper) -> tuple[Rename, ...]:
    """Old names: with the head beside the language model, with the parts or the language model unnested."""
    at = wrapper.at
    return (
        *wrapper.renames,
        Rename(f"{at}.lm_head.", "lm_head."),
        Rename(f"{at}.model.", f"model.{at}."),
        *(Rename(part, f"model.{part}") for part in (*wrapper.parts, at)),
        *(unnested(at) if wrapper.flat else ()),
    )


def last(name: str, bias: Bias | None = None, reads: str = "features") -> tuple[Weight, ...]:
    """The tensor of a projector that writes to the residual; the others are as wide as they were."""
    return (Weight(name, f"hidden <- {reads}", "projector", bias=bias),)


def two(first: str, second: str, bias: Bias | None = MAYBE, reads: str = "features") -> tuple[Weight, ...]:
    """The tensors of a projector whose inner width is the residual's."""
    return (
        Weight(first, f"projector <- {reads}", "projector.up", bias=bias),
        Weight(second, "hidden <- projector", "projector.down", bias=bias),
    )


TWO = two(P + "linear_1.weight", P + "linear_2.weight")
# Of one or several of the tower's states, one behind the other.
STATED = two(P + "linear_1.weight", P + "linear_2.weight", reads="(states vision_hidden)")
LINEAR = last(P + "linear.weight", Bias())
