"""What `grow` and `verify` do: here torch comes in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from isogrow.cli.facts import summary
from isogrow.errors import CheckpointError, StateError
from isogrow.growth.opening import Opened
from isogrow.planning.request import Planned, read_plan
from isogrow.plans.placing import Mesh
from isogrow.plans.plan import Plan
from isogrow.plans.words import flag
from isogrow.stores.sources import Checkpoint, open_checkpoint

Data = dict[str, Any]
Progress = Callable[[int, int], None]
Tell = Callable[[str], None]

# How a run goes on from what was written, by the optimizer's state that it left.
RESUMED = {
    "optimizer.pt": 'trainer.train(resume_from_checkpoint="{out}")',
    "optimizer.bin": 'accelerator.load_state("{out}")',
}


@dataclass(frozen=True)
class Job:
    """What is to be grown, into what, by which plan."""

    model: str
    out: Path
    source: Opened
    plan: Planned
    dtype: str | None


@dataclass(frozen=True)
class Options:
    """How the output is written."""

    max_shard_size: str
    overwrite: bool
    resume: bool
    hash_files: bool
    optimizer: str
    keep_failed: bool = False
    format: str = "safetensors"


class NotProven(Exception):
    """A check failed before the output got its name."""


def foreseen(source: Opened, plan: Plan, dtype: str | None) -> Data:
    """What `grow` would refuse of a plan, asked before a byte is written: it raises the same, and says which
    options a growth needs, and what it would leave behind."""
    from isogrow.growth.resuming import resumable, state_in
    from isogrow.interpreters.checkpoint import prepared
    from isogrow.stores.carrying import left
    from isogrow.stores.loadable import unread

    checkpoint = source.checkpoint
    prepared(checkpoint, source.anatomy, plan, dtype)
    needs, run = list[str](), state_in(checkpoint.folder)
    if why := unread(checkpoint.config, checkpoint.headers):
        needs.append(f"--no-verify, since {why}")
    try:
        resumable(checkpoint, plan, "grow", None, None)
    except StateError as error:
        needs.append(f"--optimizer drop, since {error}")
        run = ""
    return {"needs": needs, "left": list(left(checkpoint, run))}


def foretold(source: Opened, planned: Planned, mesh: Mesh, optimizer_state: str) -> Data:
    """What growing a running job would cost each rank."""
    from isogrow.growth.forecasting import forecast

    found = forecast(source, dict(mesh.dims), plan=planned, optimizer_state=optimizer_state)
    return {"optimizer_state": optimizer_state, **found.to_dict()}


def grown(job: Job, options: Options, verify: bool, progress: Progress, tell: Tell) -> Data:
    """Grow, and verify what fits in memory before the output appears: an output that fails does not."""
    from isogrow.growth.api import grow_checkpoint
    from isogrow.growth.resuming import state_in
    from isogrow.stores.carrying import left
    from isogrow.stores.loadable import unread
    from isogrow.stores.staging import failed_of
    from isogrow.verification.memory import shortage

    checkpoint = job.source.checkpoint
    data = summary(checkpoint.name, job.plan, job.dtype)
    sizes = [data[side]["parameters"] for side in ("before", "after")]
    skipped = shortage(sizes[0], sizes[1]) if verify else "--no-verify was given"
    if not skipped and (why := unread(checkpoint.config, checkpoint.headers)):
        raise CheckpointError(f"{why}; nothing was written: --no-verify writes it unproven")
    report: Data | None = None

    def check(folder: Path) -> str:
        nonlocal report, skipped
        report = _report(checkpoint, open_checkpoint(folder), job.plan, tell)
        if failed(report):
            raise NotProven
        skipped = "; ".join(f"{c['name']} {c['detail']}" for c in report["checks"] if c["passed"] is None)
        return _sentence(report) if report["passed"] else ""

    done, unverified = True, bool(skipped)
    try:
        grow_checkpoint(
            job.source,
            job.out,
            plan=job.plan,
            dtype=job.dtype,
            max_shard_size=options.max_shard_size,
            overwrite=options.overwrite,
            resume=options.resume,
            hash_files=options.hash_files,
            keep_failed=options.keep_failed,
            optimizer=options.optimizer,
            format=options.format,
            progress=progress,
            verify=None if unverified else check,
        )
    except NotProven:
        done = False
    return {
        "model": checkpoint.name,
        "out": str(job.out) if done else None,
        "failed": str(failed_of(job.out)) if options.keep_failed and not done else None,
        **{name: data[name] for name in ("before", "after", "steps", "learns_by_step", "elsewhere", "seed")},
        "verification": report,
        "skipped": skipped or None,
        "left": list(left(checkpoint, state_in(checkpoint.folder) if options.optimizer == "grow" else "")),
        "next": _next(job, report is None or not report["passed"], options.format) if done else [],
    }


def verified(
    model: str, grown: str, plan: str | None, revision: str | None, config: str | None, tell: Tell
) -> Data:
    """The checks of a pair of models."""
    made = None if plan is None else read_plan(plan, flag("plan"))
    return _report(open_checkpoint(model, revision, config), open_checkpoint(grown), made, tell)


def failed(report: Data) -> list[Data]:
    """The checks that failed."""
    return [check for check in report["checks"] if check["passed"] is False]


def _report(small: Checkpoint, large: Checkpoint, plan: Planned | Plan | None, tell: Tell) -> Data:
    from isogrow.verification import verify

    return verify(small, large, plan=plan, progress=tell).to_dict()


def _sentence(report: Data) -> str:
    """What the model card says of the checks."""
    passed = [check for check in report["checks"] if check["passed"]]
    exact = next(check for check in passed if check["name"] == "float64")
    return (
        f"`isogrow verify` passed {len(passed)} checks; in float64 the outputs of the two models differ by"
        f" a relative {exact['value']:.1e} at most."
    )


def _next(job: Job, unverified: bool, format: str) -> list[str]:
    """What to run now."""
    from isogrow.stores.loadable import class_name

    model, out = quote(job.model), quote(str(job.out))
    kind = class_name(job.source.checkpoint.config) or "AutoModel"
    load = f'transformers.{kind}.from_pretrained("{job.out}")'
    if format == "distributed":
        load = f'torch.distributed.checkpoint.load(state_dict, checkpoint_id="{job.out}")'
    resumes = [go_on.format(out=job.out) for name, go_on in RESUMED.items() if (job.out / name).is_file()]
    return [
        *([f"isogrow verify {model} {out}"] if unverified else []),
        load,
        *resumes,
    ]
