"""Write docs/families-not-yet.md: the model types that are not grown, with one reason each.

    python docs/not_yet.py            write it
    python docs/not_yet.py --check    exit with 1 if it is not what stands there

tests/test_not_yet.py holds that each type is grown, drafted or has a reason, that all of them exist, and that
none that has a reason is grown. What is counted as grown on ffn and layers is what the table of families in
the README says, which the planner was asked for (docs/families_table.py).
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from transformers.models.auto import modeling_auto as auto

from isogrow.families import LAYOUTS
from isogrow.families.not_yet import ALIASES, DRAFTED, REASONS
from isogrow.families.wrappers import WRAPPERS

PAGE = Path(__file__).with_name("families-not-yet.md")
README = Path(__file__).parents[1] / "README.md"
RECUT = ("minimax_m3_vl", "tipsv2", "tipsv2_text_model")  # what their drafts were asked, transformers 5.23
DRAFTS = Path(__file__).parents[1] / "benchmarks" / "drafts.jsonl"

KINDS = {
    "causal language models": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "masked language models": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "encoder-decoders": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "image classifiers": auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "zero-shot image classifiers": auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "video classifiers": auto.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES,
    "speech recognisers": {
        **auto.MODEL_FOR_CTC_MAPPING_NAMES,
        **auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    },
    "audio classifiers": auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES,
    "image-text wrappers": auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
}

# Why a type grows on ffn alone: no rule but the one of layers refuses it.
HALF = {
    "layers": "a layer normalises the residual itself (post-norm), or divides it (Gemma 3n), so no new one is"
    " the identity",
}


def grown(model_type: str) -> bool:
    """Whether isogrow grows this type, by itself or as a language model within it."""
    return ALIASES.get(model_type, model_type) in LAYOUTS or model_type in WRAPPERS


def types() -> list[str]:
    """All types that transformers registers for a task, or builds by AutoModel."""
    return [*dict.fromkeys((*(name for kind in KINDS.values() for name in kind), *auto.MODEL_MAPPING_NAMES))]


def unexplained(known: Collection[str]) -> list[str]:
    """The types that are not grown, that no draft grows, and of which none of the reasons is `known`."""
    return [name for name in types() if not (grown(name) or name in DRAFTED or name in known)]


def table() -> dict[str, dict[str, str]]:
    """What the README's table says each model type's axes can grow to."""
    lines = README.read_text("utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    first = next(at for at, row in enumerate(rows) if row[0] == "model type")
    return {
        row[0]: dict(zip(rows[first], row, strict=False)) for row in rows[first + 2 :] if row[0] in LAYOUTS
    }


def halves(axes: dict[str, str]) -> str:
    """Which of ffn and layers a model type can't grow on; a type without an MLP has no ffn."""
    return " and ".join(axis for axis in ("ffn", "layers") if axes.get(axis) == "refused")


def whole(model_type: str, known: dict[str, dict[str, str]]) -> bool:
    """Whether a type grows on both; a wrapper does, where its class's own language model does."""
    text = WRAPPERS[model_type].text if model_type not in LAYOUTS and model_type in WRAPPERS else model_type
    text = ALIASES.get(text, text)
    return text in known and not halves(known[text])


def counted() -> list[str]:
    """How many of all types that AutoModel builds grow on ffn and layers, and which grow on one alone."""
    known, built = table(), auto.MODEL_MAPPING_NAMES
    both = [name for name in built if whole(name, known)]
    alone = [name for name in built if grown(name) and name not in both]
    rest = [name for name in built if not grown(name)]
    lacking: dict[str, list[str]] = {}
    for name in alone:
        lacking.setdefault(halves(known[WRAPPERS[name].text if name in WRAPPERS else name]), []).append(name)
    lines = [
        "## Of all model types",
        "",
        f"transformers 5.24 builds {len(built)} model types by AutoModel. **{len(both)} of them grow exactly"
        f" on at least ffn and layers**, {len(alone)} on one of the two, {len(rest)} have no table"
        " (below: each is drafted, or has one reason).",
        "",
        "| refused | why | model types |",
        "|---|---|---|",
    ]
    lines += [f"| {axes} | {HALF[axes]} | {', '.join(names)} |" for axes, names in lacking.items()]
    return lines


def proven() -> dict[str, list[str]]:
    """Which types that are not built in a draft alone grows (benchmarks/drafts.py), and along what."""
    rows = {row["type"]: row for row in map(json.loads, DRAFTS.read_text("utf-8").splitlines())}
    return {name: row["axes"] for name, row in rows.items() if row["proven"] and not grown(name)}


def drafted() -> list[str]:
    """The types that a draft alone grows."""
    found = proven()
    lines = [
        "## By a draft",
        "",
        f"{len(found)} types have no table that is built in, but `isogrow draft TYPE --out FILE` writes one"
        " that is proven on small models, and `isogrow grow MODEL OUT --layout FILE` takes it. The files of"
        f" {', '.join(RECUT)} are refused by name: saving cuts tensors otherwise than their classes hold"
        " them, and no draft tells how.",
        "",
        "| model type | exact axes |",
        "|---|---|",
    ]
    return [*lines, *(f"| {name} | {', '.join(axes)} |" for name, axes in sorted(found.items())), ""]


def towers(kinds: Iterable[str]) -> list[str]:
    """The wrappers that grow in a tower."""
    beside = Path(__file__).with_name("towers_table.py")
    found = importlib.util.spec_from_file_location(beside.stem, beside)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.section(kinds)


def page() -> str:
    """The page in Markdown."""
    lines = [
        "# Model types that are not grown",
        "",
        "Of the model types that transformers 5.24 registers for a task, those that isogrow refuses."
        " Written by docs/not_yet.py.",
        "",
        "| task | grown | of |",
        "|---|---|---|",
    ]
    for kind, names in KINDS.items():
        lines.append(f"| {kind} | {sum(map(grown, names))} | {len(names)} |")
    lines += ["", *counted(), "", *towers(KINDS["image-text wrappers"]), *drafted()]
    lines += ["## Not grown", "", "| model types | why not |", "|---|---|"]
    lines += [f"| {', '.join(names.split())} | {why} |" for why, names in REASONS.items()]
    lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
