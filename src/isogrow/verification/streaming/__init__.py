"""Proof in bounded memory: both models abreast, layer by layer, their weights read as they are used."""

from isogrow.verification.streaming.foretelling import foretold_of
from isogrow.verification.streaming.opening import streamed_pair
from isogrow.verification.streaming.proof import streamed_checks

__all__ = ["foretold_of", "streamed_checks", "streamed_pair"]
