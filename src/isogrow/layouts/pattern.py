"""Patterns: one line says what the axes of a stored weight are, and who produces and consumes them.

    pattern := side "<-" side      nn.Linear, stored produced x consumed
             | side "->" side      Conv1D, embedding: stored consumed x produced
             | "->" side           a bias, a learned token: only produces
             | "*" side            a gain: multiplies
    side    := dim*                one word or bracket for each dim of the stored tensor
    dim     := axis | number | "{" axis "}" | "(" product ")" | "(" sum ")"
    product := ["{" axis "}"] (axis | number | "(" sum ")")+     row-major, the first varies slowest
    sum     := part ("+" part)+                      concatenated, for fused weights
    part    := name ":" (axis | number)+

`{experts}` is an index axis that is stored inside the tensor: each index is a block of its own, as
`{layers}` in a tensor's name is; `({layers} width)` are the blocks of all layers one after the other in one
dim. A tensor has at most one sum; its parts are slots of their own.

    >>> parse("(kv_heads (q: group head_dim + k: head_dim)) <- hidden").parts
    ('q', 'k')
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod

from isogrow.errors import PatternError

Size = Callable[[str], int]
TOKEN = re.compile(r"\s*(<-|->|\*|\(|\)|\{|\}|\+|:|[A-Za-z_][\w]*|\d+)")


@dataclass(frozen=True)
class Sum:
    """Parts that lie one after the other within a dim: `(q: heads + k: 1)`."""

    parts: tuple[tuple[str, tuple[str, ...]], ...]


Factor = str | Sum


@dataclass(frozen=True)
class Dim:
    """One dim of a stored tensor: the factors it flattens, and whether the first of them is an index axis."""

    factors: tuple[Factor, ...]
    index: bool = False

    @property
    def inside(self) -> tuple[Factor, ...]:
        """The factors that are axes of a block."""
        return self.factors[self.index :]

    def length(self, size: Size) -> int:
        return prod(_length(factor, size) for factor in self.factors)


@dataclass(frozen=True)
class View:
    """How a stored tensor becomes one part's logical block: reshape, narrow, split, select, permute."""

    full: tuple[int, ...]
    narrow: tuple[int, int, int] | None
    split: tuple[int, ...]
    select: tuple[tuple[int, int], ...]
    order: tuple[int, ...]


@dataclass(frozen=True)
class Pattern:
    """A parsed pattern. Logical blocks have the produced axes first, then the consumed ones."""

    left: tuple[Dim, ...]
    arrow: str
    right: tuple[Dim, ...]

    def __str__(self) -> str:
        left, right = (" ".join(_show(dim) for dim in side) for side in (self.left, self.right))
        return f"{left} {self.arrow} {right}".strip()

    @cached_property
    def dims(self) -> tuple[Dim, ...]:
        """The stored tensor's dims, in storage order."""
        return self.left + self.right

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts of a fused weight; `('',)` if it is not fused."""
        return next((tuple(n for n, _ in s.parts) for s in _sums(self.dims)), ("",))

    @cached_property
    def index(self) -> tuple[str, ...]:
        """The index axes stored inside the tensor, in storage order."""
        return tuple(str(dim.factors[0]) for dim in self.dims if dim.index)

    @cached_property
    def blocks(self) -> tuple[Dim, ...]:
        """The dims that number blocks, and nothing else."""
        return tuple(dim for dim in self.dims if not dim.inside)

    @property
    def gate(self) -> bool:
        return self.arrow == "*"

    def produced(self, part: str = "") -> tuple[str, ...]:
        """The axes that this part writes (a gate: the axes that it multiplies)."""
        return _axes(self.left if self.arrow == "<-" else self.right, part)

    def consumed(self, part: str = "") -> tuple[str, ...]:
        """The axes that this part reads."""
        return _axes({"<-": self.right, "->": self.left}.get(self.arrow, ()), part)

    def axes(self, part: str = "") -> tuple[str, ...]:
        """The logical axes of this part's block: produced, then consumed."""
        return self.produced(part) + self.consumed(part)

    @property
    def added(self) -> Pattern:
        """The pattern of what is added to what this one produces: a bias, or the shift beside a gain.

        >>> str(parse("{experts} hidden -> (ffn (gate: 1 + up: 1))").added)
        '{experts} -> (ffn (gate: 1 + up: 1))'
        """
        made = self.left if self.arrow == "<-" else self.right
        return Pattern(self.blocks, "->", tuple(dim for dim in made if dim.inside))

    def shape(self, size: Size) -> tuple[int, ...]:
        """The stored tensor's shape under these sizes."""
        return tuple(dim.length(size) for dim in self.dims)

    def view(self, part: str, index: dict[str, int], size: Size) -> View:
        """How the stored tensor is seen as the block of `part` at `index`, without a copy."""
        full: list[int] = []
        split: list[tuple[str, int, bool]] = []
        narrow: tuple[int, int, int] | None = None
        for dim in self.dims:
            for place, factor in enumerate(dim.factors):
                if isinstance(factor, Sum):
                    start, axes = _locate(factor, part, size)
                    narrow = (len(full), start, prod(extent(axis, size) for axis in axes))
                    split += [(axis, extent(axis, size), False) for axis in axes]
                else:
                    split.append((factor, extent(factor, size), dim.index and place == 0))
                full.append(_length(factor, size))
        select = tuple((d, index[axis]) for d, (axis, _, is_index) in enumerate(split) if is_index)
        kept = [axis for axis, _, is_index in split if not is_index]
        order = tuple(_order(kept, self.axes(part)))
        return View(tuple(full), narrow, tuple(length for _, length, _ in split), select, order)


