"""The grown model with booleans for numbers: which values are non-zero, and which get gradient.

A channel stands for all channels of an axis with one history (old, or new in a certain step). A sum is
non-zero iff a term is; a product iff every factor is, for generic values. Sensitivities run backwards
through the same network: a factor gets gradient iff the product does and the other factors are
non-zero. This is Law 2 of docs/laws.md word for word, and Law 1 is read off its activations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from isogrow.layouts.layout import Index, Norm

Combo = tuple[tuple[str, int], ...]
Cancels = Literal["", "pair", "mean"]


def output(axis: str) -> str:
    """What the model gives out of a residual stream, where no head reads it."""
    return f"the output along {axis}"


@dataclass(eq=False)
class Node:
    """A value. A "leaf" is a weight's entry; "always" is non-zero whatever it depends on (softmax).

    What `cancels` adds to zero, until training moves it: r and -r on copies of one channel, or the mean of
    the old channels in what a LayerNorm centres.
    """

    kind: Literal["leaf", "sum", "product", "always", "one"]
    parents: list[Node] = field(default_factory=list["Node"])
    value: bool = True
    sensitive: bool = False
    cancels: bool = False


@dataclass(frozen=True)
class Entry:
    """One class of entries of one block: where, whether it is new, and what it cancels with."""

    slot: str
    index: Index
    combo: Combo
    new: bool
    cancels: Cancels
    node: Node


@dataclass(frozen=True)
class Contribution:
    """A contribution from one combination of channels to another: what Law 1 is asked of."""

    entry: Entry
    source: Node
    total: Node
    to_old: bool


ONE = Node("one")


@dataclass
class Network:
    """All nodes in the order of the forward pass, the entries, the contributions, the outputs.

    `bare` are the slots that read the residual as it is, without a norm; `plain` those that read it behind a
    norm without a tensor, with that norm ("" is the model's output, where it shows either). `unread` says of
    an index that nothing reads what its block gives.
    """

    nodes: list[Node] = field(default_factory=list[Node])
    entries: dict[tuple[str, Index, Combo], Entry] = field(
        default_factory=dict[tuple[str, Index, Combo], Entry]
    )
    paths: list[Contribution] = field(default_factory=list[Contribution])
    contractions: list[tuple[str, Index, Node]] = field(default_factory=list[tuple[str, Index, Node]])
    outputs: list[Node] = field(default_factory=list[Node])
    bare: list[str] = field(default_factory=list[str])
    plain: dict[str, Norm] = field(default_factory=dict[str, Norm])
    unread: Callable[[Index], bool] = lambda _: False

    def node(self, kind: Literal["leaf", "sum", "product", "always"], *parents: Node) -> Node:
        made = Node(kind, list(parents))
        self.nodes.append(made)
        return made

    def forward_(self) -> None:
        """Which values are non-zero."""
        for node in self.nodes:
            if node.kind == "sum":
                node.value = any(parent.value for parent in node.parents)
            elif node.kind == "product":
                node.value = not node.cancels and all(parent.value for parent in node.parents)

    def backward_(self) -> None:
        """Which values the outputs depend on."""
        for node in self.nodes:
            node.sensitive = False
        for node in self.outputs:
            node.sensitive = True
        for node in reversed(self.nodes):
            if not node.sensitive:
                continue
            zeros = [parent for parent in node.parents if not parent.value] if node.kind == "product" else []
            # Through a product a factor is seen if no other one is zero.
            for parent in node.parents if not zeros else zeros if len(zeros) == 1 else ():
                parent.sensitive = True
