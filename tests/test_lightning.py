"""The module of docs/training.md that grows in PyTorch Lightning: one run, whatever stops it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import documents
import pytest
import tiny
import torch
from test_trainer import Bytes
from torch.utils.data import DataLoader, Subset

import isogrow

lightning = pytest.importorskip("lightning", reason="an extra of developers: pip install -e '.[dev]'")

DOCUMENT = Path(__file__).parents[1] / "docs" / "training.md"
STEPS, SAVED, ROWS = 12, 4, 4
GROWTHS = [(5, dict(hidden=36, ffn="x2")), (8, dict(layers="+1", heads=6, kv_heads=3))]


@pytest.fixture(scope="module")
def kind() -> Any:
    """The document's class, its growths at other steps, and its losses kept."""
    block = next(
        block for block in documents.code(documents.read(DOCUMENT), "python") if "lightning" in block
    )
    names: dict[str, Any] = {"__name__": "training"}
    exec(compile(block, "training.md", "exec"), names)
    names["GROWTHS"][:] = GROWTHS

    class Watched(names["Growing"]):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.losses = [*getattr(self, "losses", ()), loss.item()]
            return loss

    return Watched


def fitted(kind: Any, folder: Path, checkpoint: Path | None = None, **options: Any) -> Any:
    """A module after a run from the start, or from a checkpoint."""
    module = kind(tiny.model("LlamaForCausalLM").train())
    saving = lightning.pytorch.callbacks.ModelCheckpoint(
        folder, filename="{step}", every_n_train_steps=SAVED, save_top_k=-1
    )
    quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    trainer = lightning.Trainer(max_steps=STEPS, callbacks=[saving], **quiet, **options)
    trainer.fit(module, DataLoader(Subset(Bytes(), range(4 * ROWS)), ROWS), ckpt_path=checkpoint)
    return module


@pytest.fixture(scope="module")
def whole(kind: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return fitted(kind, folder), folder


@pytest.mark.slow
def test_it_is_the_loop_of_ones_own(whole: tuple[Any, Path]) -> None:
    model, ids = tiny.model("LlamaForCausalLM").train(), Bytes().ids
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    found: list[float] = []
    for step in range(STEPS):
        for _, sizes in (growth for growth in GROWTHS if growth[0] == step):
            isogrow.grow_(model, optimizer=optimizer, **sizes)
        rows = ids[step % 4 * ROWS :][:ROWS]
        loss = model(input_ids=rows, labels=rows).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert whole[0].losses == found


@pytest.mark.slow
@pytest.mark.parametrize("at", [4, 8, 12])
def test_resuming_changes_no_loss(kind: Any, whole: tuple[Any, Path], at: int, tmp_path: Path) -> None:
    """From before the growths, from between them, and from the end."""
    made, folder = whole
    resumed = fitted(kind, tmp_path, folder / f"step={at}.ckpt")
    assert getattr(resumed, "losses", []) == made.losses[at:]
    same = zip(resumed.state_dict().items(), made.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in same)


@pytest.mark.slow
def test_a_checkpoint_is_loaded_without_a_run(kind: Any, whole: tuple[Any, Path]) -> None:
    made, folder = whole
    loaded = kind.load_from_checkpoint(folder / "step=12.ckpt", model=tiny.model("LlamaForCausalLM"))
    assert torch.equal(loaded.model.lm_head.weight, made.model.lm_head.weight)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"accumulate_grad_batches": 2}, {"gradient_clip_val": 0.1}])
def test_trainers_options(kind: Any, options: dict[str, Any], tmp_path: Path) -> None:
    """Each growth happens once, however many batches make a step."""
    assert fitted(kind, tmp_path, **options).growths == len(GROWTHS)


@pytest.mark.slow
def test_without_growing_first_nothing_is_loaded(
    kind: Any, whole: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kind, "on_load_checkpoint", lambda self, checkpoint: None)
    with pytest.raises(RuntimeError, match="size mismatch"):
        fitted(kind, tmp_path, whole[1] / "step=8.ckpt")
