"""What stands before and after the layers: embeddings, norms on them, the last norm, the head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from isogrow.drafting.fitting import OWN
from isogrow.drafting.norms import Measured, measured
from isogrow.drafting.samples import Sample
from isogrow.drafting.tracing import Call, Trace, mark
from isogrow.errors import FamilyError
from isogrow.layouts.layout import Bias, Norm, Weight

CLOSE = 1e-9


@dataclass(frozen=True)
class Outside:
    """The rows before the layers and after them. `norms` are the paths of their norms, by slot. What begins
    with one of `carried` is no row's, and stays."""

    prefix: str
    before: tuple[Weight, ...]
    after: tuple[Weight, ...]
    fixed: tuple[str, ...] = ()
    norms: dict[str, str] = field(default_factory=dict[str, str])
    carried: tuple[str, ...] = ()
    refusals: dict[str, str] = field(default_factory=dict[str, str])


def outside(sample: Sample) -> Outside:
    """The rows outside of the layers. Raises `FamilyError` for a module that has no role that is known."""
    trace = sample.trace
    named = getattr(trace.model, "base_model_prefix", "")
    prefix = f"{named}." if named and hasattr(trace.model, named) else ""
    calls = list(trace.outside())
    tables = [call for call in calls if isinstance(call.module, nn.Embedding)]
    if trace.ids is None:
        raise FamilyError("it reads no token ids")
    rows, values = _tables(tables, trace.ids, prefix)
    norms: dict[str, str] = {}
    start, first = trace.inputs[0], [*values]
    before: list[Weight] = [*rows]
    after: list[Weight] = []
    last = trace.outputs[-1]
    reads = {mark(last)}
    transform = ""
    for call in (call for call in calls if call not in tables):
        norm = measured(call.module, call.given.shape[-1])
        read = mark(call.given) in reads
        if norm is not None and mark(call.made) == mark(start):
            before.append(_norm("embed_norm", "post", call, norm, prefix))
            norms["embed_norm"], start = call.path, call.given
        elif norm is not None and read:
            after.append(_norm("final_norm", "pre", call, norm, prefix))
            norms["final_norm"] = call.path
            reads.add(mark(call.made))
        elif norm is not None and transform:
            after.append(_transform_norm(call, norm))
            norms["transform_norm"] = call.path
        elif isinstance(call.module, nn.Linear) and (read or transform) and _logits(call, sample):
            after.extend(_head(call, sample, "" if read else "transform"))
        elif isinstance(call.module, nn.Linear) and read and not transform:
            after.append(_transform(call))
            transform = call.path
        elif not _only_a_bias(call.module):
            kind = type(call.module).__name__
            raise FamilyError(f"{call.path} is a {kind} outside of the layers, with no role")
    times = _times(start, first, [row.slot for row in rows])
    before = [_scaled(row, times) for row in before]
    _check_whole(sample, calls)
    return Outside(
        prefix, tuple(before), tuple(after), tuple(r.slot for r in rows if r.slot == "types"), norms
    )


def beside(sample: Sample, why: str) -> Outside:
    """What stands around the layers, carried along as it is: the width of the layers stays, too.

    One tensor as wide as the residual stands for all that writes to it first.
    """
    trace = sample.trace
    named = getattr(trace.model, "base_model_prefix", "")
    prefix = f"{named}." if named and hasattr(trace.model, named) else ""
    around = {
        name: tuple(value.shape)
        for name, value in trace.model.state_dict().items()
        if not name.startswith(f"{trace.layers}.")
    }
    first = _embedding(around, trace, prefix)
    names = (first.name, prefix + first.name)
    rest = [name for name in around if name not in names]
    found = {part for name in rest for part in (_topmost(name, (*names, f"{trace.layers}.")),)}
    bare = {part.removeprefix(prefix) for part in found if part.startswith(prefix)}
    said = f"what stands around its layers was not told ({why}), so that their width stays"
    return Outside(prefix, (first,), (), carried=tuple(sorted(found | bare)), refusals={"hidden": said})


def _embedding(around: dict[str, tuple[int, ...]], trace: Trace, prefix: str) -> Weight:
    """A row that writes to the residual before the layers: the ids' embedding, or what is as wide."""
    width = trace.inputs[0].shape[-1]
    tables = {
        f"{call.path}.weight": call for call in trace.outside() if isinstance(call.module, nn.Embedding)
    }
    for name, call in tables.items():
        if _looks_up(call, trace.ids) and around[name][-1] == width:
            return Weight(name.removeprefix(prefix), f"{OWN}ids -> hidden", "embed")
    for name, shape in around.items():
        if len(shape) > 1 and shape[0] == width:
            axes = " ".join(f"{OWN}first_{i}" for i in range(1, len(shape)))
            return Weight(name.removeprefix(prefix), f"hidden <- {axes}", "embed")
    raise FamilyError("nothing before its layers is as wide as they are")


def _looks_up(call: Call, ids: Tensor | None) -> bool:
    return ids is not None and call.given.shape == ids.shape and bool((call.given == ids).all())


def _topmost(name: str, inside: tuple[str, ...]) -> str:
    """The outermost module around a tensor that holds none of the names `inside`."""
    parts = name.split(".")
    for count in range(1, len(parts)):
        start = ".".join(parts[:count]) + "."
        if not any(each.startswith(start) for each in inside):
            return start
    return name


