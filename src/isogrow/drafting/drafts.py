"""A draft: the layout of a model type, measured and proven on tiny models of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from isogrow.drafting.assembling import Measures, assembled, measure
from isogrow.drafting.fitting import BY_HEAD, PAIRED, UNSCALED
from isogrow.drafting.kinds import default_config, model_class
from isogrow.drafting.proof import Proof, proof, proven
from isogrow.drafting.samples import smallest
from isogrow.errors import FamilyError, IsogrowError, LayoutError
from isogrow.layouts.config import Config
from isogrow.layouts.layout import Layout
from isogrow.layouts.text import read
from isogrow.stores.sources import read_json


@dataclass(frozen=True)
class Draft:
    """A layout as it was measured, with refusals for what is not proven, and the proof.

    `config` is that of the tiny twin on which it was made.
    """

    layout: Layout
    proof: Proof
    config: Mapping[str, Any]

    @property
    def proven(self) -> bool:
        """Whether every axis that the layout lets grow was exact in float64."""
        return self.proof.passed


def draft(config: str | Path | Config) -> Draft:
    """A layout drafted from the model itself: a model type, a folder's path, or a config.

    Tiny models of the type are built and run under changed sizes; what is not exact in float64 is refused in
    the layout, axis by axis. Raises `FamilyError` for a model of which no layout can be told.

    >>> made = draft("qwen3")
    >>> made.layout.axes["group"], made.proven
    ('num_attention_heads // num_key_value_heads', True)
    """
    source = source_of(config)
    model_class(str(source.get("model_type", "")))
    base = smallest(source)
    measures = measure(base)
    best: Draft | None = None
    for layout in _hypotheses(measures):
        seen = proof(layout, base.config)
        made = Draft(replace(layout, refusals={**layout.refusals, **seen.refusals()}), seen, base.config)
        if made.proven:
            return made
        if best is None or len(seen.exact()) > len(best.proof.exact()):
            best = made
    assert best is not None
    return best


def source_of(config: str | Path | Config) -> dict[str, Any]:
    """The config that is meant: a type's default one, or a folder's."""
    if isinstance(config, Mapping):
        return dict(config)
    path = Path(config)
    if path.is_dir() or path.is_file():
        file = path / "config.json" if path.is_dir() else path
        return dict(
            cast("Mapping[str, Any]", read_json(file, "a config.json is what a layout is drafted from"))
        )
    return default_config(str(config))


def _hypotheses(measures: Measures) -> Iterator[Layout]:
    """The layouts that what was measured allows, the likeliest first."""
    family = str(measures.config["model_type"])
    said: IsogrowError | None = None
    made = 0
    by_head = [0, BY_HEAD] if any(len(each.parts) == 3 for each in measures.placed) else [0]
    pairs = any(each.slot == "experts" or "gate" in each.parts for each in measures.placed)
    scaled = (0, UNSCALED) if measures.attended() is None else (0,)
    by_pair = (0, PAIRED) if pairs else (0,)
    for way in [paired | heads | scale for scale in scaled for paired in by_pair for heads in by_head]:
        try:
            layout = assembled(family, measures, way)
        except IsogrowError as error:
            said = said or error
            continue
        made += 1
        yield layout
    if not made:
        raise said or FamilyError(f"no layout of {family!r} has the shapes of its tensors")


def read_layout(path: str | Path, config: str | Path | Config) -> Layout:
    """The layout in a file, proven on a tiny twin of this config (or folder): what the proof does not show is
    refused in it, axis by axis.

    The file is read as data; nothing in it is run. Raises `LayoutError` for a file that holds no layout, for
    one of another model type, and for one of which nothing is proven.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
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
    return proven(layout, smallest(source).config)
