"""Several residual streams: why no new layer is the identity there (docs/laws.md), and what grows."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import families as F
import pytest
import torch
import transformers
from breaking import changed, switched_on
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4HyperConnection
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nTextAltUp, Gemma3nTextLaurelBlock

from isogrow.errors import CheckpointError, LawError, SizeError
from isogrow.laws import check
from isogrow.plans.matching import match
from isogrow.plans.plan import Free, Init
from isogrow.verification.float64 import float64

STREAMS, WIDTH = 3, 8


def test_hyper_connections_mix_their_streams_whatever_their_weights_are() -> None:
    """transformers 5.23 adds hc_eps to a softmax before it makes rows and columns add up to one."""
    said = SimpleNamespace(hc_mult=STREAMS, hc_sinkhorn_iters=20, hc_eps=1e-6, rms_norm_eps=1e-6)
    made = DeepseekV4HyperConnection(SimpleNamespace(**vars(said), hidden_size=WIDTH)).double()  # type: ignore[arg-type]
    state = {name: torch.zeros_like(value) for name, value in made.state_dict().items()}
    state["scale"] = torch.ones_like(state["scale"])
    state["base"] = torch.cat([torch.zeros(2 * STREAMS), 1e4 * torch.eye(STREAMS).flatten()]).double()
    made.load_state_dict(state)  # as near to the identity as weights can bring it
    with float64(), torch.no_grad():
        _, mixed, _ = made(torch.randn(1, 2, STREAMS, WIDTH, dtype=torch.float64))
    apart = (mixed - torch.eye(STREAMS)).abs().max()
    assert mixed.min() > 0
    assert 1e-7 < apart < 1e-5


def test_gemma_3n_adds_its_normalised_stream() -> None:
    """The low-rank part gives what it reads, beside what it makes of it: the layer's input, normalised."""
    config = transformers.Gemma3nTextConfig(hidden_size=WIDTH, laurel_rank=2, altup_num_inputs=STREAMS)
    with float64(), torch.no_grad():
        block = Gemma3nTextLaurelBlock(config).double()
        block.load_state_dict({name: torch.zeros_like(x) for name, x in block.state_dict().items()})
        x = torch.randn(1, 2, WIDTH, dtype=torch.float64)
        assert torch.equal(block(x), x)


def test_gemma_3n_corrects_by_a_factor_that_is_odd() -> None:
    """What a layer corrects is 1 + c · m(x) times, and m(-x) = -m(x): it is not zero for both."""
    config = transformers.Gemma3nTextConfig(hidden_size=WIDTH, altup_num_inputs=STREAMS)
    with float64(), torch.no_grad():
        altup = Gemma3nTextAltUp(config).double()
        x = torch.randn(1, 2, WIDTH, dtype=torch.float64)
        assert torch.allclose(
            altup.compute_router_modalities(-x), -altup.compute_router_modalities(x), rtol=1e-12
        )
        streams = torch.zeros(STREAMS, 1, 2, WIDTH, dtype=torch.float64)
        moved = [altup.correct(streams, sign * x) for sign in (1.0, -1.0)]
    assert max(float(each.abs().max()) for each in moved) > 0


def gemma3n(**changes: Any) -> F.Subject:
    family = F.FAMILIES["gemma3n_text"]
    return F.subject(family, source=family.json(**changes), spread=0.1)


def test_a_sparse_gate_is_copied_whole() -> None:
    """transformers 5.23 keeps of a gate what is above its mean + c · std: that of all, not of a sample."""
    small = gemma3n()
    made = small.plan({"ffn": "x2"})
    assert small.error(made) < F.EXACT
    with pytest.raises(SizeError, match="copies keep its mean and std.*give 74"):
        small.plan({"ffn": 40})
    for slots, change in (
        (("mlp.gate",), lambda _, label, entry: entry if label == "old" else Free(Init("normal", 0.5))),
        (("mlp.down",), switched_on),
    ):
        broken = changed(made, slots, change)
        with pytest.raises(LawError):
            check(small.anatomy, broken)
        assert small.error(broken) > F.BROKEN


def test_where_no_gate_is_sparse_any_size_will_do() -> None:
    small = gemma3n(activation_sparsity_pattern=[0.0] * 4)
    made = small.plan({"ffn": 40})
    assert made.config["intermediate_size"] == [40] * 4
    assert small.error(made) < F.EXACT


@pytest.mark.parametrize("widths", [[37, 37, 41, 37], [37, [], 37, 37], [], 37])
def test_layers_of_several_widths_are_refused(widths: Any) -> None:
    small = gemma3n()
    found = {stored.name: stored.header for stored in small.anatomy.stored}
    with pytest.raises(CheckpointError, match="the same for each layer"):
        match(small.anatomy.layout, {**small.source, "intermediate_size": widths}, found)


@pytest.mark.parametrize(
    ("axis", "why"), [("hidden", "no rule is proven"), ("layers", "divides its residual")]
)
def test_what_streams_leave_alone_is_refused(axis: str, why: str) -> None:
    with pytest.raises(SizeError, match=why):
        gemma3n().plan({axis: "x2"})


@pytest.mark.parametrize("name", ["moonshine", "speech_to_text"])
def test_a_stream_that_no_row_begins_is_said_to_be_given(name: str) -> None:
    """What a front of convolutions writes is never zero: a new layer that adds to it is refused."""
    two = F.subject(F.FAMILIES[name], spread=0.1)
    made = two.plan({"encoder.layers": "+1"})
    assert check(two.anatomy, made) > 0
    for slot in ("encoder.attn.o", "encoder.mlp.down"):
        with pytest.raises(LawError, match=rf"new entries of {slot} at .* would reach old channels"):
            check(two.anatomy, changed(made, (slot,), switched_on))
    layout = two.anatomy.layout
    bare = replace(layout, streams=tuple(replace(stream, given=False) for stream in layout.streams))
    with pytest.raises(LawError, match=r"encoder\.attn.* reads the residual before any row writes to it"):
        check(replace(two.anatomy, layout=bare), made)
