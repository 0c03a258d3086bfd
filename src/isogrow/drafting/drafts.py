"""A draft: the layout of a model type, measured and proven on tiny models of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from isogrow.drafting.assembling import assembled
from isogrow.drafting.filing import filed
from isogrow.drafting.fitting import BY_HEAD, PAIRED, UNSCALED
from isogrow.drafting.kinds import default_config, model_class, on_meta
from isogrow.drafting.measuring import Measures, measure
from isogrow.drafting.partial import assembled_partly
from isogrow.drafting.proof import Proof, inputs_of, proof, proven
from isogrow.drafting.samples import seen, smallest, unsaid
from isogrow.drafting.twins import lists, numbering
from isogrow.drafting.wrapped import assembled_around, small_wrapper, text_of, wraps
from isogrow.errors import FamilyError, IsogrowError, LayoutError
from isogrow.layouts.config import Config
from isogrow.layouts.layout import Layout
from isogrow.layouts.text import read
from isogrow.paths import expanded
from isogrow.plans.words import meant
from isogrow.stores.gguf import config_in
from isogrow.stores.sources import read_json

UNSEEN = "no image or sound was run with its texts, and their features may be added behind layers by number"


@dataclass(frozen=True)
class Draft:
    """A layout as it was measured, with refusals for what is not proven, and the proof.

    `config` is that of the tiny twin on which it was made; `attended` says whether its attention was seen at
    work, and not told by names and shapes alone.
    """

    layout: Layout
    proof: Proof
    config: Mapping[str, Any]
    attended: bool = False

    @property
    def proven(self) -> bool:
        """Whether every axis that the layout lets grow was exact in float64."""
        return self.proof.passed

    @property
    def exact(self) -> tuple[str, ...]:
        """The words of the axes that are proven, and that the layout lets grow."""
        refused = self.layout.refusals.keys()
        return tuple(axis for axis in self.proof.exact() if not refused & set(meant(axis)))

    @property
    def whole(self) -> bool:
        """Whether all modules of its layers were told, its attention among them."""
        return bool(self.layout.attentions)


def draft(config: str | Path | Config) -> Draft:
    """A layout drafted from the model itself: a model type, a folder's path, or a config.

    Tiny models of the type are built and run under changed sizes; what is not exact in float64 is refused in
    the layout, axis by axis. Raises `FamilyError` for a model of which no layout can be told.

    >>> made = draft("qwen3")
    >>> made.layout.axes["group"], made.proven
    ('num_attention_heads // num_key_value_heads', True)
    """
    source = source_of(config)
    if wraps(source):
        return _wrapper(source)
    model_class(source)
    measures, listing = measure(smallest(source)), frozenset(lists(seen(source)))
    tried: list[Draft] = []
    said: IsogrowError | None = None
    for make in _hypotheses(measures):
        try:
            layout = _listing(make(), listing)
        except IsogrowError as error:
            said = said or error
            continue
        made = replace(_shown(layout, measures.config), attended=measures.attended() is not None)
        if made.proven:
            return made
        tried.append(made)
    if not tried:
        raise said or FamilyError("no layout has the shapes of its tensors")
    return _best(tried)


def _listing(layout: Layout, keys: Collection[str]) -> Layout:
    """The layout with these lists alone: a twin may be as deep as a list of something else is long."""
    return replace(layout, per_layer=tuple(each for each in layout.per_layer if each.key in keys))


def _wrapper(source: Config) -> Draft:
    """A wrapper's layout, around that of its language model."""
    made = draft(text_of(source))
    config = small_wrapper(source, made.config)
    around = _best([_shown(assembled_around(made.layout, on_meta(made.config), config), config)])
    if around.proof.given - {"input_ids"}:
        return around
    return replace(around, layout=with_refusals(around.layout, {"layers": UNSEEN}))


def _shown(layout: Layout, config: Config) -> Draft:
    """A layout with its proof, and with refusals for what that does not show."""
    layout = _numbered(filed(layout, config), config)
    shown = proof(layout, config)
    return Draft(with_refusals(layout, shown.refusals()), shown, config)


