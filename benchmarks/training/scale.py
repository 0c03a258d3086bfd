"""How large the models of a course are, what their batches hold, and where they are computed.

A process works at one scale: the core's, if none is chosen.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

Sizes = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, eq=False)
class Scale:
    """Sizes by name; a batch is `rows` of `length` bytes; losses are those of so many held-out rows.

    `packages`: the text is that of installed packages, too. `bf16`: matrices are multiplied in bfloat16 in
    training, not where a loss is looked at. `side_by_side`: how many runs share the device.
    """

    sizes: Sizes
    head_dim: int
    rows: int
    length: int
    held_rows: int = 192
    final_rows: int = 1024
    packages: bool = False
    device: str = "cpu"
    bf16: bool = False
    compiled: bool = False
    side_by_side: int = 2

    @property
    def bytes(self) -> int:
        """How many bytes a step sees."""
        return self.rows * self.length


def sizes(hidden: int, ffn: int, heads: int, layers: int) -> dict[str, int]:
    return dict(hidden=hidden, ffn=ffn, heads=heads, kv_heads=heads, layers=layers)


# Parameters beside embeddings are in the comments. "narrow" is half of "large" in every width, since
# tiling can only double; "shallow" and "flat" lack depth alone.
CORE: Sizes = {
    "large": sizes(96, 256, 6, 4),  # 442k
    "middle": sizes(80, 216, 5, 3),  # 232k
    "small": sizes(64, 172, 4, 2),  # 99k
    "tiny": sizes(48, 128, 3, 2),  # 55k
    "narrow": sizes(48, 128, 3, 4),  # 111k
    "shallow": sizes(96, 256, 6, 2),  # 221k
    "flat": sizes(96, 256, 6, 1),  # 111k
}
DEVICE: Sizes = {
    "large": sizes(384, 1280, 12, 6),  # 12.4M
    "middle": sizes(320, 864, 10, 5),  # 6.2M
    "small": sizes(256, 688, 8, 4),  # 3.2M
    "narrow": sizes(192, 640, 6, 6),  # 3.1M
    "shallow": sizes(384, 1280, 12, 3),  # 6.2M
    "flat": sizes(384, 1280, 12, 1),  # 2.1M
}
LARGER: Sizes = {
    "large": sizes(768, 2560, 12, 14),  # 116M
    "middle": sizes(640, 1728, 10, 12),  # 59M
    "small": sizes(512, 1376, 8, 10),  # 32M
    "narrow": sizes(384, 1280, 6, 14),  # 29M
    "shallow": sizes(768, 2560, 12, 7),  # 58M
    "flat": sizes(768, 2560, 12, 3),  # 25M
}
SCALES: Mapping[str, Scale] = {
    "core": Scale(CORE, head_dim=16, rows=8, length=64),
    "device": Scale(
        DEVICE, 32, 64, 256, packages=True, device="cuda", bf16=True, compiled=True, side_by_side=5
    ),
    "larger": Scale(
        LARGER, 64, 64, 256, packages=True, device="cuda", bf16=True, compiled=True, side_by_side=2
    ),
}
_chosen = [SCALES["core"]]


def scale() -> Scale:
    """The scale of this process."""
    return _chosen[-1]


def choose(given: Scale) -> None:
    """From now on this process works at this scale."""
    _chosen[-1] = given


@contextmanager
def chosen(given: Scale) -> Generator[None]:
    """This process works at this scale for a while."""
    _chosen.append(given)
    try:
        yield
    finally:
        _chosen.pop()


def halved(given: Scale) -> Scale:
    """The same with half of every width."""
    halves = {
        name: {**own, **{key: own[key] // 2 for key in ("hidden", "ffn")}}
        for name, own in given.sizes.items()
    }
    return replace(given, sizes=halves, head_dim=given.head_dim // 2)