@cache
def parse(text: str) -> Pattern:
    """Read a pattern; a `PatternError` underlines what can't be read.

    >>> str(parse("ffn  <-  hidden"))
    'ffn <- hidden'
    """
    tokens = _Tokens(text)
    left = () if tokens.next in ("->", "*") else _side(tokens)
    arrow = tokens.take("<-", "->", *(() if left else ("*",)))
    right = _side(tokens)
    tokens.end()
    pattern = Pattern(left, arrow, right)
    if len(list(_sums(pattern.dims))) > 1:
        raise PatternError(f"{text!r} has two sums, and a tensor may have one: name the blocks apart")
    for part in pattern.parts:
        axes = [axis for axis in (*pattern.index, *pattern.axes(part)) if not axis.isdigit()]
        names = (*axes, *pattern.parts)
        twice = sorted({name for name in names if max(axes.count(name), pattern.parts.count(name)) > 1})
        if twice:
            raise PatternError(f"{text!r} names {twice[0]} twice: give the second meaning its own name")
    return pattern


def extent(axis: str, size: Size) -> int:
    """The length of an axis, or of a number written in its place."""
    return int(axis) if axis.isdigit() else size(axis)


class _Tokens:
    """A cursor over the words of a pattern that can underline where it stands."""

    def __init__(self, text: str) -> None:
        self.text, self.place, self.next = text, 0, ""
        self.spans: list[tuple[str, int]] = []
        place = 0
        while text[place:].strip():
            found = TOKEN.match(text, place)
            if found is None:
                start = len(text) - len(text[place:].lstrip())
                raise self.error("is no word of the grammar", start, start + 1)
            self.spans.append((found[1], found.start(1)))
            place = found.end()
        self.next = self.spans[0][0] if self.spans else ""

    def take(self, *expected: str) -> str:
        """The next word, which must be one of `expected` (any name or number if none is given)."""
        word = self.next
        if (expected and word not in expected) or (not expected and not re.fullmatch(r"\w+", word)):
            raise self.error(f"expected {' or '.join(expected) or 'an axis'} here")
        self.place += 1
        self.next = self.spans[self.place][0] if self.place < len(self.spans) else ""
        return word

    def end(self) -> None:
        if self.next:
            raise self.error("expected the end here")

    def error(self, why: str, start: int = -1, stop: int = -1) -> PatternError:
        if start < 0:
            past = self.place >= len(self.spans)
            start = len(self.text) if past else self.spans[self.place][1]
            stop = start + max(1, 0 if past else len(self.spans[self.place][0]))
        return PatternError(f"pattern: {why}\n  {self.text}\n  {' ' * start}{'^' * (stop - start)}")


