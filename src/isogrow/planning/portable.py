"""Growths for an engine: `engines=`, or `--for`. What it leaves as it is is chosen, and what it can't have is
refused, with the nearest sizes that it has right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations, islice, product

from isogrow.engines import Change, Complaint, Engine, change, chosen, complaints, engine_for, itemsize
from isogrow.engines.engine import Takes
from isogrow.errors import IsogrowError, SizeError
from isogrow.layouts.formula import evaluate, names
from isogrow.planning.nearest import holds
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.choices import Choices
from isogrow.plans.expansions import At, Size
from isogrow.plans.plan import Plan
from isogrow.plans.words import meant, named, with_words

LOOKED = 160  # plans made of one kind of mend, the nearest first
CLOSE = {2: 64, 3: 12}  # how many axes are tried together, and with how many sizes of each
PARTNERS = ("heads", "kv_heads", "hidden", "ffn", "head_dim")  # sizes that may grow beside those asked for

Again = Callable[[Mapping[str, Size], At | None], Plan]  # the same request with other sizes


def engines_of(said: str | Iterable[str] | None) -> tuple[Engine, ...]:
    """The engines of a request: names, or one text with commas between them. Raises `SizeError`.

    >>> [engine.name for engine in engines_of("llama.cpp,tp=8")]
    ['llama.cpp', 'tp=8']
    """
    texts = (said,) if isinstance(said, str) else tuple(said or ())
    found = [name.strip() for text in texts for name in str(text).split(",") if name.strip()]
    if texts and not found:
        raise SizeError("engines= (--for) names no engine: give one, or leave it out")
    return tuple(engine_for(name) for name in dict.fromkeys(found))


def choices_of(anatomy: Anatomy, engines: Iterable[Engine]) -> Choices:
    """What a growth has to leave as it is for these engines. Raises `SizeError` for one that loads no such
    model."""
    found = Choices()
    for engine in engines:
        _check_taken(anatomy.layout.family, engine)
        found |= chosen(engine, anatomy.layout)
    return found


def _check_taken(family: str, engine: Engine) -> None:
    if engine.takes(family):
        return
    why = engine.refused.get(family, "")
    said = f"loads no {family!r} model, grown or not ({why})" if why else f"has not been seen with {family!r}"
    raise SizeError(f"{engine.called} {said}: leave out {engine.name}")


def check_portable(
    anatomy: Anatomy, plan: Plan, engines: tuple[Engine, ...], again: Again | None = None
) -> None:
    """Raise `SizeError` where an engine would compute otherwise, or refuse, what a plan makes."""
    found = complained(anatomy, plan, engines)
    if found:
        first = found[0]
        near = _mend(anatomy, plan, engines, again) if again is not None and first.mendable else ""
        raise SizeError(f"{first.why}; {near or f'leave out {first.engine.name}, or what brings it about'}")


def complained(anatomy: Anatomy, plan: Plan, engines: Iterable[Engine]) -> list[Complaint]:
    """All that these engines can't do of a plan that is made for them."""
    made = changed(anatomy, plan)
    return [complaint for engine in engines for complaint in complaints(engine, made, strict=True)]


def changed(anatomy: Anatomy, plan: Plan) -> Change:
    """What a plan changes of a model."""
    width = itemsize(stored.header.dtype for stored in anatomy.stored)
    return change(anatomy.layout, anatomy.config, plan, width)


def _mend(anatomy: Anatomy, plan: Plan, engines: tuple[Engine, ...], again: Again) -> str:
    """The nearest sizes, or the other place for layers, that would do."""
    stacks = anatomy.layout.stacks
    before, asked = named(plan.source, stacks), named(plan.target, stacks)
    grown = {word: size for word, size in asked.items() if size != before.get(word)}
    grown = {word: size for word, size in grown.items() if not (word.endswith("_dim") and word != "head_dim")}

    def does(sizes: Mapping[str, int], at: At | None = None) -> bool:
        try:
            return not complained(anatomy, again({**grown, **sizes}, at), engines)
        except IsogrowError:
            return False

    layers = any(word.rpartition(".")[2] == "layers" for word in grown)
    fitting = ((s for s in each if _fits(anatomy, {**grown, **s}, engines)) for each in _near(before, grown))
    found = next((sizes for each in fitting for sizes in islice(each, LOOKED) if does(sizes)), {})
    first, *rest = [f"{word}={size}" for word, size in found.items()] or [""]
    said = " with ".join([first, *([" and ".join(rest)] if rest else [])])
    places = ["layers at the end"] if layers and does({}, "end") else []
    told = " or ".join([*([said] if said else []), *places])
    return f"{told} would do" if told else ""


def _near(before: Mapping[str, int], grown: Mapping[str, int]) -> Iterator[Iterable[Mapping[str, int]]]:
    """Other sizes of what grows, one or two partners with it, two or three axes: the nearest sizes first."""
    ones = {word: _around(before[word], size) for word, size in grown.items() if word in before}
    more = {w: _around(before[w], before[w]) for w in PARTNERS if w in before and w not in grown}
    for word, sizes in ones.items():
        yield ({word: size} for size in sizes)
    for other, sizes in more.items():
        yield ({**grown, other: size} for size in sizes)
    both, now = {**ones, **more}, {**before, **grown}

    def together(words: tuple[str, ...]) -> Iterator[dict[str, int]]:
        some = [_some(both[word], before[word], CLOSE[len(words)]) for word in words]
        return (dict(zip(words, sizes, strict=True)) for sizes in _ranked(some, [now[w] for w in words]))

    for words in combinations(more, 2):
        yield ({**grown, **sizes} for sizes in together(words))
    for count in CLOSE:
        yield from (together(words) for words in combinations(both, count) if words[0] in ones)


def _around(least: int, asked: int) -> list[int]:
    sizes = (size for size in range(least + 1, 4 * asked + 1) if size != asked)
    return sorted(sizes, key=lambda size: abs(size - asked))


def _some(sizes: list[int], before: int, close: int) -> list[int]:
    """The nearest sizes, and the first multiples of what there is."""
    return list(dict.fromkeys((*sizes[:close], 2 * before, 3 * before, 4 * before)))


def _ranked(some: list[list[int]], now: list[int]) -> list[tuple[int, ...]]:
    """All combinations, those first that change least."""

    def moved(sizes: tuple[int, ...]) -> float:
        return sum(abs(a / b - 1) for a, b in zip(sizes, now, strict=True))

    return sorted(product(*some), key=moved)


def _fits(anatomy: Anatomy, sizes: Mapping[str, int], engines: Iterable[Engine]) -> bool:
    """Whether the conditions of the family and of the engines are met: no plan is made of other sizes."""
    axes = dict(anatomy.sizes.values)
    axes |= {axis: size for word, size in sizes.items() for axis in meant(word) if axis in axes}
    if "kv_heads" in axes:
        heads = sizes.get("heads", axes["kv_heads"] * axes["group"])
        if heads % axes["kv_heads"]:
            return False
        axes["group"] = heads // axes["kv_heads"]
    facts = with_words(axes)
    rows = (row for engine in engines for row in engine.of(anatomy.layout.family))
    asked = ((row.condition, names(row.condition)) for row in rows if isinstance(row, Takes))
    met = all(bool(evaluate(condition, facts)) for condition, used in asked if used <= facts.keys())
    return met and holds(anatomy.layout, anatomy.config, axes)
