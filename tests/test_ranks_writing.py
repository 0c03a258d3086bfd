"""Folders that several ranks grow together: the bytes of one process, a refusal of one that is one of all,
and ranks that are killed. Processes are started once for each number of ranks."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import command
import families as F
import pytest
import ranks_job
import torch
import torch.distributed.checkpoint as dcp
import transformers
from checkpoints import digests, save, weights
from forking import ended
from hypothesis import given
from hypothesis import strategies as st
from rows import FAMILIES
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict
from torchrun import ranks_of, torchrun, truly

import isogrow
from isogrow.cli import app
from isogrow.errors import OutputError, RankLost, SizeError
from isogrow.growth import meeting
from isogrow.growth.meeting import Meeting, packed, unpacked
from isogrow.stores.shares import Share, dealt
from isogrow.stores.sources import open_checkpoint
from isogrow.stores.staging import lock_of, partial_of

started = pytest.mark.slow
PARTS = {"max_shard_size": "30KB"}
LLAMA = {"ffn": 57, "layers": "+1", "hidden": 36, **PARTS}
GPT2 = {"hidden": 42, "heads": 7, "ffn": 57, "layers": "+1", **PARTS}
MIXTRAL = {**FAMILIES["mixtral"].together, **PARTS}
Reports = list[dict[str, Any]]


# ── who writes what ──


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 5))
def test_what_is_shared_is_shared_in_order_and_evenly(sizes: list[int], world: int) -> None:
    share = Share(world, sum(sizes))
    owners = [who for who, _ in dealt(share, ((size, size) for size in sizes))]
    some = [who for who, size in zip(owners, sizes, strict=True) if size]
    assert some == sorted(some) and all(who in range(world) for who in owners)
    for rank in range(world):
        mine = sum(size for who, size in zip(owners, sizes, strict=True) if who == rank)
        assert abs(mine - share.total / world) <= max(sizes)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 5), st.data())
def test_who_may_own_parts_of_some_bytes(sizes: list[int], world: int, data: st.DataObject) -> None:
    share = Share(world, sum(sizes))
    a = data.draw(st.integers(0, len(sizes) - 1))
    b = data.draw(st.integers(a + 1, len(sizes)))
    start = sum(sizes[:a])
    own = {who for who, _ in dealt(share, ((size, size) for size in sizes[a:b]), start)}
    assert own <= set(share.owners(start, sum(sizes[a:b])))


# ── meetings: threads for ranks ──


class Killed(BaseException):
    """A rank that is no more."""


class Threads:
    """Ranks that are threads: `gathered` gives each what all say."""

    def __init__(self, world: int) -> None:
        self.world, self.said = world, [None] * world
        self.barrier = threading.Barrier(world)

    def rank(self, me: int) -> Any:
        return SimpleNamespace(me=me, world=self.world, gathered=self.gathered(me))

    def gathered(self, me: int) -> Callable[[Any], list[Any]]:
        def gathered(said: Any) -> list[Any]:
            self.said[me] = said
            try:
                self.barrier.wait(5)
                found = list(self.said)
                self.barrier.wait(5)
            except threading.BrokenBarrierError as error:
                raise RuntimeError("connection closed") from error
            return found

        return gathered


def met(world: int, work: Callable[[Meeting], None]) -> list[str]:
    """How this ends on each of so many ranks."""
    ranks, ends = Threads(world), ["hangs"] * world

    def one(me: int) -> None:
        meeting = Meeting(ranks.rank(me), 1)
        try:
            with meeting.region():
                work(meeting)
            ends[me] = "well"
        except Exception as error:
            ends[me] = f"{type(error).__name__}: {error}"
        except Killed:
            ranks.barrier.abort()  # as connections that are closed

    threads = [threading.Thread(target=one, args=(me,), daemon=True) for me in range(world)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    return ends


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("who", range(3))
def test_one_that_fails_anywhere_ends_all(who: int, place: int) -> None:
    def work(meeting: Meeting) -> None:
        def may_fail(here: int) -> None:
            if (meeting.me, here) == (who, place):
                raise SizeError("no such size")

        may_fail(0)
        meeting.meet("a")
        may_fail(1)
        with meeting.region():
            may_fail(2)
            assert meeting.meet(meeting.me) == [0, 1, 2]
            may_fail(3)
            meeting.meet(None)
            may_fail(4)
        may_fail(5)

    assert met(3, work) == ["SizeError: no such size"] * 3


def test_the_first_rank_may_say_it_better() -> None:
    """What it makes of another's error on the way is what all say."""

    def work(meeting: Meeting) -> None:
        try:
            with meeting.region():
                if meeting.me == 2:
                    raise OSError(28, "full")
                meeting.meet(None)
        except OSError as error:
            if meeting.me == 0:
                raise OutputError(f"it can't be written: {error.strerror}") from error
            raise

    assert met(3, work) == ["OutputError: it can't be written: full"] * 3
    assert met(3, lambda meeting: None) == ["well"] * 3


