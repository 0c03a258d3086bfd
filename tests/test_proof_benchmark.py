"""What a streamed proof is measured against: the forward passes that it makes, of models of one layer."""

from __future__ import annotations

from pathlib import Path

from checkpoints import save, seen

from benchmarks.checkpoint import work


def test_the_passes_of_a_pair_are_those_of_its_proof(tmp_path: Path) -> None:
    """Some widened, some not, of the old and of the new model; a layer takes no more than all of it."""
    small = save(tmp_path / "small", num_hidden_layers=1)
    large = seen(small).grow(tmp_path / "large", {"ffn": 57})
    found = work.passes(str(small), str(large))["passes"]
    assert {(each["large"], each["wide"]) for each in found.values()} >= {(False, True), (True, True)}
    assert all(0 < each["layer"] <= each["seconds"] for each in found.values())
