"""What a streamed comparison will take, told from names and shapes alone, before a weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from isogrow.plans.anatomy import Header
from isogrow.stores.shards import nbytes
from isogrow.verification.memory import (
    BESIDE,
    NUMBERED,
    TRAINED,
    largest_layer,
    shapes_of,
    training_shortage,
)
from isogrow.verification.runs import takes_one_row
from isogrow.verification.streaming.lending import ENTRIES
from isogrow.verification.streaming.opening import StreamedPair
from isogrow.verification.streaming.proof import FEW

Shapes = Mapping[str, tuple[int, ...]]
WIDE = 8  # bytes of a number in float64


@dataclass(frozen=True)
class ProofForecast:
    """Bytes: `lent` is the most of weights that the runs have at a time, `trained` a layer in training with
    its gradients (0: none is trained), `read` what is read of files at the most, as often as it is."""

    lent: int
    trained: int
    read: int

    @property
    def memory(self) -> int:
        """At the most, with what is no weight."""
        return max(self.lent, self.trained) + BESIDE

    def __str__(self) -> str:
        return f"about {self.memory / 1e9:.3g} GB of memory, and {self.read / 1e9:.3g} GB are read"

    def to_dict(self) -> dict[str, int]:
        return {"memory": self.memory, "lent": self.lent, "trained": self.trained, "read": self.read}


def foretold(
    small: Shapes,
    large: Shapes,
    files: tuple[Mapping[str, Header], Mapping[str, Header]],
    liveness: bool,
    rounds: int = 1,
) -> ProofForecast:
    """What comparing models takes whose classes have tensors of these shapes, and whose files have these.

    Files are read twice: to compare each tensor, and to run both models (in `rounds`, where they take one row
    at a time); what is read stays in the system's cache until the runs that want it have had it. Layers of
    the large one are read once more to be trained. Of a stack one matrix is here at a time, of a large matrix
    `ENTRIES` of it; a class that multiplies otherwise (GPT-2's own layers, kernels for all experts at once)
    has all of it.

    >>> up = {"h.0.up": Header((4, 3), "F32")}
    >>> foretold({"h.0.up": (2, 3)}, {"h.0.up": (4, 3)}, ({"h.0.up": Header((2, 3), "F32")}, up), False)
    ProofForecast(lent=96, trained=0, read=144)
    """
    lent = WIDE * max(map(_lent, (*small.values(), *large.values())), default=0)
    trained = int(WIDE * TRAINED * largest_layer(large)) if liveness else 0
    stored = sum(nbytes(header) for headers in files for header in headers.values())
    layers = sum(nbytes(header) for name, header in files[1].items() if NUMBERED.match(name))
    return ProofForecast(lent, trained, (1 + rounds) * stored + (layers if liveness else 0))


def foretold_of(streamed: StreamedPair, liveness: bool) -> ProofForecast:
    """The same of two models that are open; where there is no room to train a layer, none is."""
    small, large = shapes_of(streamed.pair.small), shapes_of(streamed.pair.large)
    files = streamed.small.store.headers, streamed.large.store.headers
    trained = liveness and not training_shortage(largest_layer(large))
    return foretold(small, large, files, trained, FEW[0] if takes_one_row(streamed.pair.small) else 1)


def _lent(shape: tuple[int, ...]) -> int:
    """How many entries of a tensor are here at a time."""
    return min(ENTRIES, prod(shape[-2:]))