def test_one_that_is_gone_is_waited_for_by_none() -> None:

    def work(meeting: Meeting) -> None:
        if meeting.me == 1:
            raise Killed
        meeting.meet(None)

    ends = met(3, work)
    assert ends[1] == "hangs"
    assert all(end.startswith("RankLost: another rank of the job has ended") for end in (ends[0], ends[2]))


def test_an_error_that_can_t_be_sent_is_told() -> None:
    class Odd(Exception):
        pass

    assert str(unpacked(packed(Odd("luck"), 2))) == "rank 2 failed: Odd: luck"
    whole = unpacked(packed(SizeError("no", axes=frozenset({"ffn"})), 2))
    assert isinstance(whole, SizeError) and whole.axes == {"ffn"}


# ── processes ──


def ranks(folder: Path, world: int, cases: Mapping[str, Any]) -> list[int | None]:
    """How so many ranks end that carry out cases."""
    folder.mkdir()
    (folder / "asked.json").write_text(json.dumps(cases))
    return ended(ranks_job.run, [(folder, rank, world) for rank in range(world)])


def reports(folder: Path, world: int) -> Reports:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models, and what one process makes of each."""
    home = tmp_path_factory.mktemp("ranks")
    save(home / "llama", tie_word_embeddings=True)
    save(home / "gpt2", "GPT2LMHeadModel", dtype=torch.bfloat16, shard="30KB")
    F.subject(FAMILIES["mixtral"]).small.save_pretrained(home / "mixtral")
    model = ranks_model(home / "llama")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(input_ids=torch.arange(9)[None], labels=torch.arange(9)[None]).loss.backward()
    optimizer.step()
    state, moments = get_state_dict(model, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is but one process
        dcp.save({"model": state, "optim": moments}, checkpoint_id=home / "run", no_dist=True)
    for name, case in CASES.items():
        src, options = case
        isogrow.grow_checkpoint(home / src, home / f"one {name}", **{**options, **configured(home, src)})
    spoiled = save(home / "spoiled", tie_word_embeddings=True)
    path = spoiled / "model.safetensors"
    data = bytearray(path.read_bytes())
    at = data.rindex(b"model.norm.weight")
    assert at
    held = open_checkpoint(spoiled)
    last = "model.layers.2.self_attn.q_proj.weight"
    data[held.starts[last] : held.starts[last] + 4] = b"\x00\x00\xc0\x7f"
    path.write_bytes(data)
    return home


def ranks_model(folder: Path) -> nn.Module:
    import transformers

    return transformers.LlamaForCausalLM.from_pretrained(folder)


def configured(home: Path, src: str) -> dict[str, Any]:
    return {"config": str(home / "llama")} if src == "run" else {}


DISTRIBUTED = {"format": "distributed"}
CASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**LLAMA, "hash_files": True}),
    "in one file": ("llama", {"ffn": 57, "heads": 8, "kv_heads": 4}),
    "gpt2": ("gpt2", {**GPT2, "dtype": "float16"}),
    "mixtral": ("mixtral", MIXTRAL),
    "from a run": ("run", LLAMA),
    "to a run": ("llama", {**LLAMA, **DISTRIBUTED}),
    "run to run": ("run", {**LLAMA, **DISTRIBUTED}),
}
HERE = "can't be written: the disk is full"
REFUSED: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "numbers": ({"src": "spoiled"}, "CheckpointError", "attn.q, layers 2 holds numbers that are not finite"),
    "full": ({"faults": {1: "full"}}, "OutputError", HERE),
    "full first": ({"faults": {0: "full"}}, "OutputError", HERE),
    "full, and the first slow": ({"faults": {0: "slow", 1: "full"}}, "OutputError", HERE),
    "full, and the first deaf": ({"faults": {0: "deaf", 1: "full"}}, "OutputError", HERE),
    "seeds": ({"faults": {1: "seed"}}, "StateError", "rank 1 would write other bytes than rank 0"),
    "broken": ({"faults": {1: "broken"}}, "StateError", "rank 1 failed: Odd: no such luck"),
    "there": ({"out": "one llama"}, "OutputError", "exists: name another folder"),
}


def asked(home: Path, world: int) -> dict[str, Any]:
    cases: dict[str, Any] = {}
    for name, (src, options) in CASES.items():
        said = {**options, **configured(home, src)}
        cases[name] = {"src": str(home / src), "out": str(home / f"{world} {name}"), "options": said}
    for name, (change, _, _) in REFUSED.items():
        said = {"src": "llama", "out": f"{world} refused", **change}
        places = {key: str(home / said[key]) for key in ("src", "out")}
        cases[name] = {**said, **places, "options": dict(LLAMA)}
    lost = {"src": str(home / "llama"), "out": str(home / f"{world} unshared"), "options": dict(LLAMA)}
    cases["unshared"] = {**lost, "faults": {world - 1: "unshared"}}
    cases["mixtral"]["limit"] = 1000
    return cases


@pytest.fixture(scope="module")
def run(home: Path) -> Callable[[int], Reports]:
    done: dict[int, list[int | None]] = {}

    def run(world: int) -> Reports:
        if world not in done:
            done[world] = ranks(home / f"ranks{world}", world, asked(home, world))
        assert done[world] == [0] * world
        return reports(home / f"ranks{world}", world)

    return run


def saved(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a distributed checkpoint, by the names in its metadata."""
    reader = dcp.FileSystemReader(folder)
    about = reader.read_metadata().state_dict_metadata
    state = {
        name: torch.empty(each.size, dtype=each.properties.dtype)
        for name, each in about.items()
        if hasattr(each, "size")
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(state, storage_reader=reader, no_dist=True)
    return state


@started
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_ranks_write_what_one_process_writes(
    run: Callable[[int], Reports], home: Path, name: str, world: int
) -> None:
    found = run(world)
    assert not any("refused" in each[name] for each in found)
    check_same(home, name, world)


@started
def test_four_ranks_read_and_write_distributed_checkpoints(home: Path) -> None:
    """Into one, out of one, and both: tensor by tensor what one process writes."""
    cases = {name: case for name, case in asked(home, 4).items() if name in CASES and "run" in name}
    assert len(cases) == 3
    assert ranks(home / "ranks4", 4, cases) == [0] * 4
    assert not any("refused" in each[name] for each in reports(home / "ranks4", 4) for name in cases)
    for name in cases:
        check_same(home, name, 4)


def check_same(home: Path, name: str, world: int) -> None:
    """What so many ranks wrote of a case is what one process did: files' bytes, or tensors."""
    one, several = home / f"one {name}", home / f"{world} {name}"
    if CASES[name][1].get("format") != "distributed":
        assert digests(several) == digests(one)
        return
    assert {path.name for path in several.glob("*.distcp")} == {f"__{r}_0.distcp" for r in range(world)}
    alone, made = saved(one), saved(several)
    assert alone.keys() == made.keys() and len(made) > 20
    assert all(torch.equal(tensor, made[key]) for key, tensor in alone.items())


@started
@pytest.mark.parametrize("world", [2, 3])
def test_each_writes_its_share(run: Callable[[int], Reports], home: Path, world: int) -> None:
    for name in ("llama", "in one file", "gpt2", "mixtral"):
        written = [each[name]["bytes"] for each in run(world)]
        size = sum(path.stat().st_size for path in (home / f"one {name}").glob("*.safetensors"))
        # One of them writes headers; slabs have at most 100 entries, and what is copied is not noted.
        assert max(written) - min(written) < size / 2, (name, written)
        assert min(written) > 0


@started
@pytest.mark.parametrize("world", [2, 3])
def test_a_part_that_nobody_writes_is_seen(run: Callable[[int], Reports], home: Path, world: int) -> None:
    """The proof that the comparison can fail."""
    run(world)
    assert weights(home / f"{world} unshared").keys() == weights(home / "one llama").keys()
    assert weights(home / f"{world} unshared") != weights(home / "one llama")


@started
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("name", REFUSED)
def test_what_one_refuses_all_do(run: Callable[[int], Reports], home: Path, name: str, world: int) -> None:
    _, kind, words = REFUSED[name]
    said = [each[name].get("refused", ["nothing", ""]) for each in run(world)]
    assert said == [said[0]] * len(said)
    assert said[0][0] == kind and words in said[0][1]
    out = home / f"{world} refused"
    assert not out.exists() and not partial_of(out).exists() and not lock_of(out).exists()


@started
def test_a_killed_rank_ends_the_others_and_any_number_goes_on(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "large"
    case = {"src": str(home / "llama"), "out": str(out), "options": {**LLAMA, "hash_files": True}}
    killed = {"killed": {**case, "faults": {1: "killed"}}}
    assert ranks(tmp_path / "killed", 2, killed)[1] == -9
    said = json.loads((tmp_path / "killed" / "0.json").read_text())["killed"]["refused"]
    assert said[0] == "RankLost" and "run again, with --resume" in said[1]
    assert not out.exists()
    whole = [path.name for path in partial_of(out).glob("*.safetensors")]
    assert whole
    resumed = {"on": {**case, "options": {**case["options"], "resume": True}}}
    assert ranks(tmp_path / "resumed", 3, resumed) == [0, 0, 0]
    told = [each["on"]["told"] for each in reports(tmp_path / "resumed", 3)]
    files = len(list((home / "one llama").glob("*.safetensors")))
    assert told == [[["resumed", f"{len(whole)} of {files} files of weights are whole"]], [], []]
    assert digests(out) == digests(home / "one llama")


@started
def test_a_distributed_checkpoint_of_a_killed_job_is_begun_anew(home: Path, tmp_path: Path) -> None:
    """Nothing of more ranks stays beside what fewer write."""
    out, options = tmp_path / "large", {**LLAMA, **DISTRIBUTED}
    case = {"src": str(home / "llama"), "out": str(out), "options": options}
    cases = {"killed": {**case, "faults": {1: "killed at a chunk"}}}
    assert ranks(tmp_path / "killed", 2, cases)[1] == -9
    assert not out.exists() and (partial_of(out) / "__1_0.distcp").exists()
    told: list[tuple[str, str]] = []
    isogrow.grow_checkpoint(home / "llama", out, **options, resume=True, told=lambda *said: told.append(said))
    assert told == [("started over", "a distributed checkpoint is written as a whole")]
    assert [path.name for path in out.glob("*.distcp")] == ["__0_0.distcp"]
    alone = saved(home / "one to a run")
    assert all(torch.equal(tensor, saved(out)[key]) for key, tensor in alone.items())


@started
@pytest.mark.parametrize("world", [2, 3])
def test_who_is_at_work_hears_of_a_failure(run: Callable[[int], Reports], world: int) -> None:
    """And who does not look does all of its share first: the proof that it can fail."""
    heard, deaf = (run(world)[0][f"full, and the first {how}"]["times"] for how in ("slow", "deaf"))
    assert heard < deaf / 2


# ── the shell ──


@started
def test_a_command_of_two_ranks_speaks_once(home: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "large")
    words = ("grow", str(home / "llama"), out, "--ffn", "57", "--json")
    codes, said, beside = torchrun(tmp_path / "a", 2, *words)
    assert codes == [0, 0], beside
    found = json.loads(said[0])
    assert found["out"] == out and found["verification"]["passed"]
    assert said[1] == "" and beside == ["", ""]
    codes, said, beside = torchrun(tmp_path / "b", 2, *words)
    assert codes == [2, 2]
    assert beside == [f"refused: {out} exists: name another folder, or give --overwrite to replace it\n", ""]
    assert "exists" in json.loads(said[0])["refused"]["why"] and said[1] == ""


@started
def test_a_proof_that_fails_fails_all(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that holds NaN can't be proven: it is not written, and both ranks end with 1."""
    out = tmp_path / "large"
    words = ("grow", home / "spoiled", out, "--ffn", "57", "--init-std", "0.02", "--json")
    codes, said, beside = torchrun(tmp_path / "a", 2, *words)
    assert codes == [1, 1], beside
    assert json.loads(said[0])["out"] is None and beside[0].startswith("failed: ")
    assert said[1] == "" and not out.exists()


@started
def test_torchrun_ends_all_when_one_is_killed(tmp_path: Path) -> None:
    """In the middle of many files; there is no OUT, and one process goes on, to the same bytes."""
    sizes = dict(vocab_size=4096, hidden_size=512, intermediate_size=1536, num_hidden_layers=6)
    config = transformers.LlamaConfig(**sizes, num_attention_heads=8)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "small")
    out = tmp_path / "large"
    words = ("grow", tmp_path / "small", out, "--ffn", "x2", "--layers", "+2", "--max-shard-size", "10MB")
    job = truly(2, *words, "--no-verify")
    while job.poll() is None and not list(partial_of(out).glob("*.safetensors")):
        time.sleep(0.001)
    os.kill(ranks_of(job)[1], signal.SIGKILL)
    said, _ = job.communicate(timeout=100)
    assert job.returncode == 1 and "SIGKILL" in said, said
    assert not out.exists() and partial_of(out).exists()
    assert command.isogrow(*words, "--no-verify", "--resume").code == 0
    assert command.isogrow(*words[:2], tmp_path / "one", *words[3:], "--no-verify").code == 0
    assert digests(out) == digests(tmp_path / "one")


# ── alone ──


def started_by_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(meeting.SET, ("0", "2", "127.0.0.1", "0"), strict=True):
        monkeypatch.setenv(name, value)


@pytest.mark.slow
def test_a_process_alone_gathers_nobody(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one of several that says so."""
    monkeypatch.setattr(meeting, "_ranks", None)  # what loads all that ranks need
    isogrow.grow_checkpoint(home / "llama", tmp_path / "a", **LLAMA)
    started_by_torchrun(monkeypatch)
    isogrow.grow_checkpoint(home / "llama", tmp_path / "b", **LLAMA, alone=True)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") == weights(home / "one llama")
    with pytest.raises(TypeError):  # the proof that it would
        isogrow.grow_checkpoint(home / "llama", tmp_path / "c", **LLAMA)


def test_ranks_that_do_not_come_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of two of which one asks: it does not wait for ever."""
    started_by_torchrun(monkeypatch)
    monkeypatch.setattr(meeting, "LATE", timedelta(seconds=1))
    with pytest.raises(RankLost, match=r"not all of them have come .* give alone=True"):
        isogrow.grow_checkpoint(tmp_path / "none", tmp_path / "out", ffn=57)
    assert not torch.distributed.is_initialized()


# ── what one process does ──

# The verbs that ranks do not do together, with what each has to be given.
ALONE: Mapping[str, tuple[str, ...]] = {
    "inspect": ("none",),
    "plan": ("none", "--ffn", "x2"),
    "verify": ("none", "none"),
    "report": ("none",),
    "draft": ("none",),
    "families": (),
    "demo": (),
    "train": ("none", "--dry-run"),
}


def test_every_verb_is_done_together_or_by_one() -> None:
    assert {*ALONE, "grow"} == {str(each.name or each.callback.__name__) for each in app.registered_commands}  # type: ignore[union-attr]


@pytest.mark.parametrize("verb", ALONE)
def test_other_ranks_leave_to_the_first_what_one_does(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not so much as look: what they are given is not there. The first looks, and says so."""
    started_by_torchrun(monkeypatch)
    monkeypatch.setenv("RANK", "1")
    done = command.isogrow(verb, *ALONE[verb])
    assert (done.code, done.out, done.err) == (0, "", "")
    if ALONE[verb]:
        monkeypatch.setenv("RANK", "0")
        done = command.isogrow(verb, *ALONE[verb])
        assert done.code == 2 and done.err.startswith("refused: ")


@started
def test_two_ranks_write_one_plan(home: Path, tmp_path: Path) -> None:
    """Each for itself, one would find the other's there; and a proof needs no group."""
    words = ("plan", home / "llama", "--ffn", "57", "--out", tmp_path / "plan.json", "--json")
    codes, said, beside = torchrun(tmp_path / "a", 2, *words)
    assert codes == [0, 0] and beside == ["", ""]
    assert json.loads(said[0])["out"] == str(tmp_path / "plan.json") and said[1] == ""
    assert (tmp_path / "plan.json").exists()
    codes, said, beside = torchrun(tmp_path / "b", 2, "verify", home / "llama", home / "one llama", "--json")
    assert codes == [0, 0] and beside == ["", ""]
    assert json.loads(said[0])["passed"] and said[1] == ""
