"""Parts of a model that look independent and are not: what couples them is refused, and would show."""

from __future__ import annotations

import families as F
import pytest

from isogrow.errors import SizeError
from isogrow.layouts.config import edited

pytestmark = pytest.mark.slow


def test_landmarks_couple_the_heads() -> None:
    """The inverse that joins Nyströmformer's landmarks starts from the largest number in all heads and texts
    (transformers 5.23): new heads would move what old ones attend to. Without landmarks they are free."""
    family = F.FAMILIES["nystromformer"]
    length = family.sizes["segment_means_seq_len"]
    wanted = {"hidden": 60, "heads": 10}
    coupled = F.subject(family, "", family.json(num_landmarks=2))
    with pytest.raises(SizeError, match="num_landmarks"):
        coupled.plan(wanted)
    free = F.subject(family, "", family.json(num_landmarks=length))
    made = free.plan(wanted)
    assert free.error(made) < F.EXACT
    assert coupled.error(made, edited(free.json(made), {"num_landmarks": 2})) > F.BROKEN


def test_sums_of_a_text_are_normalised_once_more() -> None:
    """LongT5 normalises, of each block of tokens, the sum of what a norm gave: where the epsilon stays no
    growth of hidden keeps both, and so hidden stays; all else grows."""
    family = F.FAMILIES["longt5"]
    source = family.json(encoder_attention_type="transient-global", global_block_size=4)
    subject = F.subject(family, "", source)
    assert subject.error(subject.plan({"ffn": 51, "heads": 9, "head_dim": 11, "layers": "+1"})) < F.EXACT
    with pytest.raises(SizeError, match="encoder_attention_type"):
        subject.plan({"hidden": 35})
