"""An oracle for tests: arXiv 2308.06103 literally, section 2 in loops, section 3 in block matrices.

Nothing here is fast, and only `Config` is the library's. Each transformation of section 3 takes
`(state, config, where, size, generator)` and returns the grown `(state, config)`; the paper's M
blocks are N(0, 1) wherever a theorem leaves them free, gains included. `switch_zero=False` draws
also the blocks that the theorem wants zero, `scale=False` leaves out the scale: both break it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from isogrow.paper import Config, HeadConfig, LayerConfig

Array = NDArray[np.float64]
State = Mapping[str, Tensor]
Grown = tuple[State, Config]
Fill = Callable[..., Tensor]


# Section 2: sums and products of single numbers, indexed as in the paper.


def transformer(state: State, config: Config, i: Array) -> Array:
    """Eq 1 on one embedded input, s × h."""
    weights = {name: tensor.numpy() for name, tensor in state.items()}
    s, h = i.shape
    x = np.array([[i[t, j] + weights["positions"][t, j] for j in range(h)] for t in range(s)])
    for n in range(len(config.layers)):
        prefix = f"layers.{n}."
        layer = {k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)}
        x = _layer(layer, config, n, x)
    return _times(x, weights["out"])


def _layer(w: Mapping[str, Array], config: Config, n: int, x: Array) -> Array:
    """Eq 2."""
    x = _plus(x, _mha(w, config, n, _norm(x, w["norm_1"], config.eps)))
    return _plus(x, _mlp(w, _norm(x, w["norm_2"], config.eps)))


def _mlp(w: Mapping[str, Array], x: Array) -> Array:
    """Eq 3, the biases broadcast along the sequence."""
    s = len(x)
    inner = _plus(_times(x, w["mlp.w1"]), np.array([w["mlp.b1"]] * s))
    relu = np.array([[max(number, 0.0) for number in row] for row in inner])
    return _plus(_times(relu, w["mlp.w2"]), np.array([w["mlp.b2"]] * s))


def _mha(w: Mapping[str, Array], config: Config, n: int, x: Array) -> Array:
    """Eq 4: [H_1 … H_E] × W^O, with W^O the splits of Eq 15 below one another."""
    h_rows: list[list[float]] = [[] for _ in x]
    w_o: list[Array] = []
    for e in range(len(config.layers[n].heads)):
        q, k, v = (_times(x, w[f"heads.{e}.{name}"]) for name in ("query", "key", "value"))
        for row, h_e in zip(h_rows, _attention(q, k, v, config.causal), strict=True):
            row.extend(h_e)
        w_o.extend(w[f"heads.{e}.out"])
    return _times(np.array(h_rows), np.array(w_o))


def _attention(q: Array, k: Array, v: Array, causal: bool) -> Array:
    """Eq 4, last line; under a causal mask row t sees columns 0 … t only."""
    s, key_dim = k.shape
    rows: list[list[float]] = []
    for t in range(s):
        seen = range(t + 1 if causal else s)
        dots = [sum(q[t, c] * k[u, c] for c in range(key_dim)) for u in seen]
        exps = [math.exp(1 / math.sqrt(key_dim) * dot) for dot in dots]
        rows.append([sum(exps[u] / sum(exps) * v[u, j] for u in seen) for j in range(v.shape[1])])
    return np.array(rows)


def _norm(x: Array, g: Array, eps: float) -> Array:
    """Eq 5."""
    s, h = x.shape
    roots = [math.sqrt(1 / h * sum(x[i, c] ** 2 for c in range(h)) + eps) for i in range(s)]
    return np.array([[x[i, j] * g[j] / roots[i] for j in range(h)] for i in range(s)])


def _times(a: Array, b: Array) -> Array:
    s, inner, width = *a.shape, b.shape[1]
    dots = [[sum(a[i, c] * b[c, j] for c in range(inner)) for j in range(width)] for i in range(s)]
    return np.array(dots)


def _plus(a: Array, b: Array) -> Array:
    return np.array([[a[i, j] + b[i, j] for j in range(a.shape[1])] for i in range(len(a))])


# Section 3: each definition's block matrices, its theorem's zeros written `zero`, the rest `free`.


def mlp_expansion(
    state: State,
    config: Config,
    layer: int,
    size: int,
    generator: Generator,
    *,
    switch_zero: bool = True,
) -> Grown:
    """Section 3.1: ffn of `layer` from p to p̂ = `size`."""
    free, zero = _fills(generator, switch_zero)
    h, more = config.hidden, size - config.layers[layer].ffn
    mlp = f"layers.{layer}.mlp."
    blocks = {
        mlp + "w1": _beside(state[mlp + "w1"], free(h, more)),  # Eq 6
        mlp + "b1": _beside(state[mlp + "b1"], free(more)),  # Eq 7
        mlp + "w2": _above(state[mlp + "w2"], zero(more, h)),  # Eqs 8, 9
    }
    return {**state, **blocks}, _with_layer(config, layer, ffn=size)


def head_addition(
    state: State,
    config: Config,
    layer: int,
    size: HeadConfig,
    generator: Generator,
    *,
    switch_zero: bool = True,
) -> Grown:
    """Section 3.2: one more head of `size`, head E + 1 of `layer`."""
    free, zero = _fills(generator, switch_zero)
    h, heads = config.hidden, config.layers[layer].heads
    head = f"layers.{layer}.heads.{len(heads)}."
    blocks = {
        head + "query": free(h, size.key_dim),
        head + "key": free(h, size.key_dim),
        head + "value": free(h, size.value_dim),
        head + "out": zero(size.value_dim, h),  # Eqs 11, 12
    }
    return {**state, **blocks}, _with_layer(config, layer, heads=(*heads, size))


def heads_expansion(
    state: State,
    config: Config,
    where: tuple[int, int],
    size: int,
    generator: Generator,
    *,
    switch_zero: bool = True,
) -> Grown:
    """Section 3.3: value_dim of one (layer, head) from v to v̂ = `size`."""
    free, zero = _fills(generator, switch_zero)
    layer, e = where
    h, more = config.hidden, size - config.layers[layer].heads[e].value_dim
    head = f"layers.{layer}.heads.{e}."
    blocks = {
        head + "value": _beside(state[head + "value"], free(h, more)),  # Eq 13
        head + "out": _above(state[head + "out"], zero(more, h)),  # Eqs 14, 16
    }
    return {**state, **blocks}, _with_head(config, where, value_dim=size)


def attention_expansion(
    state: State,
    config: Config,
    where: tuple[int, int],
    size: int,
    generator: Generator,
    *,
    switch_zero: bool = True,
    scale: bool = True,
) -> Grown:
    """Section 3.4: key_dim of one (layer, head) from k to k̂ = `size`."""
    free, zero = _fills(generator, switch_zero)
    layer, e = where
    h, k = config.hidden, config.layers[layer].heads[e].key_dim
    factor = math.sqrt(size) / math.sqrt(k) if scale else 1.0
    head = f"layers.{layer}.heads.{e}."
    blocks = {
        head + "query": _beside(state[head + "query"], free(h, size - k)),  # Eq 18
        head + "key": _beside(factor * state[head + "key"], zero(h, size - k)),  # Eqs 19, 20
    }
    return {**state, **blocks}, _with_head(config, where, key_dim=size)


def hidden_expansion(
    state: State,
    config: Config,
    where: None,
    size: int,
    generator: Generator,
    *,
    switch_zero: bool = True,
    scale: bool = True,
) -> Grown:
    """Section 3.5: the hidden size of the whole model from h to ĥ = `size`.

    The paper has no ε; where there is one, the scale is also ε̂ = ε · h / ĥ, beside ĝ = g · √h / √ĥ.
    """
    free, zero = _fills(generator, switch_zero)
    h, more = config.hidden, size - config.hidden
    factor = math.sqrt(h) / math.sqrt(size) if scale else 1.0
    grown = dict(state)
    for name, old in state.items():
        match name.rpartition(".")[2]:
            case "embedding" | "positions":
                grown[name] = _beside(old, zero(len(old), more))  # Eqs 32, 37 and 22, 33
            case "norm_1" | "norm_2":
                grown[name] = _beside(factor * old, free(more))  # Eq 24
            case "w2":
                grown[name] = _beside(old, zero(len(old), more))  # Eqs 26, 34
            case "b2":
                grown[name] = _beside(old, zero(more))  # Eqs 27, 35
            case "w1" | "query" | "key" | "value":
                grown[name] = _above(old, free(more, old.shape[1]))  # Eqs 25, 28, 29, 30
            case "out" if name.startswith("layers."):
                grown[name] = _beside(old, zero(len(old), more))  # Eqs 31, 36
            case "out":
                grown[name] = _above(old, free(more, config.out))  # Eq 23
            case _:
                assert name.endswith("b1"), name
    eps = config.eps * h / size if scale else config.eps
    return grown, replace(config, hidden=size, eps=eps)


def layer_addition(
    state: State,
    config: Config,
    position: int,
    size: LayerConfig,
    generator: Generator,
    *,
    switch_zero: bool = True,
) -> Grown:
    """Section 3.6: a new layer of `size` before the old layer `position` (0 … N)."""
    free, zero = _fills(generator, switch_zero)
    h, new = config.hidden, f"layers.{position}."
    blocks = {
        new + "norm_1": free(h),
        new + "norm_2": free(h),
        new + "mlp.w1": free(h, size.ffn),
        new + "mlp.b1": free(size.ffn),
        new + "mlp.w2": zero(size.ffn, h),  # Eq 40
        new + "mlp.b2": zero(h),  # Eq 40
    }
    for e, head in enumerate(size.heads):
        blocks[new + f"heads.{e}.query"] = free(h, head.key_dim)
        blocks[new + f"heads.{e}.key"] = free(h, head.key_dim)
        blocks[new + f"heads.{e}.value"] = free(h, head.value_dim)
        blocks[new + f"heads.{e}.out"] = zero(head.value_dim, h)  # Eq 40
    moved = {_moved(name, position): old for name, old in state.items()}
    layers = (*config.layers[:position], size, *config.layers[position:])
    return {**moved, **blocks}, replace(config, layers=layers)


def _moved(name: str, position: int) -> str:
    """Def. 3.6: the index of all layers from `position` on is incremented by one."""
    if not name.startswith("layers."):
        return name
    _, n, rest = name.split(".", 2)
    return f"layers.{int(n) + (int(n) >= position)}.{rest}"


def _fills(generator: Generator, switch_zero: bool) -> tuple[Fill, Fill]:
    def free(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def zero(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64)

    return free, zero if switch_zero else free


def _beside(old: Tensor, new: Tensor) -> Tensor:
    """[A B]."""
    return torch.cat([old, new], dim=-1)


def _above(old: Tensor, new: Tensor) -> Tensor:
    """[A; B], A above B."""
    return torch.cat([old, new], dim=0)


def _with_layer(
    config: Config,
    layer: int,
    ffn: int | None = None,
    heads: tuple[HeadConfig, ...] | None = None,
) -> Config:
    layers = list(config.layers)
    old = layers[layer]
    layers[layer] = LayerConfig(ffn or old.ffn, heads or old.heads)
    return replace(config, layers=tuple(layers))


def _with_head(
    config: Config,
    where: tuple[int, int],
    key_dim: int | None = None,
    value_dim: int | None = None,
) -> Config:
    layer, e = where
    heads = list(config.layers[layer].heads)
    old = heads[e]
    heads[e] = HeadConfig(key_dim or old.key_dim, value_dim or old.value_dim)
    return _with_layer(config, layer, heads=tuple(heads))
