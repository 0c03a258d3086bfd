"""The config that a GGUF file's metadata stand for: every key that could change what the model computes is
read, or the file is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite, pi
from typing import Any

import numpy as np

from isogrow.errors import CheckpointError
from isogrow.layouts.config import edited, get
from isogrow.layouts.formula import evaluate
from isogrow.stores.gguf.architectures import Architecture, Key
from isogrow.stores.gguf.file import File

Factors = np.ndarray[Any, np.dtype[np.float32]]
ABOUT = ("GGUF.", "general.", "tokenizer.", "split.", "quantize.")  # how keys begin that say no sizes
TOKENS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
FACTORS = "rope_freqs.weight"
LAYER = re.compile(r"(?<=^blk\.)\d+(?=\.)")
# What Llama 3.1 and 3.2 have beside the factor; a file holds what came of it alone.
LOW, HIGH, CONTEXT = 1.0, 4.0, 8192
LLAMA3 = {"low_freq_factor": LOW, "high_freq_factor": HIGH, "original_max_position_embeddings": CONTEXT}


def config_of(file: File, known: Architecture, tied: bool, dtype: str) -> dict[str, Any]:
    """The config.json of the model in a file. Raises `CheckpointError` for a key that is not known, or that
    contradicts the others."""
    stated = {
        name.removeprefix(f"{known.name}."): value
        for name, value in file.said.items()
        if not name.startswith(ABOUT)
    }
    config: dict[str, Any] = {
        "architectures": [known.class_name],
        "model_type": known.model_type,
        "dtype": dtype,
        "vocab_size": file.entries["token_embd.weight"].shape[0],
        "tie_word_embeddings": tied,
        **{key: file.said.get(f"tokenizer.ggml.{name}_token_id") for key, name in TOKENS.items()},
        **_biases(file, known),
    }
    config = edited(config, known.fixed)
    for key in known.keys:
        config = edited(config, _stated(file, key, stated.pop(key.key, None), config))
    for path, formula in known.made.items():
        config = edited(config, {path: evaluate(formula, config)})
    layers = range(_layers(file))
    lists = {name: [evaluate(f, {"i": i}) for i in layers] for name, f in known.lists.items()}
    _check_rest(file, known, stated, config)
    return edited(config | lists, _frequencies(file, known, config))


def _stated(file: File, key: Key, value: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """What one key of the metadata says in a config."""
    if value is None:
        if key.default == "":
            raise CheckpointError(
                f"{file.path.name} has no {file.architecture}.{key.key}, which {file.architecture} models"
                " need: convert it again"
            )
        return {} if key.default is None else {key.path: evaluate(key.default, config)}
    if isinstance(value, list | tuple):
        raise CheckpointError(
            f"{file.path.name} has {file.architecture}.{key.key} layer by layer, and {config['model_type']}"
            " models have it once: give the model that it was made from"
        )
    if key.values and value not in key.values:
        raise CheckpointError(
            f"{file.path.name} has {file.architecture}.{key.key} {value!r}, and only"
            f" {' or '.join(key.values)} is read exactly: give the model that it was made from"
        )
    return {key.path: key.values[value] if key.values else _shortest(_number(file, key, value))}


def _number(file: File, key: Key, value: Any) -> float:
    """A value that has to be a number, and is one that may be."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if not number or value < 0 or value == 0 and isinstance(value, int):
        raise CheckpointError(
            f"{file.path.name} has {file.architecture}.{key.key} {value!r:.40}, where a number above 0"
            " belongs: convert it again"
        )
    return value


def _layers(file: File) -> int:
    """How many layers the metadata say, which has to be how many there are."""
    said = file.said[f"{file.architecture}.block_count"]
    held = max((int(found[0]) for name in file.entries if (found := LAYER.search(name))), default=-1) + 1
    if said != held:
        raise CheckpointError(
            f"{file.path.name} has {file.architecture}.block_count {said}, and tensors of {held} layers:"
            " fetch it again"
        )
    return held


