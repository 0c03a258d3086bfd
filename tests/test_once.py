"""What is done once: a source is opened once, a plan's laws are checked once, its network is built once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import GROWTH, checkpoints, grown, isogrow

import isogrow as library
from isogrow import laws
from isogrow.families import layout_of
from isogrow.laws.building import _Builder
from isogrow.planning import planner
from isogrow.plans import matching
from isogrow.stores import sources

Counted = Callable[[], dict[str, int]]


@pytest.fixture
def llama() -> Path:
    return checkpoints()["LlamaForCausalLM"]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, llama: Path) -> Counted:
    """How often the source was opened and matched, laws were checked and networks were built, so far."""
    found = Counter[str]()

    def count(owner: Any, name: str, what: str, when: Callable[..., bool] = lambda *given: True) -> None:
        real = getattr(owner, name)

        def counting(*given: Any, **named: Any) -> Any:
            found[what] += when(*given)
            return real(*given, **named)

        monkeypatch.setattr(owner, name, counting)

    count(sources, "_read", "opened", lambda folder, *rest: folder.resolve() == llama.resolve())
    count(laws, "preserves", "checked")
    count(_Builder, "build", "built")
    return lambda: {what: found[what] for what in ("opened", "checked", "built")}


def once(**changes: int) -> dict[str, int]:
    return {"opened": 1, "checked": 1, "built": 1} | changes


@pytest.mark.slow
@pytest.mark.parametrize("proof", [(), ("--no-verify",)], ids=["verified", "not verified"])
def test_grow(proof: tuple[str, ...], counted: Counted, llama: Path, tmp_path: Path) -> None:
    assert isogrow("grow", llama, tmp_path / "out", *GROWTH, *proof).code == 0
    assert counted() == once()


def test_grow_by_a_plan_of_a_file(counted: Counted, llama: Path, tmp_path: Path) -> None:
    assert isogrow("plan", llama, *GROWTH, "--out", tmp_path / "plan.json").code == 0
    assert counted() == once()
    ran = isogrow("grow", llama, tmp_path / "out", "--plan", tmp_path / "plan.json", "--no-verify")
    assert ran.code == 0
    assert counted() == once(opened=2, checked=2, built=2)  # a second process would count from 0


@pytest.mark.slow
def test_verify(counted: Counted, llama: Path) -> None:
    out = grown()
    before = counted()
    assert isogrow("verify", llama, out).code == 0
    assert {what: n - before[what] for what, n in counted().items()} == once(checked=0)


def test_inspect(counted: Counted, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each growth that it asks about is another plan; what a refusal advises is asked for beside them."""
    asked, advised, hint = list[object](), list[object](), planner._taken
    check, now = laws.check_norms, [asked]

    def taken(*given: Any) -> bool:
        now.append(advised)
        try:
            return hint(*given)
        finally:
            now.pop()

    monkeypatch.setattr(laws, "check_norms", lambda *given: [now[-1].append(given[1]), check(*given)][1])
    monkeypatch.setattr(planner, "_taken", taken)
    assert isogrow("inspect", llama).code == 0
    found, total = counted(), len(asked) + len(advised)
    assert found["opened"] == 1 and found["built"] == total and found["checked"] <= total
    assert len(asked) > len(advised) > 0
    assert all(one != two for n, one in enumerate(asked) for two in asked[:n]), "a plan is asked about twice"


def test_what_is_new(counted: Counted) -> None:
    out = grown()
    before = counted()
    assert isogrow("inspect", out, "--new").code == 0
    assert counted() == before


def test_in_python(counted: Counted, llama: Path, tmp_path: Path) -> None:
    library.grow_checkpoint(llama, tmp_path / "out", ffn="x2")
    assert counted() == once()
    library.plan(llama, ffn="x2")
    assert counted() == once(opened=2, checked=2, built=2)


def test_the_counters_count(counted: Counted, llama: Path) -> None:
    found = sources.open_checkpoint(llama)
    seen = matching.match(layout_of(found.config), found.config, found.headers)
    plan = library.plan(llama, ffn="x2")
    laws.check(seen, plan)
    laws.horizon(seen, plan)
    assert counted() == {"opened": 2, "checked": 2, "built": 3}
