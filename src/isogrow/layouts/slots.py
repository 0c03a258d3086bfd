"""Slots: what a weight is, whatever it is called and however it is stored.

Rules and laws read slots alone. Where they lie, `isogrow.layouts.lines` says.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

BIAS = ".bias"


@dataclass(frozen=True)
class Norm:
    """What a gain (and shift) belongs to.

    `where`: "pre" reads the residual for a branch or head; "post" is written back as the residual;
    "branch" stands on a branch's output, "part" on what one of the branch's parts gives to it; "inner"
    normalises the output of the slot `of`.
    `eps` is a config key, or the constant in the model's code. `offset` is 1 where the code
    multiplies by 1 + g. `over` are the axes that it runs over, where those are not all that its gain has.
    """

    kind: Literal["rms", "layer"]
    where: Literal["pre", "post", "branch", "part", "inner"]
    eps: str | float
    of: str = ""
    offset: float = 0.0
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stream:
    """A residual stream: the sum along `axis` that branches read and add to, known by its `name` in slots.

    `tie` is a formula over config keys, true where the head which reads it is the embedding; `longest` the
    key that says how many positions a sequence may have. `given`: tensors that no row names (`carried`: a
    front of convolutions) write it before any row does. `taken`: such tensors read it in the end.
    """

    name: str = ""
    axis: str = "hidden"
    tie: str = "tie_word_embeddings"
    longest: str = "max_position_embeddings"
    given: bool = False
    taken: bool = False


@dataclass(frozen=True)
class Slot:
    """A meaning. Its blocks have the axes `produced` (of a gain: those that it multiplies), then `consumed`.

    `index` are the axes that number its blocks, outermost first. Variants under one name differ in `when`, a
    formula over config keys and the numbers of an index (`layers`): a slot is there, and is asked for where
    it is `required`, only where it is true. What it `needs` is a slot without which it is not there either.
    `tied` names the slot that it may share its entries with; what is `shared` does whatever the config says.
    `head`: no part of the base model. `stored` is False for a norm that the code applies without a tensor,
    before a branch or on the residual: `when` may then ask only the config.
    `times` is what the model multiplies its output by, a formula over sizes. `clamp` is true, a formula over
    config keys, where the code clamps its output (with its bias) before that is used, or bends it so that no
    scale passes. `scales` names the slot whose output this one's multiplies, through a function that is never
    zero: a router's softmax, a gate's sigmoid, all of a recurrence but its values. `gates` names the slot
    whose output a gain without a norm multiplies before it joins the residual (LayerScale).
    `idle` is a formula that says when the outputs do not depend on its values smoothly, or only with inputs
    that a model need not get (a mask's token), so that no gradient reaches them.
    `centred`: new entries lie around the old ones' mean, as a gain's do, and not around zero: numbers with a
    scale of their own, of how fast a state decays.
    `constant`: numbers of the code that files hold, which nothing trains: a new block has the old one's.
    `unit`: a number that multiplies the whole residual, which nothing trains: a new block's is 1.
    `aside`: it reads what no stream holds (where heads attend to, say), for an answer beside the outputs: a
    new block's is 0.
    `stream` names the residual `Stream` that it reads or writes, where a model has several (an encoder's and
    a decoder's); an embedding may write several. A slot that names none is of the layout's first.
    """

    name: str
    produced: tuple[str, ...]
    consumed: tuple[str, ...] = ()
    gain: bool = False
    index: tuple[str, ...] = ()
    norm: Norm | None = None
    required: bool = True
    head: bool = False
    tied: str = ""
    shared: bool = False
    needs: str = ""
    when: str = ""
    times: str = ""
    clamp: str = ""
    stored: bool = True
    scales: str = ""
    gates: str = ""
    idle: str = ""
    centred: bool = False
    constant: bool = False
    unit: bool = False
    aside: bool = False
    stream: str = ""

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Made once: tens of thousands of tensors ask for it."""
        return hash(tuple(getattr(self, each.name) for each in fields(self)))

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """The logical axes of a block: produced, then consumed."""
        return self.produced + self.consumed

    @property
    def grows(self) -> bool:
        """Whether any growth may change it: an axis has a name, or there are several of it."""
        return bool(self.index) or not all(map(str.isdigit, self.axes))

    @cached_property
    def stem(self) -> str:
        """The slot whose output this one is added to, where it is a bias; else itself."""
        return self.name.removesuffix(BIAS)

    @property
    def normed(self) -> tuple[str, ...]:
        """The axes that its norm runs over."""
        return (self.norm.over or self.produced) if self.norm is not None else ()


def closing(norm: Norm) -> bool:
    """Whether a norm stands on what a branch, or a part of one, gives."""
    return norm.where in ("branch", "part")


def bias_of(slot: str) -> str:
    """The name of a slot's bias (of a gain: its norm's shift).

    >>> bias_of("attn.q")
    'attn.q.bias'
    """
    return slot + BIAS