def _side(tokens: _Tokens) -> tuple[Dim, ...]:
    dims: list[Dim] = []
    while tokens.next and tokens.next not in ("<-", "->", "*"):
        dims.append(_dim(tokens))
    return tuple(dims)


def _dim(tokens: _Tokens) -> Dim:
    if tokens.next == "{":
        return Dim(_number(tokens), index=True)
    if tokens.next != "(":
        return Dim((tokens.take(),))
    tokens.take("(")
    return _numbered(tokens)


def _numbered(tokens: _Tokens) -> Dim:
    """The inside of a bracket that is a dim: the blocks of an axis may lie in it one after the other."""
    number = _number(tokens) if tokens.next == "{" else ()
    return Dim((*number, *_inside(tokens)), index=bool(number))


def _number(tokens: _Tokens) -> tuple[str]:
    """An axis that numbers blocks."""
    tokens.take("{")
    axis = tokens.take()
    tokens.take("}")
    return (axis,)


def _bracket(tokens: _Tokens) -> tuple[Factor, ...]:
    tokens.take("(")
    return _inside(tokens)


def _inside(tokens: _Tokens) -> tuple[Factor, ...]:
    """The inside of a bracket: a product of factors, or a single sum."""
    factors: list[Factor] = []
    while tokens.next != ")" or not factors:
        if tokens.next == "(":
            factors += _bracket(tokens)
            continue
        word = tokens.take()
        if tokens.next == ":" and not factors:
            return (_sum(tokens, word),)
        factors.append(word)
    tokens.take(")")
    return tuple(factors)


def _sum(tokens: _Tokens, name: str) -> Sum:
    parts: list[tuple[str, tuple[str, ...]]] = []
    while True:
        tokens.take(":")
        axes = [tokens.take()]
        while tokens.next not in ("+", ")"):
            axes.append(tokens.take())
        parts.append((name, tuple(axes)))
        if tokens.take("+", ")") == ")":
            return Sum(tuple(parts))
        name = tokens.take()


def _show(dim: Dim) -> str:
    words = ["{" + str(dim.factors[0]) + "}"] if dim.index else []
    words += [_show_sum(factor) if isinstance(factor, Sum) else factor for factor in dim.inside]
    bare = len(words) == 1
    return words[0] if bare else f"({' '.join(words)})"


def _show_sum(total: Sum) -> str:
    return "(" + " + ".join(f"{name}: {' '.join(axes)}" for name, axes in total.parts) + ")"


def _sums(dims: tuple[Dim, ...]) -> Iterator[Sum]:
    return (factor for dim in dims for factor in dim.factors if isinstance(factor, Sum))


def _axes(side: tuple[Dim, ...], part: str) -> tuple[str, ...]:
    axes: list[str] = []
    for factor in (factor for dim in side for factor in dim.inside):
        axes += dict(factor.parts)[part] if isinstance(factor, Sum) else (factor,)
    return tuple(axes)


def _length(factor: Factor, size: Size) -> int:
    if isinstance(factor, Sum):
        return sum(prod(extent(axis, size) for axis in axes) for _, axes in factor.parts)
    return extent(factor, size)


def _locate(total: Sum, part: str, size: Size) -> tuple[int, tuple[str, ...]]:
    start = 0
    for name, axes in total.parts:
        if name == part:
            return start, axes
        start += prod(extent(axis, size) for axis in axes)
    raise AssertionError(f"no part {part}")


def _order(kept: list[str], axes: tuple[str, ...]) -> Iterator[int]:
    """Where each logical axis stands among the kept dims; equal numbers are taken in order."""
    free = list(range(len(kept)))
    for axis in axes:
        place = next(d for d in free if kept[d] == axis)
        free.remove(place)
        yield place
