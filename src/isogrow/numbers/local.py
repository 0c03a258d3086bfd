"""What this process holds of a tensor: all of it, or its own part of one that is sharded (a DTensor)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from isogrow.errors import StateError
from isogrow.plans.pieces import Box, whole
from isogrow.plans.spread import Cut, local_box

SHARDED = "DTensor"  # known by name, so that nobody who has none loads torch.distributed.tensor


def is_sharded(x: object) -> bool:
    """Whether a tensor is spread over the ranks of a mesh."""
    return type(x).__name__ == SHARDED


def local_of(x: Tensor) -> Tensor:
    """This process's part, without a copy and without gradient: writing to it writes to the tensor."""
    own: Any = x
    return (own.to_local() if is_sharded(x) else x).detach()


def box_of(x: Tensor) -> Box:
    """The region of the whole tensor that `local_of` is.

    torch's own offsets are wrong where a dim is cut twice into uneven parts, so it is worked out here, and
    must have the shape of what is there. Raises `StateError` for a process that the mesh leaves out.
    """
    if not is_sharded(x):
        return whole(tuple(x.shape))
    own: Any = x
    mesh = own.device_mesh
    cuts, at = [_cut(placement) for placement in own.placements], mesh.get_coordinate()
    if at is None:
        raise StateError(
            f"parameters lie on ranks {mesh.mesh.flatten().tolist()} alone, and this is none of them:"
            " all ranks of the default process group grow together, so spread the model over all of them,"
            " or start as many as hold it"
        )
    box = local_box(tuple(x.shape), tuple(mesh.shape), tuple(at), cuts)
    found = tuple(own.to_local().shape)
    assert tuple(map(len, box)) == found, f"{list(x.shape)} as {own.placements}: {box} is not {list(found)}"
    return box


def parts_of(x: Tensor) -> dict[int, int]:
    """How many parts each dim is cut into that a mesh cuts."""
    own: Any = x
    found: dict[int, int] = {}
    for placement, count in zip(own.placements, own.device_mesh.shape, strict=True) if is_sharded(x) else ():
        if hasattr(placement, "dim"):
            found[placement.dim] = found.get(placement.dim, 1) * count
    return found


def _cut(placement: Any) -> Cut:
    """What a placement does to a tensor."""
    if placement.is_replicate():
        return Cut()
    kind = type(placement).__name__
    assert kind in ("Shard", "_StridedShard"), f"a parameter is placed {placement}, which is no shard of it"
    return Cut(int(placement.dim), late=kind == "_StridedShard")
