"""What dtypes are called, and how wide their numbers are: safetensors' words and torch's names, in one table.

A header speaks safetensors' words (`BF16`), so that headers are read without torch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# safetensors' word -> (torch's name, bits); the last two have no dtype in torch
TABLE = {
    "F64": ("float64", 64), "F32": ("float32", 32), "F16": ("float16", 16), "BF16": ("bfloat16", 16),
    "BOOL": ("bool", 8), "U8": ("uint8", 8), "I8": ("int8", 8), "I16": ("int16", 16), "I32": ("int32", 32),
    "I64": ("int64", 64), "U16": ("uint16", 16), "U32": ("uint32", 32), "U64": ("uint64", 64),
    "C64": ("complex64", 64),
    "F8_E4M3": ("float8_e4m3fn", 8), "F8_E5M2": ("float8_e5m2", 8), "F8_E8M0": ("float8_e8m0fnu", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8), "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F4": ("float4_e2m1fn_x2", 4), "F6_E2M3": ("", 6), "F6_E3M2": ("", 6),
}  # fmt: skip

BITS = {word: bits for word, (_, bits) in TABLE.items()}
WORDS = {name: word for word, (name, _) in TABLE.items() if name}  # torch's name -> safetensors' word
GROWN = ("float32", "float16", "bfloat16", "float64")  # torch's names of what can be grown


def torch_name(word: str) -> str:
    """What torch, and a config, call a dtype; "" where torch has none.

    >>> torch_name("BF16")
    'bfloat16'
    """
    return TABLE[word][0] if word in TABLE else ""


def word_of(dtype: torch.dtype) -> str:
    """A torch dtype in safetensors' word; one that it has none for keeps torch's name.

    >>> import torch
    >>> word_of(torch.bfloat16), word_of(torch.complex128)
    ('BF16', 'torch.complex128')
    """
    return WORDS.get(str(dtype).removeprefix("torch."), str(dtype))


@lru_cache
def torch_dtype(word: str) -> torch.dtype | None:
    """safetensors' word as a torch dtype; None where this torch has none.

    >>> torch_dtype("BF16"), torch_dtype("F6_E2M3")
    (torch.bfloat16, None)
    """
    import torch

    name = torch_name(word)
    return getattr(torch, name, None) if name else None
