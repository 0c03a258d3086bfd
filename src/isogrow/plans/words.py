"""The words in which sizes are asked for, and the axes that they mean: the one place that knows both.

    head_dim        key_dim and value_dim, both to one size
    heads           kv_heads · group, where heads are grouped
    encoder.layers  the axis encoder_layers, of one stack (a keyword may say encoder_layers)

Refusals speak in them: about `head_dim`, where that is what was asked for, and never of a `group`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from isogrow.layouts.formula import names
from isogrow.plans.sizes import Sizes

MLPS = ("ffn", "expert_ffn", "shared_ffn")
STATES = ("state_width", "state_dim", "dt_rank", "taps")
INNER = (*MLPS, "q_rank", "kv_rank", *STATES)
HEAD_DIM = ("key_dim", "value_dim")
WORDS = ("hidden", *INNER, "heads", "kv_heads", "head_dim", *HEAD_DIM, "layers")

# The word for an axis, as a request that would have it grow says it.
REQUESTS: Mapping[str, str] = {"kv_heads": "heads", "group": "heads", **dict.fromkeys(HEAD_DIM, "head_dim")}
PRODUCT = re.compile(r"\((\w*?)kv_heads \* \1group\)|\b(\w*?)kv_heads \* \2group")  # as formulas spell heads


SHELL = {"engines": "for"}  # what the shell calls otherwise: in Python that is a word of the language
Say = Callable[..., str]  # how an asker writes a name, or a name with a value


def keyword(name: str, value: str = "") -> str:
    """How Python writes what is asked for.

    >>> keyword("layers_at"), keyword("ffn", "x2")
    ('layers_at=', "ffn='x2'")
    """
    return f"{name}={value!r}" if value else f"{name}="


def flag(name: str, value: str = "") -> str:
    """How the shell writes it.

    >>> flag("layers_at"), flag("ffn", "x2")
    ('--layers-at', '--ffn x2')
    """
    return f"--{SHELL.get(name, name).replace('_', '-')}" + (f" {value}" if value else "")


def addressed(name: str) -> tuple[str, str]:
    """(stack, word) of a size's name; no stack is "".

    >>> addressed("encoder.layers"), addressed("encoder_layers"), addressed("head_dim")
    (('encoder', 'layers'), ('encoder', 'layers'), ('', 'head_dim'))
    """
    stack, _, word = name.replace(".", "_", 1).partition("_")
    return ("", name) if name in WORDS else (stack, word)


def spelled(stack: str, word: str) -> str:
    """The name of a size: `addressed` read backwards."""
    return f"{stack}.{word}" if stack else word


def meant(word: str) -> tuple[str, ...]:
    """The axes that one word stands for at once."""
    return HEAD_DIM if word == "head_dim" else (word,)


def word_for(axis: str, stacks: Collection[str] = ()) -> str:
    """The word for an axis that nobody has said."""
    stack, _, rest = axis.partition("_")
    own = rest if stack in stacks else axis
    return spelled(stack if stack in stacks else "", "heads" if own == "group" else own)


def with_words(values: Mapping[str, int]) -> dict[str, int]:
    """Sizes by axis, and by the words that stand for several.

    >>> with_words({"kv_heads": 2, "group": 3, "key_dim": 8, "value_dim": 8})["heads"]
    6
    """
    found = dict(values)
    for of in (axis.removesuffix("group") for axis in values if axis.endswith("group")):
        if f"{of}kv_heads" in values:
            found[f"{of}heads"] = values[f"{of}kv_heads"] * values[f"{of}group"]
    if "key_dim" in found and found["key_dim"] == found.get("value_dim"):
        found["head_dim"] = found["key_dim"]
    return found


def told(formula: str, values: Mapping[str, int]) -> tuple[str, str]:
    """A formula over axes, and the sizes in it, in words: `head_dim` where keys and values are of one size.

    >>> told("kv_heads * group * key_dim == hidden",
    ...      {"kv_heads": 2, "group": 2, "key_dim": 8, "value_dim": 8, "hidden": 30})
    ('heads * head_dim == hidden', 'head_dim=8, heads=4, hidden=30')
    """
    sizes = with_words(values)
    text = PRODUCT.sub(lambda found: f"{found[1] or found[2] or ''}heads", formula)
    for stack in (axis.removesuffix("key_dim") for axis in values if axis.endswith("key_dim")):
        if values[f"{stack}key_dim"] == values.get(f"{stack}value_dim"):
            sizes[f"{stack}head_dim"] = values[f"{stack}key_dim"]
            text = re.sub(rf"\b{stack}({'|'.join(HEAD_DIM)})\b", f"{stack}head_dim", text)
    return text, ", ".join(f"{word}={sizes[word]}" for word in sorted(names(text) & sizes.keys()))


def with_dots(text: str, stacks: Collection[str]) -> str:
    """A text in which the sizes of stacks are called as requests call them.

    >>> with_dots("encoder_heads * encoder_key_dim == hidden", ("encoder", "decoder"))
    'encoder.heads * encoder.key_dim == hidden'
    """
    if not stacks:
        return text
    return re.sub(rf"\b({'|'.join(stacks)})_(?=({'|'.join(WORDS)})\b)", r"\1.", text)


def alone(sizes: Sizes) -> Collection[str]:
    """The words that mean no stack's axis where no stack is said with them.

    Beside towers these are all, since they mean the language model's.

    >>> "ffn" in alone(Sizes({"hidden": 30, "layers": 2, "vision_ffn": 40, "vision_layers": 3}))
    True
    >>> list(alone(Sizes({"hidden": 30, "encoder_layers": 2, "decoder_layers": 3})))
    ['hidden']
    """
    return WORDS if sizes.has("layers") else named(sizes)


def named(sizes: Sizes, stacks: tuple[str, ...] = ()) -> dict[str, int]:
    """Sizes by the words that requests have for them, in their order; a stack's own, and those in which
    all stacks agree that a word without a stack's means.

    >>> named(Sizes({"kv_heads": 2, "group": 3, "key_dim": 8, "value_dim": 8, "hidden": 30}))
    {'hidden': 30, 'heads': 6, 'kv_heads': 2, 'head_dim': 8, 'key_dim': 8, 'value_dim': 8}
    """
    values = with_words(sizes.values)
    found: dict[str, int] = {}
    beside = sizes.has("layers")
    for word in WORDS:
        own = {
            spelled(stack, word): values[f"{stack}_{word}"] for stack in stacks if f"{stack}_{word}" in values
        }
        common = {values[word]} if word in values else set() if beside else set(own.values())
        found |= {word: min(common)} if len(common) == 1 else {}
        found |= own
    return found


def stated(sizes: Sizes, stacks: tuple[str, ...] = ()) -> str:
    """All sizes in words, those that no request can have grow (a vocabulary) first.

    >>> stated(Sizes({"kv_heads": 2, "group": 3, "vocab": 50}))
    'vocab=50, heads=6, kv_heads=2'
    """
    own = {f"{stack}_{word}" for stack in stacks for word in (*WORDS, "group")}
    fixed = {axis: size for axis, size in sizes.values.items() if axis not in (*WORDS, "group", *own)}
    return ", ".join(f"{word}={size}" for word, size in (fixed | named(sizes, stacks)).items())
