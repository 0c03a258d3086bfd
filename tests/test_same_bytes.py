"""The judge of changes that should change no number: it says the same of the same code, and can fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import same_bytes

from isogrow import families
from isogrow.interpreters import module


@pytest.mark.slow
def test_the_same_code_has_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "digests")
    assert same_bytes.main("write", file, "mpt") == 0
    assert same_bytes.main("compare", file, "mpt") == 0
    kinds = {key.split()[1] for key in json.loads(Path(file).read_text())}
    assert {"expands", "memory", "disk"} < kinds
    assert capsys.readouterr().out.startswith("0 of ")


@pytest.mark.slow
def test_another_bit_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = same_bytes.digests(("mpt",))
    fill_ = module.fill_region_

    def wrong_(out, stored, *rest):  # type: ignore[no-untyped-def]
        fill_(out, stored, *rest)
        if stored.name.endswith("norm_f.weight"):
            out.view(-1)[-1] += 1e-7

    monkeypatch.setattr(module, "fill_region_", wrong_)
    assert "mpt memory transformer.norm_f.weight" in same_bytes.faults(before, same_bytes.digests(("mpt",)))


def test_another_expansion_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(same_bytes.layouts())
    layout = families.LAYOUTS["mpt"]
    monkeypatch.setitem(families.LAYOUTS, "mpt", replace(layout, weights=layout.weights[:-1]))
    assert same_bytes.faults(before, dict(same_bytes.layouts())) == ["mpt expands"]
