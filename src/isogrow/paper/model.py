"""The paper's own transformer, to be read beside section 2 of arXiv 2308.06103 (Gesmundo & Maile).

    Eq 1   T(I)      = Layer_N ∘ … ∘ Layer_1 (I + P) · W^out
    Eq 2   Layer(I)  = I' + MLP(Norm(I')),   I' = I + MHA(Norm(I))
    Eq 3   MLP(X)    = ReLU(X · W^l1 + b^l1) · W^l2 + b^l2
    Eq 4   MHA(X)    = [H_1 … H_E] · W^O,    H_e = Softmax(Q K^T / √k) · V,
                       Q = X · W^Q_e,  K = X · W^K_e,  V = X · W^V_e
    Eq 5   Norm(X)   = x_ij · g_j / √(Σ_γ x_iγ² / h)

Every weight is stored as the paper writes it, input × output, and multiplies from the right:

    paper       here                          shape
    I           rows of `embedding`           vocab × hidden       (h: hidden)
    P           `positions`                   positions × hidden
    g^MHA       `layers.n.norm_1`             hidden
    W^Q, W^K    `layers.n.heads.e.query, key` hidden × key_dim     (k: key_dim)
    W^V         `layers.n.heads.e.value`      hidden × value_dim   (v: value_dim)
    W^O_e       `layers.n.heads.e.out`        value_dim × hidden   (Eq 15: head e's rows of W^O)
    g^MLP       `layers.n.norm_2`             hidden
    W^l1, b^l1  `layers.n.mlp.w1, b1`         hidden × ffn, ffn    (p: ffn)
    W^l2, b^l2  `layers.n.mlp.w2, b2`         ffn × hidden, hidden
    W^out       `out`                         hidden × out         (o: out)

The hidden size is one for the whole model, since skip connections add along it. All else may
differ: ffn and the number of heads from layer to layer, key_dim and value_dim from head to head.
Two options go beyond the paper and are off by default: an ε under the root of Eq 5, and a causal
mask in Eq 4.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from isogrow.errors import CheckpointError, SizeError


def norm(x: Tensor, gain: Tensor, eps: float = 0.0) -> Tensor:
    """Eq 5: every row of `x` divided by its root mean square, times the gain.

    Norm(X)_ij = x_ij · g_j / √(Σ_γ x_iγ² / h + ε) (arXiv 2308.06103, Eq 5, where ε = 0).
    `x`: (…, s, hidden), `gain`: (hidden). With ε = 0 a row of zeros becomes NaN, as 0/0 should.

    >>> norm(torch.tensor([[3.0, -3.0]]), gain=torch.tensor([1.0, 2.0]))
    tensor([[ 1., -2.]])
    """
    mean_square = x.square().mean(dim=-1, keepdim=True)
    return x * gain / (mean_square + eps).sqrt()


def attention(query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    """Eq 4, third line: each position's mean of the values, weighted by query · key.

    Attention(Q, K, V) = Softmax(Q K^T / √k) · V (arXiv 2308.06103, Eq 4, which has no mask).
    `query`, `key`: (…, s, k), `value`: (…, s, v). `causal` hides later positions.

    >>> value = torch.tensor([[1.0], [3.0]])
    >>> attention(torch.zeros(2, 4), torch.zeros(2, 4), value, causal=True)
    tensor([[1.],
            [2.]])
    """
    scores = query @ key.transpose(-1, -2) / math.sqrt(key.shape[-1])
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return scores.softmax(dim=-1) @ value


@dataclass(frozen=True)
class HeadConfig:
    """The sizes of one attention head: k (`key_dim`) and v (`value_dim`)."""

    key_dim: int
    value_dim: int

    def __post_init__(self) -> None:
        _require_positive("HeadConfig", key_dim=self.key_dim, value_dim=self.value_dim)


@dataclass(frozen=True)
class LayerConfig:
    """The sizes of one layer: p (`ffn`), and those of its E heads."""

    ffn: int
    heads: tuple[HeadConfig, ...]

    def __post_init__(self) -> None:
        _require_positive("LayerConfig", ffn=self.ffn, heads=len(self.heads))


@dataclass(frozen=True)
class Config:
    """All sizes of a `Transformer`, and its two options; raises `SizeError` for a size below 1.

    >>> layer = LayerConfig(ffn=7, heads=(HeadConfig(2, 3), HeadConfig(4, 5)))
    >>> config = Config(vocab=11, positions=8, hidden=6, out=9, layers=(layer,))
    >>> Config.from_dict(config.to_dict()) == config
    True
    """

    vocab: int
    positions: int
    hidden: int
    out: int
    layers: tuple[LayerConfig, ...]
    eps: float = 0.0
    causal: bool = False

    def __post_init__(self) -> None:
        sizes = {"vocab": self.vocab, "positions": self.positions}
        _require_positive("Config", **sizes, hidden=self.hidden, out=self.out)
        if not 0 <= self.eps < math.inf:
            raise SizeError(f"Config: eps is {self.eps}; give 0 (the paper's) or more.")

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON has it: dicts, lists, numbers and booleans only."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Config:
        """The inverse of `to_dict`; raises `CheckpointError` for a missing or unknown key."""
        known = _known(cls, data)
        known["layers"] = tuple(_layer(layer) for layer in known["layers"])
        return cls(**known)


class Head(nn.Module):
    """One head e and its split of W^O."""

    def __init__(self, hidden: int, config: HeadConfig) -> None:
        super().__init__()
        self.query = _weight(hidden, config.key_dim)
        self.key = _weight(hidden, config.key_dim)
        self.value = _weight(hidden, config.value_dim)
        self.out = _weight(config.value_dim, hidden)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        h_e = attention(x @ self.query, x @ self.key, x @ self.value, causal)  # Eq 4, second line
        return h_e @ self.out


class MLP(nn.Module):
    """The multi layer perceptron."""

    def __init__(self, hidden: int, ffn: int) -> None:
        super().__init__()
        self.w1, self.b1 = _weight(hidden, ffn), _weight(ffn)
        self.w2, self.b2 = _weight(ffn, hidden), _weight(hidden)

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.w1 + self.b1).relu() @ self.w2 + self.b2  # Eq 3


class Layer(nn.Module):
    """One transformer layer n."""

    def __init__(self, hidden: int, config: LayerConfig) -> None:
        super().__init__()
        self.norm_1 = _weight(hidden)
        self.heads = nn.ModuleList(Head(hidden, head) for head in config.heads)
        self.norm_2 = _weight(hidden)
        self.mlp = MLP(hidden, config.ffn)

    def mha(self, x: Tensor, causal: bool) -> Tensor:
        # Eq 4, first line, in the splits of W^O (Eq 15): [H_1 … H_E] · W^O = Σ_e H_e · W^O_e
        return torch.stack([head(x, causal) for head in self.heads]).sum(dim=0)

    def forward(self, x: Tensor, eps: float, causal: bool) -> Tensor:
        x = x + self.mha(norm(x, self.norm_1, eps), causal)  # Eq 2, second line: I'
        return x + self.mlp(norm(x, self.norm_2, eps))  # Eq 2, first line


class Transformer(nn.Module):
    """The paper's transformer: no norm after the last layer, no bias on W^out.

    T(I) = Layer_N ∘ … ∘ Layer_1 (I + P) · W^out (arXiv 2308.06103, Eq 1).
    Takes token ids (…, s), or an input I (…, s, hidden) that is embedded already, with s up to
    `config.positions` (`SizeError` beyond); returns (…, s, out). Weights are zero until `init_` or
    `load_state_dict` fills them.

    >>> config = Config(11, 8, 6, 9, layers=(LayerConfig(7, (HeadConfig(2, 3),)),))
    >>> model = init_(Transformer(config), torch.Generator().manual_seed(0))
    >>> model(torch.tensor([[1, 10, 4]])).shape
    torch.Size([1, 3, 9])
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = _weight(config.vocab, config.hidden)
        self.positions = _weight(config.positions, config.hidden)
        self.layers = nn.ModuleList(Layer(config.hidden, layer) for layer in config.layers)
        self.out = _weight(config.hidden, config.out)

    def embed(self, tokens: Tensor) -> Tensor:
        """I: each token's row of the embedding; a floating-point input is taken for I itself."""
        if tokens.is_floating_point():
            return tokens
        return functional.embedding(tokens, self.embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        i = self.embed(tokens)
        _require_fits(i, self.config)
        x = i + self.positions[: i.shape[-2]]  # Eq 1: I + P
        for layer in self.layers:
            x = layer(x, self.config.eps, self.config.causal)
        return x @ self.out  # Eq 1: · W^out


def init_(model: Transformer, generator: torch.Generator) -> Transformer:
    """Fill every weight of `model` with random numbers from `generator`, and return it.

    Embedding and positions ~ N(0, 1), matrices ~ N(0, 1 / rows) so that activations keep their
    size, biases ~ N(0, 0.1²), gains ~ N(1, 0.1²). Drawn in float64 by a CPU generator and rounded
    once, so that one seed means one model whatever its dtype and device.

    >>> config = Config(11, 8, 6, 9, layers=(LayerConfig(7, (HeadConfig(2, 3),)),))
    >>> a, b = (init_(Transformer(config), torch.Generator().manual_seed(3)) for _ in range(2))
    >>> torch.equal(a.out, b.out)
    True
    """
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        mean, std = _distribution(name.rpartition(".")[2], rows=weight.shape[0])
        weight.data.copy_(mean + std * noise)
    return model


def _distribution(name: str, rows: int) -> tuple[float, float]:
    """Mean and standard deviation of the weight called `name`."""
    match name:
        case "embedding" | "positions":
            return 0.0, 1.0
        case "norm_1" | "norm_2":
            return 1.0, 0.1
        case "b1" | "b2":
            return 0.0, 0.1
        case _:
            return 0.0, rows**-0.5


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


def _layer(data: Mapping[str, Any]) -> LayerConfig:
    known = _known(LayerConfig, data)
    known["heads"] = tuple(HeadConfig(**_known(HeadConfig, head)) for head in known["heads"])
    return LayerConfig(**known)


def _known(owner: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `data`, if its keys are those of the dataclass `owner`."""
    required = {field.name for field in fields(owner) if field.default is MISSING}
    missing = sorted(required - set(data))
    unknown = sorted(set(data) - {field.name for field in fields(owner)})
    if missing or unknown:
        wrong = f"misses {', '.join(missing)}" if missing else f"has unknown {', '.join(unknown)}"
        keys = ", ".join(field.name for field in fields(owner))
        raise CheckpointError(f"The reference {owner.__name__} {wrong}; its keys are {keys}.")
    return dict(data)


def _require_positive(owner: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise SizeError(f"{owner}: {name} is {size}; give 1 or more.")


def _require_fits(i: Tensor, config: Config) -> None:
    s, hidden = i.shape[-2:]
    if hidden != config.hidden:
        raise SizeError(f"The embedded input is {hidden} wide; give {config.hidden} (hidden).")
    if s > config.positions:
        raise SizeError(f"The input is {s} positions long; give at most {config.positions}.")
