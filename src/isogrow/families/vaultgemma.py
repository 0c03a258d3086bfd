"""VaultGemma: Gemma 2 without norms behind its branches."""

from __future__ import annotations

from isogrow.families.edits import drop, like
from isogrow.families.gemma import GEMMA2

VAULTGEMMA = like(GEMMA2, "vaultgemma", drop("attn_after mlp_after"))

LAYOUTS = (VAULTGEMMA,)
