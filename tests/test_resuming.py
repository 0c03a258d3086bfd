"""A Trainer's checkpoint grown on disk: the run goes on from it as if it had grown by itself."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import families as F
import pytest
import tiny
import torch
import transformers
from checkpoints import names
from command import isogrow
from test_module import live
from test_optimizer import gradients_, same
from test_trainer import Own, losses, trainer, weights

import isogrow as library
from isogrow import Policy, grow_checkpoint
from isogrow.errors import OutputError, StateError
from isogrow.growth.resuming import trainer_groups
from isogrow.stores.staging import partial_of
from isogrow.train.schedule import Growth

AT = 4
KEPT = ("scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin")
STATE = {"optimizer.pt", *KEPT}
ALL = dict(hidden=36, ffn="x2", layers="+1", heads=6, kv_heads=3)


def run(folder: Path, growths: Sequence[Growth] = (), *given: str, **options: Any) -> tuple[Own, Path]:
    """A Trainer after its run, and its checkpoint at the step of the growth."""
    made = trainer(folder, growths, *given, **options)
    made.train()
    return made, folder / f"checkpoint-{AT}"


def resumed(checkpoint: Path, **options: Any) -> Own:
    """A Trainer that knows nothing of isogrow goes on with the grown model."""
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    made = trainer(checkpoint.parent, (), model, **options)
    made.train(resume_from_checkpoint=str(checkpoint))
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes", "policy", "options"),
    [
        ("LlamaForCausalLM", ALL, Policy(), {}),
        ("LlamaForCausalLM", ALL, Policy("zero"), {"optim": "adafactor"}),
        ("Qwen3ForCausalLM", ALL, Policy("fresh"), {"lr_scheduler_type": "cosine"}),
        ("GPT2LMHeadModel", dict(hidden=48, heads=8, layers="+1"), Policy(), {"bf16": True, "use_cpu": True}),
    ],
)
def test_the_run_goes_on_from_disk(
    name: str, sizes: Any, policy: Policy, options: dict[str, Any], tmp_path: Path
) -> None:
    """Loss by loss and bit by bit it is the run that grows at that step in memory."""
    growth = Growth(sizes, at=AT, layers_at=(1,), policy=policy, seed=5)
    (never, small), (inside, _) = (run(tmp_path / str(len(g)), g, name, **options) for g in ((), (growth,)))
    grown = tmp_path / "large" / f"checkpoint-{AT}"
    grow_checkpoint(small, grown, policy=policy, layers_at=(1,), seed=5, **sizes)
    outside = resumed(grown, **options)
    assert losses(outside) == losses(inside) != losses(never)
    assert all(torch.equal(value, weights(inside)[key]) for key, value in weights(outside).items())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mixtral", "bert"])
def test_what_memory_names_otherwise(family: str, tmp_path: Path) -> None:
    """The state is that of the parameters in memory, however files name and cut them."""
    small = live(family)
    own, groups = dict(small.named_parameters()), library.trainer_groups(small)
    optimizer = torch.optim.AdamW([dict(params=[own[name] for name in group]) for group in groups])
    gradients_(small, 0)
    optimizer.step()
    small.save_pretrained(tmp_path / "small")
    torch.save(optimizer.state_dict(), tmp_path / "small" / "optimizer.pt")
    plan = grow_checkpoint(tmp_path / "small", tmp_path / "large", **F.FAMILIES[family].together)
    _, wanted, *_ = library.grow_training(small, optimizer=optimizer, plan=plan)
    found = torch.load(tmp_path / "large" / "optimizer.pt", weights_only=True)
    assert same(found["state"], wanted.state_dict()["state"])
    assert found["param_groups"] == wanted.state_dict()["param_groups"]


# ── what travels, and what does not ──


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("run"), max_steps=AT)[1]


@pytest.fixture
def own(source: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(source, tmp_path / source.name))


def test_the_rest_of_the_run_travels_with_it(own: Path, tmp_path: Path) -> None:
    grow_checkpoint(own, tmp_path / "large", ffn="x2")
    assert names(tmp_path / "large") == {*names(own), "README.md", "isogrow.json"} >= STATE
    assert all((tmp_path / "large" / name).read_bytes() == (own / name).read_bytes() for name in KEPT)
    grow_checkpoint(own, tmp_path / "alone", ffn="x2", optimizer="drop")
    assert names(tmp_path / "alone") == names(tmp_path / "large") - STATE
    (own / "optimizer.pt").unlink()
    grow_checkpoint(own, tmp_path / "lost", ffn="x2")
    assert not names(tmp_path / "lost") & STATE


def test_the_command(own: Path, tmp_path: Path) -> None:
    ran = isogrow("grow", own, tmp_path / "large", "--ffn", "x2", "--no-verify", columns=200)
    assert ran.code == 0
    assert f'trainer.train(resume_from_checkpoint="{tmp_path / "large"}")' in ran.out
    (own / "optimizer.pt").write_bytes(b"junk")
    ran = isogrow("grow", own, tmp_path / "junk", "--ffn", "x2", "--no-verify")
    assert ran.code == 2 and "--optimizer drop" in " ".join(ran.err.split())
    ran = isogrow("grow", own, tmp_path / "junk", "--ffn", "x2", "--no-verify", "--optimizer", "drop")
    assert ran.code == 0 and "resume_from_checkpoint" not in ran.out


# ── what is refused ──


def changed(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def change_(folder: Path) -> None:
        state = torch.load(folder / "optimizer.pt", weights_only=True)
        torch.save(change(state) or state, folder / "optimizer.pt")

    return change_


def of_a_wider_model(state: Any) -> None:
    for entry in state["state"].values():
        entry["exp_avg"] = torch.zeros(*entry["exp_avg"].shape[:-1], entry["exp_avg"].shape[-1] + 1)


def with_more(state: Any) -> None:
    state["state"][0]["hessian"] = state["state"][0]["exp_avg"]


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "junk": (lambda folder: (folder / "optimizer.pt").write_bytes(b"x" * 999), "optimizer.pt is damaged"),
    "code": (
        lambda folder: (folder / "optimizer.pt").write_bytes(pickle.dumps(Path, protocol=2)),
        "optimizer.pt is damaged, or holds more than tensors, which is never unpickled",
    ),
    "a list": (changed(lambda state: [1]), "optimizer.pt holds no state dict: save the run again"),
    "a model": (changed(lambda state: state["state"][0]), "optimizer.pt is no optimizer's state dict"),
    "no groups": (changed(lambda state: state | {"param_groups": [1]}), "is no optimizer's state dict"),
    "one group": (
        changed(lambda state: state.update(param_groups=[state["param_groups"][0]])),
        r"groups of \[23\] parameters, and the names make groups of \[23, 7\]: .* \(groups=\)",
    ),
    "another model": (changed(of_a_wider_model), r"exp_avg of model.embed_tokens.weight is \[53, 25\], and"),
    "an unknown tensor": (changed(with_more), "keeps 'hessian' for .*, and no law says how that grows"),
    "other names": (
        changed(lambda state: state["param_groups"][1].update(param_names=["a"] * 7)),
        "the state has a where model.layers.0.input_layernorm.weight was expected",
    ),
    "shards": (
        lambda folder: (folder / "optimizer_0").mkdir(),
        "optimizer_0 is a state in shards, or of a second",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG)
def test_a_state_that_is_not_the_models_is_refused(what: str, own: Path, tmp_path: Path) -> None:
    change, said = WRONG[what]
    change(own)
    with pytest.raises(StateError, match=rf"state in {own.name} can't be grown: .*{said}.*optimizer='drop' "):
        grow_checkpoint(own, tmp_path / "large", ffn="x2")
    assert [path.name for path in tmp_path.iterdir()] == [own.name]
    grow_checkpoint(own, tmp_path / "large", ffn="x2", optimizer="drop")
    assert not [name for name in names(tmp_path / "large") if name.startswith("optimizer")]


@pytest.mark.parametrize("policy", ["powers={'hessian': 1}", "unknown='drop'"])
def test_the_way_out_for_an_unknown_tensor_is_one(own: Path, tmp_path: Path, policy: str) -> None:
    """In Python and in the shell, whose refusal names what a file's growth takes."""
    changed(with_more)(own)
    ran = isogrow("grow", own, tmp_path / "large", "--ffn", "x2", "--no-verify")
    told = " ".join(ran.err.split())
    assert ran.code == 2 and f"(in Python: policy=isogrow.Policy({policy}))" in told
    assert told.endswith("or leave the run's state behind with --optimizer drop")
    grow_checkpoint(own, tmp_path / "large", ffn="x2", policy=eval(f"Policy({policy})"))
    state = torch.load(tmp_path / "large" / "optimizer.pt", weights_only=True)
    assert ("hessian" in state["state"][0]) == policy.startswith("powers")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"policy": Policy(ramp=3)}, "ramp, follow and rates pace a run's steps, and a file makes none"),
        ({"optimizer": "keep"}, "optimizer 'keep' is not known: give grow, or drop"),
        ({"optimizer": "drop", "policy": Policy()}, "a policy or groups are given, and no optimizer.pt is"),
    ],
)
def test_what_can_not_be_asked(options: dict[str, Any], said: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=said):
        grow_checkpoint(source, tmp_path / "large", ffn="x2", **options)