def _tables(tables: Sequence[Call], ids: Tensor, prefix: str) -> tuple[list[Weight], list[Tensor]]:
    """The embeddings, that of the ids first, and what each gives before any factor."""
    found: list[tuple[Weight, Tensor]] = []
    for call in tables:
        weight = call.module.get_parameter("weight")
        name = f"{call.path}.weight".removeprefix(prefix)
        if _looks_up(call, ids):
            slot, axes = "embed", "vocab -> hidden"
        elif weight.shape[0] <= 4 and not call.given.is_floating_point():
            slot, axes = "types", "types -> hidden"
        else:
            slot, axes = "positions", "positions -> hidden"
        if any(row.slot == slot for row, _ in found):
            raise FamilyError(f"{call.path} is a second embedding of {slot}")
        found.append((Weight(name, axes, slot), _looked_up(call, weight)))
    found.sort(key=lambda pair: pair[0].slot != "embed")
    if not found or found[0][0].slot != "embed":
        raise FamilyError("no embedding reads the token ids")
    return [row for row, _ in found], [value for _, value in found]


def _looked_up(call: Call, weight: Tensor) -> Tensor:
    """What a table gives, without a factor: its own rows where it is asked for rows."""
    if call.given.dtype in (torch.int64, torch.int32) and call.made.shape == (
        *call.given.shape,
        weight.shape[-1],
    ):
        given = call.given.clamp(0, weight.shape[0] - 1)
        plain = weight.detach()[given]
        ratio = (plain * call.made).sum() / plain.square().sum()
        if torch.allclose(ratio * plain, call.made, rtol=0, atol=1e-9 * float(call.made.abs().max())):
            return plain
    return call.made


def _times(start: Tensor, values: Sequence[Tensor], slots: Sequence[str]) -> dict[str, str]:
    """What the model multiplies each embedding by, where that depends on the width."""
    wide = [value.expand(start.shape).flatten() for value in values]
    found = torch.linalg.lstsq(torch.stack(wide, 1), start.flatten()[:, None]).solution
    if not torch.allclose(
        torch.stack(wide, 1) @ found, start.flatten()[:, None], rtol=0, atol=1e-8 * float(start.abs().max())
    ):
        raise FamilyError("the first layer does not read a sum of the embeddings")
    root = start.shape[-1] ** 0.5
    shares = dict(zip(slots, (float(v) for v in found[:, 0]), strict=True))
    return {slot: "hidden ** 0.5" for slot, share in shares.items() if abs(share - root) < 1e-6 * root}


def _scaled(row: Weight, times: dict[str, str]) -> Weight:
    return replace(row, times=times[row.slot]) if row.slot in times else row


def _norm(slot: str, where: str, call: Call, norm: Measured, prefix: str) -> Weight:
    path = call.path.removeprefix(prefix)
    said = Norm(norm.kind, cast(Any, where), eps=norm.eps, offset=norm.offset)
    if not norm.gain:
        return Weight(path, "* hidden", slot, said, stored=False)
    return Weight(f"{path}.{norm.gain}", "* hidden", slot, said, Bias() if norm.shift else None)


def _logits(call: Call, sample: Sample) -> bool:
    return call.module.get_parameter("weight").shape[0] == sample.config["vocab_size"]


def _only_a_bias(module: nn.Module) -> bool:
    """Whether a module holds nothing itself but a bias, which is its decoder's."""
    return [name for name, _ in module.named_parameters(recurse=False)] == ["bias"]


def _transform(call: Call) -> Weight:
    """A projection between the last layer and the decoder."""
    made, read = call.module.get_parameter("weight").shape
    if made != read:
        raise FamilyError(f"{call.path} reads the last layer, and gives neither logits nor as many channels")
    has = any(name == "bias" for name, _ in call.module.named_parameters(recurse=False))
    bias = Bias() if has else None
    return Weight(
        f"{call.path}.weight", "transform <- hidden", "transform", bias=bias, required=False, head=True
    )


def _transform_norm(call: Call, norm: Measured) -> Weight:
    said = Norm(norm.kind, "inner", eps=norm.eps, of="transform", offset=norm.offset)
    return Weight(
        f"{call.path}.{norm.gain}", "* transform", "transform_norm", said, Bias() if norm.shift else None,
        required=False, head=True,
    )  # fmt: skip


def _head(call: Call, sample: Sample, read: str) -> Iterator[Weight]:
    """The head's row; it is tied to the embedding where the config says so. A decoder's bias may have a
    second name, beside the decoder."""
    names = dict(sample.model.named_parameters(remove_duplicate=False))
    own = f"{call.path}.bias"
    owner = call.path.rpartition(".")[0]
    other = f"{owner}.bias" if owner else ""
    slot = "decoder" if read else "head"
    twice = own in names and other in names
    bias = Bias(tied=f"{slot}.own_bias") if twice else Bias() if own in names else None
    yield Weight(
        f"{call.path}.weight", f"vocab <- {read or 'hidden'}", slot, bias=bias,
        required=False, head=True, tied="embed",
    )  # fmt: skip
    if twice:
        yield Weight(other, "-> vocab", f"{slot}.own_bias", required=False, head=True)


def _check_whole(sample: Sample, calls: Sequence[Call]) -> None:
    """Every parameter outside of the layers belongs to a module that was seen, and there is a head."""
    held = {id(value) for call in calls for value in call.module.parameters(recurse=False)}
    for name, value in sample.model.named_parameters():
        if not name.startswith(f"{sample.trace.layers}.") and id(value) not in held:
            raise FamilyError(f"{name} is read by no module that was seen")
