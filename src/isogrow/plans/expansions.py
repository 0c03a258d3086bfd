"""The six transformations of Gesmundo & Maile (arXiv 2308.06103), as composable objects.

Sizes are absolute (`768`), relative (`"+4"`) or factors (`"x2"`). A site (`layer`, `head`) may be named
where an architecture has a size of its own there; else every layer (and head) grows alike. Where a model has
two stacks, `stack` addresses one of them; else both grow alike. `word` is what a request called the size,
where that is another word (`head_dim`): refusals speak of it.

    >>> MlpExpansion(ffn="x2").sizes()
    {'ffn': 'x2'}
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from math import ceil

from isogrow.errors import SizeError
from isogrow.plans.words import INNER, WORDS, addressed, spelled

Size = int | str
At = str | int | tuple[int, ...]  # where new layers go: each before an old layer


@dataclass(frozen=True)
class MlpExpansion:
    """Section 3.1: the MLP's inner width p grows to p̂, in one layer or in all.

    `axis` says whose, where a model has several: "ffn" is what the config calls the intermediate size,
    "expert_ffn" the width of each expert beside it, "shared_ffn" that of the shared expert. Any other inner
    axis grows like these: the ranks of latent attention, "q_rank" and "kv_rank", and the widths of a state.
    """

    ffn: Size
    layer: int | None = None
    axis: str = "ffn"
    stack: str = ""

    def sizes(self) -> dict[str, Size]:
        return {self.axis: self.ffn}


@dataclass(frozen=True)
class HeadAddition:
    """Section 3.2: heads are added, in one layer or in all.

    `heads` counts query heads. Under grouped-query attention it alone widens every group;
    `kv_heads` adds key/value heads, each with a whole group.
    """

    heads: Size | None = None
    kv_heads: Size | None = None
    layer: int | None = None
    stack: str = ""

    def sizes(self) -> dict[str, Size]:
        given = {"kv_heads": self.kv_heads, "heads": self.heads}
        return {axis: size for axis, size in given.items() if size is not None}


@dataclass(frozen=True)
class HeadsExpansion:
    """Section 3.3: the value dim v of heads grows to v̂, in one layer or head, or in all."""

    value_dim: Size
    layer: int | None = None
    head: int | None = None
    stack: str = ""
    word: str = field(default="value_dim", compare=False, repr=False)

    def sizes(self) -> dict[str, Size]:
        return {"value_dim": self.value_dim}


@dataclass(frozen=True)
class AttentionExpansion:
    """Section 3.4: the key/query dim k of heads grows to k̂, in one layer or head, or in all."""

    key_dim: Size
    layer: int | None = None
    head: int | None = None
    stack: str = ""
    word: str = field(default="key_dim", compare=False, repr=False)

    def sizes(self) -> dict[str, Size]:
        return {"key_dim": self.key_dim}


@dataclass(frozen=True)
class HiddenExpansion:
    """Section 3.5: the width h of the residual stream grows to ĥ, everywhere."""

    hidden: Size
    stack: str = ""

    def sizes(self) -> dict[str, Size]:
        return {"hidden": self.hidden}


@dataclass(frozen=True)
class LayerAddition:
    """Section 3.6: layers are added. `at`: "end", "start", "even", or for every new layer the number of
    the old layer that it is put before."""

    layers: Size
    at: At = "end"
    stack: str = ""

    def sizes(self) -> dict[str, Size]:
        return {"layers": self.layers}


Expansion = (
    MlpExpansion | HeadAddition | HeadsExpansion | AttentionExpansion | HiddenExpansion | LayerAddition
)

ORDER = (HiddenExpansion, AttentionExpansion, HeadsExpansion, HeadAddition, MlpExpansion, LayerAddition)
LARGEST = 1 << 20
MOST_LAYERS = 10_000

# What the most common configs call an axis, for whoever says it so.
KEYS: Mapping[str, str] = {
    "hidden_size": "hidden",
    "d_model": "hidden",
    "n_embd": "hidden",
    "dim": "hidden",
    "intermediate_size": "ffn",
    "d_ff": "ffn",
    "ffn_dim": "ffn",
    "n_inner": "ffn",
    "mlp": "ffn",
    "num_attention_heads": "heads",
    "n_head": "heads",
    "num_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "num_hidden_layers": "layers",
    "num_layers": "layers",
    "n_layer": "layers",
    "depth": "layers",
}

NAMES: Mapping[str, str] = {
    "ffn": "MlpExpansion",
    "heads": "HeadAddition",
    "kv_heads": "HeadAddition",
    "group": "HeadAddition",
    "value_dim": "HeadsExpansion",
    "key_dim": "AttentionExpansion",
    "hidden": "HiddenExpansion",
    "layers": "LayerAddition",
}


def expansion_name(axis: str) -> str:
    """The paper's name for growing this axis; an inner axis that the paper lacks is MLP-like."""
    return NAMES.get(axis, NAMES.get(axis.rpartition("_")[2], "MlpExpansion"))


def largest(axis: str) -> int:
    """The largest size that any model has of this axis, so that a slip is told before it is planned."""
    return MOST_LAYERS if axis.endswith("layers") else LARGEST