def test_accelerates_own_state(tmp_path: Path) -> None:
    """What save_state leaves beside the weights grows as the optimizer in memory does, and loads again."""
    Accelerator = pytest.importorskip("accelerate").Accelerator  # noqa: N806  (a class)
    small: Any = tiny.model("LlamaForCausalLM")
    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(small, torch.optim.AdamW(small.parameters(), lr=1e-3))
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer.optimizer)
    accelerator.register_for_checkpointing(schedule)
    gradients_(small, 0)
    optimizer.step()
    small.save_pretrained(tmp_path / "small")
    accelerator.save_state(str(tmp_path / "small"))
    plan = grow_checkpoint(tmp_path / "small", tmp_path / "large", **ALL)
    kept = {"optimizer.bin", "random_states_0.pkl"}
    assert kept <= names(tmp_path / "large")
    assert "custom_checkpoint_0.pkl" in names(tmp_path / "small") - names(tmp_path / "large")
    large, wanted, *_ = library.grow_training(small, optimizer=optimizer.optimizer, plan=plan)
    found = torch.load(tmp_path / "large" / "optimizer.bin", weights_only=True)
    assert same(found["state"], wanted.state_dict()["state"])
    fresh = transformers.LlamaForCausalLM(large.config)
    again = Accelerator(cpu=True)
    fresh, loaded = again.prepare(fresh, torch.optim.AdamW(fresh.parameters(), lr=1e-3))
    again.load_state(str(tmp_path / "large"))
    assert same(loaded.state_dict()["state"], wanted.state_dict()["state"])
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), large.parameters(), strict=True))
    grow_checkpoint(tmp_path / "small", tmp_path / "alone", optimizer="drop", ffn="x2")
    assert not names(tmp_path / "alone") & kept


