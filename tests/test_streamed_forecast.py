"""What a streamed comparison will take is told before a weight is read, and is what it then takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_verify import bert, llama

import isogrow
from isogrow.families import layout_for
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Header
from isogrow.plans.expansions import expansions
from isogrow.plans.matching import match
from isogrow.stores.binding import outputs
from isogrow.verification.memory import BESIDE, TRAINED
from isogrow.verification.streaming import ahead, foretelling, lending, proof
from isogrow.verification.streaming.foretelling import foretold

LLAMA_70B = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8192,
    "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
    "vocab_size": 128256, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "dtype": "bfloat16",
}  # fmt: skip


def headers_of(config: Mapping[str, Any]) -> dict[str, Header]:
    """What a Llama's files hold."""
    hidden, ffn, vocab = (config[name] for name in ("hidden_size", "intermediate_size", "vocab_size"))
    narrow = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    layer = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (narrow, hidden),
        "self_attn.v_proj": (narrow, hidden), "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (ffn, hidden), "mlp.up_proj": (ffn, hidden), "mlp.down_proj": (hidden, ffn),
        "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
    }  # fmt: skip
    shapes = {"model.embed_tokens": (vocab, hidden), "model.norm": (hidden,), "lm_head": (vocab, hidden)}
    layers = range(config["num_hidden_layers"])
    shapes |= {f"model.layers.{n}.{name}": shape for n in layers for name, shape in layer.items()}
    return {f"{name}.weight": Header(shape, "BF16") for name, shape in shapes.items()}


def test_70_billion_are_foretold_within_the_budget() -> None:
    """Two layers of the grown model in float64, a bit for each entry, and 500 MB."""
    old = headers_of(LLAMA_70B)
    anatomy = match(layout_for("llama"), LLAMA_70B, old)
    made = plan(anatomy, expansions({"ffn": 36864, "layers": "+8"}, "end"))
    new = {stored.name: stored.header for stored in outputs(anatomy, made)}
    shapes = [{name: header.shape for name, header in each.items()} for each in (old, new)]
    layer = 2 * 8192 * (8192 + 1024) + 3 * 8192 * 36864 + 2 * 8192
    whole = foretold(shapes[0], shapes[1], (old, new), liveness=True)
    assert 140e9 < sum(2 * n.shape[0] * n.shape[-1] for n in old.values() if len(n.shape) > 1) < 142e9
    assert whole.memory <= 8 * TRAINED * layer + 500e6 < 20e9
    assert whole.trained == int(8 * TRAINED * layer) and TRAINED < 2.02
    runs = foretold(shapes[0], shapes[1], (old, new), liveness=False)
    assert runs.memory == 8 * lending.ENTRIES + BESIDE < 0.6e9
    assert 600e9 < runs.read < whole.read < 900e9
    assert str(whole) == "about 17.5 GB of memory, and 849 GB are read"


class Taken:
    """What a comparison takes: the most bytes of weights that are lent at once, and the bytes of all tensors
    that are looked at, each once in each of its parts."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.lent, self.part, self.looked = 0, "", dict[tuple[str, int, str], int]()
        whole, parts = proof.sources_of, ahead.Ahead.parts

        def sources(*given: Any) -> Any:
            return {name: self._lending(load) for name, load in whole(*given).items()}

        def looked_at(store: ahead.Ahead, name: str) -> Any:
            key = (self.part, id(store), name)
            self.looked[key] = foretelling.nbytes(store.headers[name])
            return parts(store, name)

        patch.setattr(proof, "sources_of", sources)
        patch.setattr(ahead.Ahead, "parts", looked_at)

    def _lending(self, load: Any) -> Any:
        def lend(name: str, region: Any) -> Any:
            entries = load(name, region)
            self.lent = max(self.lent, 8 * entries.numel())
            return entries

        return lend

    def say(self, words: str) -> None:
        self.part = words.partition(":")[0]

    def of(self, *parts: str) -> int:
        return sum(count for (part, *_), count in self.looked.items() if part in parts)


@pytest.mark.parametrize("make", [llama, bert])
def test_a_run_takes_what_was_foretold(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make().save_pretrained(tmp_path / "small")
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", ffn="+6")
    taken = Taken(monkeypatch)
    report = isogrow.verify(tmp_path / "small", tmp_path / "large", streamed=True, progress=taken.say)
    told = report.figures["forecast"]
    assert report.passed
    assert taken.lent == told["lent"]
    trained = taken.of("liveness")
    assert taken.of("weights", "float64 and own dtype") + trained == told["read"] and trained > 0


def test_no_more_of_a_large_matrix_is_lent_than_was_foretold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama().save_pretrained(tmp_path / "small")
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", ffn="+6")
    for each in (lending, foretelling):
        monkeypatch.setattr(each, "ENTRIES", 500)
    monkeypatch.setattr(proof, "TOKENS", 8)  # each looks up a row of the table
    taken = Taken(monkeypatch)
    report = isogrow.verify(
        tmp_path / "small", tmp_path / "large", streamed=True, liveness=False, progress=taken.say
    )
    told = report.figures["forecast"]
    assert report.passed and told["lent"] == 4000
    assert 3000 < taken.lent <= told["lent"] and told["trained"] == 0
    assert taken.of("weights", "float64 and own dtype") <= told["read"]
