"""Growths for an engine: `engines=`, or `--for`. What it leaves as it is is chosen, and what it can't have is
refused, with the nearest sizes that it has right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice, product

from isogrow.engines import Change, Complaint, Engine, change, chosen, complaints, engine_for, itemsize
from isogrow.engines.engine import Takes
from isogrow.errors import IsogrowError, SizeError
from isogrow.layouts.formula import evaluate, names
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.choices import Choices
from isogrow.plans.expansions import At, Size
from isogrow.plans.plan import Plan
from isogrow.plans.words import named, with_words

LOOKED = 200  # plans made, the nearest first, for a mend
CLOSE = 64  # sizes of one axis that are tried with as many of another
PARTNERS = ("heads", "kv_heads", "hidden", "ffn", "head_dim")  # sizes that may grow beside those asked for

Again = Callable[[Mapping[str, Size], At | None], Plan]  # the same request with other sizes


def engines_of(said: str | Iterable[str] | None) -> tuple[Engine, ...]:
    """The engines of a request: names, or one text with commas between them. Raises `SizeError`.

    >>> [engine.name for engine in engines_of("llama.cpp,tp=8")]
    ['llama.cpp', 'tp=8']
    """
    texts = (said,) if isinstance(said, str) else tuple(said or ())
    found = [name for text in texts for name in str(text).split(",") if name.strip()]
    return tuple(engine_for(name) for name in dict.fromkeys(found))


def choices_of(anatomy: Anatomy, engines: Iterable[Engine]) -> Choices:
    """What a growth has to leave as it is for these engines. Raises `SizeError` for one that loads no such model."""
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


def check_portable(anatomy: Anatomy, plan: Plan, engines: tuple[Engine, ...], again: Again | None) -> None:
    """Raise `SizeError` where an engine would compute otherwise, or refuse, what a plan makes."""
    found = complained(anatomy, plan, engines)
    if found:
        near = _mend(anatomy, plan, engines, again) if again is not None else ""
        raise SizeError(
            f"{found[0].why}; {near or f'leave out {found[0].engine.name}, or what brings it about'}"
        )


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
    near = (sizes for sizes in _near(before, grown) if _fits(anatomy, {**grown, **sizes}, engines))
    found = next((sizes for sizes in islice(near, LOOKED) if does(sizes)), {})
    first, *rest = [f"{word}={size}" for word, size in found.items()] or [""]
    said = " with ".join([first, *([" and ".join(rest)] if rest else [])])
    places = ["layers at the end"] if layers and does({}, "end") else []
    told = " or ".join([*([said] if said else []), *places])
    return f"{told} would do" if told else ""


def _near(before: Mapping[str, int], grown: Mapping[str, int]) -> Iterator[Mapping[str, int]]:
    """Other sizes of what grows, and then of a partner with it: those nearest to what was asked for first."""
    ones = {word: _around(before[word], size) for word, size in grown.items() if word in before}
    for word, sizes in ones.items():
        yield from ({word: size} for size in sizes)
    partners = [other for other in PARTNERS if other in before and other not in grown]
    for other in partners:
        yield from ({**grown, other: size} for size in _around(before[other], before[other]))
    for word, other in product(ones, partners):
        pairs = product(ones[word][:CLOSE], _around(before[other], before[other])[:CLOSE])
        ranked = sorted(pairs, key=lambda p: abs(p[0] - grown[word]) / grown[word] + p[1] / before[other])
        yield from ({word: a, other: b} for a, b in ranked)


def _around(least: int, asked: int) -> list[int]:
    sizes = (size for size in range(least + 1, 4 * asked + 1) if size != asked)
    return sorted(sizes, key=lambda size: abs(size - asked))


def _fits(anatomy: Anatomy, sizes: Mapping[str, int], engines: Iterable[Engine]) -> bool:
    """Whether the engines' conditions on sizes, as far as words say them, are met: no plan is made of others."""
    facts = {**with_words(anatomy.sizes.values), **sizes}
    if "kv_heads" in facts and facts["heads"] % facts["kv_heads"]:
        return False
    rows = (row for engine in engines for row in engine.of(anatomy.layout.family))
    conditions = (row.condition for row in rows if isinstance(row, Takes))
    return all(bool(evaluate(c, facts)) for c in conditions if all(name in facts for name in names(c)))
