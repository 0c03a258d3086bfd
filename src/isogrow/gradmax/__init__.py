"""GradMax: new units whose switches get the largest gradients on some data (arXiv 2201.05125).

    isogrow.grow_(model, optimizer=optimizer, init=isogrow.GradMax(batches), ffn="x2", heads=8)

The paper leaves a new unit's incoming weights zero and chooses its outgoing ones; here what reads a unit is
the zero switch, and what makes it is chosen, by the same matrix transposed. Where r is the row of a new unit
and z its switch, and all else is as it is,

    ∂L/∂z = M r

with one M for all units that differ in nothing else. Of orthogonal rows of one norm the right singular
vectors of M with the largest singular values σ have the largest gradients: Σ |M r|² = |r|² Σ σ². Where units
of one block have matrices of their own, each takes the best row that is orthogonal to those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from isogrow.errors import IsogrowError
from isogrow.gradmax.fitting import NAME, Chosen, Fitted, fit
from isogrow.gradmax.probing import Loss
from isogrow.plans.plan import Plan


def loss_of(model: Any, batch: Any) -> Tensor:
    """The loss of a Hugging Face model on a batch by name."""
    if not isinstance(batch, Mapping):
        raise IsogrowError(
            f"a batch that GradMax was given is {type(batch).__name__}, and a mapping that the model takes"
            " was expected: give such batches, or loss=, a function (model, batch) -> loss"
        )
    return model(**batch).loss


@dataclass(frozen=True)
class GradMax:
    """An initializer that looks at `batches`: anything that `loss(model, batch)` takes.

    By default a batch is a mapping with labels, and the loss the model's own. `tell` is told what was chosen.
    """

    batches: Iterable[Any]
    loss: Loss = loss_of
    tell: Callable[[Fitted], None] | None = None
    name: str = field(default=NAME, init=False)

    def __post_init__(self) -> None:
        if isinstance(self.batches, Mapping | Tensor):
            raise IsogrowError("GradMax was given a batch where batches were expected: give a list, [batch]")
        given: Any = self.batches
        if not isinstance(given, Iterable):
            raise IsogrowError(
                f"GradMax was given {type(given).__name__} where batches were expected: give a list of what"
                " the loss takes"
            )
        object.__setattr__(self, "batches", tuple(self.batches))
        if not self.batches:
            raise IsogrowError(
                "GradMax was given no batches, so there is no gradient to look at: give it some"
            )

    def fitted(self, model: nn.Module, plan: Plan) -> Fitted:
        """The numbers for this model and plan, as an initializer."""
        found = fit(model, plan, tuple(self.batches), self.loss)
        if self.tell is not None:
            self.tell(found)
        return found


__all__ = ["NAME", "Chosen", "Fitted", "GradMax"]