def _biases(file: File, known: Architecture) -> dict[str, bool]:
    """The config keys that say which tensors have biases. Raises `CheckpointError` for a file in which some
    of those have one that no key tells from the others."""
    ending = {
        end: {n.removesuffix(end) for n in file.entries if n.endswith(end)} for end in (".weight", ".bias")
    }
    biased = {LAYER.sub("{}", stem) for stem in ending[".bias"]}
    flags = {key: not biased.isdisjoint(stems) for key, stems in known.flags.items()}
    wanted = {*known.biased, *(stem for key, stems in known.flags.items() if flags[key] for stem in stems)}
    for stem in sorted(ending[".weight"] | ending[".bias"]):
        has = stem in ending[".bias"]
        if has != (LAYER.sub("{}", stem) in wanted):
            raise CheckpointError(
                f"{file.path.name} has {'' if has else 'no '}{stem}.bias, and {known.model_type} models have"
                f" {'none there' if has else 'one there beside the others'}: give the model that the file was"
                " made from"
            )
    return flags


def _shortest(value: Any) -> Any:
    """A number that the file has in float32 as it was written before it was rounded to that.

    >>> _shortest(float(np.float32(1e-6)))
    1e-06
    """
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _check_rest(
    file: File, known: Architecture, stated: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    """Refuse keys that nothing reads, unless they say what the config says anyway."""
    for name, value in stated.items():
        formula = known.must.get(name)
        if formula is None:
            raise CheckpointError(
                f"{file.path.name} has {name} {value!r:.40}, which isogrow does not know of {known.name}"
                " models, and it may change what they compute: give the model that the file was made from"
            )
        if value != (wanted := evaluate(formula, config)):
            raise CheckpointError(
                f"{file.path.name} has {known.name}.{name} {value!r:.40}, where {config['model_type']} models"
                f" have {wanted}: give the model that the file was made from"
            )


def _frequencies(file: File, known: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config says of rotary frequencies that a file has factors for: Llama 3's are known again by
    computing them, others are refused."""
    entry = file.entries.get(FACTORS)
    if entry is None:
        return {}
    if entry.word != "F32":
        raise CheckpointError(f"{file.path.name} has {FACTORS} in {entry.word}, not in F32: convert it again")
    held = np.memmap(file.path, np.float32, "r", entry.start, entry.shape)
    factor = float(np.max(held))
    if np.all(held == 1):
        return {}
    theta = get(config, f"{known.llama3}.rope_theta") if known.llama3 else None
    if theta is None or not _alike(held, llama3_factors(theta, int(config["head_dim"]), factor)):
        raise CheckpointError(
            f"{file.path.name} has rotary frequencies of its own ({FACTORS}), which are not Llama 3's, and a"
            " config can't be made of them: give the model that the file was made from"
        )
    said = {"rope_type": "llama3", "factor": factor, **LLAMA3}
    return {f"{known.llama3}.{name}": value for name, value in said.items()}


def _alike(held: Factors, made: Factors) -> bool:
    """Whether two lists of factors come of the same numbers: each is computed in float32, by another
    library's powers, and the factors of other numbers lie apart by percents."""
    return held.shape == made.shape and bool(np.allclose(held, made, rtol=1e-5, atol=0.0))


def llama3_factors(theta: float, head_dim: int, factor: float) -> Factors:
    """By what llama.cpp's converter has each rotary frequency divided, for Llama 3's way to turn slower:
    1 where a wave is short, `factor` where it is long, and between them by how long it is."""
    waves = 2 * pi * np.float32(theta) ** (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim))
    smooth = (CONTEXT / waves.astype(np.float64) - LOW) / (HIGH - LOW)
    between = 1 / ((1 - smooth) / factor + smooth)
    short, long = waves < CONTEXT / HIGH, waves > CONTEXT / LOW
    return np.where(short, 1.0, np.where(long, factor, between)).astype(np.float32)