def _numbered(layout: Layout, config: Config) -> Layout:
    """The layout without more layers where lists number them and nothing in it says how they are read."""
    known = {each.key for each in (*layout.readouts, *layout.kinds, *layout.per_layer)}
    untold = [key for key in numbering(config) if key not in known]
    why = f"its config numbers layers in {', '.join(untold)}, and how they are read was not told"
    return with_refusals(layout, {"layers": why} if untold else {})


def with_refusals(layout: Layout, more: Mapping[str, str]) -> Layout:
    """The layout without further axes."""
    return replace(layout, refusals={**more, **layout.refusals})


def _best(tried: Sequence[Draft]) -> Draft:
    """The layout of which most is exact: where all else is refused, it is proven once more without that."""
    best = max(tried, key=lambda each: len(each.proof.exact()))
    if best.proven or not best.proof.exact():
        return best
    again = replace(_shown(best.layout, best.config), attended=best.attended)
    return again if again.proven else best


def source_of(config: str | Path | Config) -> dict[str, Any]:
    """The config that is meant: a type's default one, or a folder's."""
    if isinstance(config, Mapping):
        return dict(config)
    path = expanded(config)
    if (stated := config_in(path)) is not None:
        return dict(stated)
    if path.is_dir() or path.is_file():
        file = path / "config.json" if path.is_dir() else path
        return dict(
            cast("Mapping[str, Any]", read_json(file, "a config.json is what a layout is drafted from"))
        )
    if len(path.parts) > 1:
        raise FamilyError(
            f"{str(config)!r} is no folder here and no model type: give a folder that holds a config.json, or"
            " a model type, like qwen3"
        )
    return default_config(str(config))


def _hypotheses(measures: Measures) -> Iterator[Callable[[], Layout]]:
    """What makes the layouts that were measured, the likeliest first; the last says what was told alone."""
    family = str(measures.config["model_type"])
    try:
        ways = tuple(_ways(measures))
    except FamilyError as error:
        yield partial(_refused, error)
    else:
        yield from (partial(assembled, family, measures, way) for way in ways)
    yield partial(assembled_partly, family, replace(measures, whole=False))


def _refused(error: FamilyError) -> Layout:
    raise error


def _ways(measures: Measures) -> Iterator[int]:
    """The ways in which parts of fused tensors may lie, and attention may be scaled."""
    by_head = (0, BY_HEAD) if any(len(each.parts) == 3 for each in measures.placed) else (0,)
    pairs = any(each.slot == "experts" or "gate" in each.parts for each in measures.placed)
    scaled = (0, UNSCALED) if measures.attended() is None else (0,)
    by_pair = (0, PAIRED) if pairs else (0,)
    yield from (paired | heads | scale for scale in scaled for paired in by_pair for heads in by_head)


def read_layout(path: str | Path, config: str | Path | Config) -> Layout:
    """The layout in a file, proven on a tiny twin of this config (or folder): what the proof does not show is
    refused in it, axis by axis.

    The file is read as data; nothing in it is run. Raises `LayoutError` for a file that holds no layout, for
    one of another model type, and for one of which nothing is proven.
    """
    try:
        text = expanded(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LayoutError(
            f"the layout {path} can't be read ({error}): name a file that `draft` wrote"
        ) from error
    layout, source = read(text, str(path)), source_of(config)
    kind = str(source.get("model_type", ""))
    if kind not in (layout.model_types or (layout.family,)):
        raise LayoutError(
            f"{path} is the layout of {', '.join(layout.model_types or (layout.family,))}, and the model is a"
            f" {kind!r}: draft one of it (isogrow draft {kind})"
        )
    config = unsaid(_twin(source), source)
    shown = proven(_numbered(layout, config), config)
    blind = wraps(source) and not inputs_of(config) - {"input_ids"}
    return with_refusals(shown, {"layers": UNSEEN}) if blind else shown


def _twin(source: Config) -> Config:
    """The config of a tiny model of this one's type, or of a tiny wrapper."""
    return small_wrapper(source, _twin(text_of(source))) if wraps(source) else smallest(source).config