def target(size: Size, now: int, axis: str) -> int:
    """The absolute size that is meant: `768`, `"+4"` or `"x2"`.

    >>> target("+4", 12, "heads"), target("x2", 12, "heads")
    (16, 24)
    """
    text = str(size).strip()
    found = re.fullmatch(r"([+xX]?)(\d+(?:\.\d+)?)", text)
    if found is None:
        raise SizeError(f"{axis}={size!r} is no size: give a number, '+4' or 'x2'")
    value = Decimal(found[2])
    wanted = _wanted(found[1], value, now)
    most = largest(axis)
    if wanted > most:
        raise SizeError(f"{axis}={_short(text)!r} is larger than any model's: give {most:,} or less")
    # A bare 2.5 is no size that anybody has: a factor was meant.
    factor = not found[1] and 1 < wanted < now and _fraction(value) and _wanted("x", value, now) <= most
    if wanted < now and not factor:
        raise SizeError(
            f"{axis}={size!r} would shrink {axis} from {now} to {_shown(wanted)}: give more than {now}"
        )
    if _fraction(wanted):
        meant = _factor(value, now) if factor else str(ceil(wanted))
        raise SizeError(
            f"{axis}={size!r} is {_shown(wanted)} from {now}, which is not a whole number: give {meant}"
        )
    return int(wanted)


def _wanted(kind: str, value: Decimal, now: int) -> Decimal:
    """The size that is meant, exactly: x1.4 from 45 is 63."""
    with localcontext(prec=len(f"{value:f}") + len(str(now))):
        return now + value if kind == "+" else now * value if kind else value


def _factor(value: Decimal, now: int) -> str:
    """What to give for so many times the size, where that was meant."""
    times, said = _wanted("x", value, now), _shown(value)
    return f"{ceil(times) if _fraction(times) else repr(f'x{said}')} for {said} times {now}"


def _fraction(value: Decimal) -> bool:
    return value != value.to_integral_value()


def _shown(value: Decimal) -> str:
    """A number without the zeros behind its last decimal."""
    text = f"{value:f}"
    return _short(text.rstrip("0").rstrip(".") if "." in text else text)


def _short(text: str) -> str:
    return text if len(text) < 24 else f"{text[:20]}…"


def places(at: At, old: int, count: int) -> tuple[int, ...]:
    """For every new layer the old layer that it goes before (`old`: the end), in ascending order.

    >>> places("even", 4, 2)
    (2, 4)
    """
    if isinstance(at, int):
        at = (at,)
    if at == "end":
        return (old,) * count
    if at == "start":
        return (0,) * count
    if at == "even":
        return tuple(round((i + 1) * old / count) for i in range(count))
    if isinstance(at, str):
        raise SizeError(f"layers at {at!r}: give end, start, even, or a number for each new layer")
    if len(at) != count or any(not 0 <= place <= old for place in at):
        numbers = f"{count} numbers" if count > 1 else "one number"
        raise SizeError(
            f"layers at {','.join(map(str, at))}: expected {numbers} from 0 to {old}, one for each new layer"
            " (the old layer that it is put before)"
        )
    return tuple(sorted(at))


def expansions(sizes: Mapping[str, Size], at: At = "end", own: Collection[str] = ()) -> tuple[Expansion, ...]:
    """Sizes by the field's names as expansions, in the order that leaves most of the new blocks free.

    A name with a stack's before it (`encoder.layers`, or `encoder_layers`) addresses that stack alone. `own`
    are the words that mean no stack's axis without one (`words.alone`): those of a language model beside a
    tower.

    >>> expansions({"layers": "+2", "hidden": 768})
    (HiddenExpansion(hidden=768, stack=''), LayerAddition(layers='+2', at='end', stack=''))
    """
    unknown = sorted(name for name in sizes if addressed(name)[1] not in WORDS)
    if unknown:
        meant = [f"{name} is {KEYS[name]} here" for name in unknown if name in KEYS]
        hint = f" ({'; '.join(meant)})" if meant else ""
        raise SizeError(
            f"{', '.join(unknown)} is no axis that grows: give one of {', '.join(sorted(WORDS))}{hint}"
        )
    stacks: dict[str, dict[str, Size]] = {}
    for name, size in sizes.items():
        stack, word = addressed(name)
        if word in stacks.setdefault(stack, {}):
            raise SizeError(
                f"{spelled(stack, word)} is given twice, {stacks[stack][word]} and {size}: give it once"
            )
        stacks[stack][word] = size
    for word in stacks.get("", {}).keys() - own:
        for stack in (stack for stack in stacks if stack and word in stacks[stack]):
            raise SizeError(f"{word} is given for every stack, and for {stack} alone: give it for each")
    found = [each for stack, own in stacks.items() for each in _of_stack(own, at, stack)]
    return tuple(sorted(found, key=lambda each: ORDER.index(type(each))))


def _of_stack(sizes: Mapping[str, Size], at: At, stack: str) -> list[Expansion]:
    """The expansions of one stack, or of all ("")."""
    dims = {axis: axis if axis in sizes else "head_dim" for axis in ("key_dim", "value_dim")}
    key, value = dims["key_dim"], dims["value_dim"]
    found: list[Expansion] = []
    if "hidden" in sizes:
        found.append(HiddenExpansion(sizes["hidden"], stack))
    if key in sizes:
        found.append(AttentionExpansion(sizes[key], stack=stack, word=key))
    if value in sizes:
        found.append(HeadsExpansion(sizes[value], stack=stack, word=value))
    if "heads" in sizes or "kv_heads" in sizes:
        found.append(HeadAddition(sizes.get("heads"), sizes.get("kv_heads"), stack=stack))
    found += [MlpExpansion(sizes[axis], axis=axis, stack=stack) for axis in INNER if axis in sizes]
    if "layers" in sizes:
        found.append(LayerAddition(sizes["layers"], at, stack))
    return found