def test_what_a_trainer_decays_of_a_mamba() -> None:
    """`weight_decay` of a recipe is described by this."""
    sizes = dict(vocab_size=40, hidden_size=16, state_size=5, num_hidden_layers=2)
    decayed, rest = trainer_groups(transformers.MambaForCausalLM(transformers.MambaConfig(**sizes)))
    ends = {name.rsplit(".", 1)[-1] for name in decayed if "mixer" in name}
    assert {"A_log", "D"} <= ends and "bias" not in ends and "backbone.norm_f.weight" in decayed
    assert "backbone.layers.0.norm.weight" in rest and all("norm" in name or "bias" in name for name in rest)


def test_a_state_by_names(own: Path, tmp_path: Path) -> None:
    """FSDP's, gathered."""
    state = torch.load(own / "optimizer.pt", weights_only=True)
    for group in state["param_groups"]:
        group["params"] = [f"parameter.{number}" for number in group["params"]]
    torch.save(state, own / "optimizer.bin")
    (own / "optimizer.pt").unlink()
    with pytest.raises(
        StateError, match="optimizer.bin has its parameters by name, .*rekey_optim_state_dict"
    ):
        grow_checkpoint(own, tmp_path / "large", ffn="x2")


def test_groups_of_ones_own(own: Path, tmp_path: Path) -> None:
    """The mend for frozen parameters, and any other grouping."""

    def upper(model: Any) -> list[list[str]]:
        return [[name for name, _ in model.named_parameters() if ".1." in name]]

    model = transformers.AutoModelForCausalLM.from_pretrained(own)
    for name, p in model.named_parameters():
        p.requires_grad_(".1." in name)
    optimizer = torch.optim.SGD([p for n, p in model.named_parameters() if ".1." in n], momentum=0.9)
    gradients_(model, 0)
    optimizer.step()
    torch.save(optimizer.state_dict(), own / "optimizer.pt")
    plan = grow_checkpoint(own, tmp_path / "large", groups=upper, ffn="x2")
    _, wanted, *_ = library.grow_training(model, optimizer=optimizer, plan=plan)
    found = torch.load(tmp_path / "large" / "optimizer.pt", weights_only=True)
    assert same(found["state"], wanted.state_dict()["state"])


# ── complete or absent ──


def test_a_disk_that_is_full_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(state: Any, file: Any) -> None:
        try:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904  (as torch raises it)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="can't be written: the disk is full"):
        grow_checkpoint(source, tmp_path / "large", ffn="x2")
    assert not list(tmp_path.iterdir())


def test_a_killed_growth_goes_on_with_the_same_state_alone(source: Path, tmp_path: Path) -> None:
    def killed(folder: Path) -> str:
        raise KeyboardInterrupt

    out = tmp_path / "large"
    grow_checkpoint(source, tmp_path / "whole", ffn="x2")
    with pytest.raises(KeyboardInterrupt):
        grow_checkpoint(source, out, verify=killed, ffn="x2")
    assert (partial_of(out) / "optimizer.pt").is_file()
    with pytest.raises(OutputError, match="was left by another growth"):
        grow_checkpoint(source, out, resume=True, optimizer="drop", ffn="x2")
    grow_checkpoint(source, out, resume=True, ffn="x2")
    assert {name: (out / name).read_bytes() for name in STATE} == {
        name: (tmp_path / "whole" / name).read_bytes() for name in STATE
    }
