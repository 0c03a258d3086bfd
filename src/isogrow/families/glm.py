"""GLM: GLM-4 without norms behind its branches."""

from __future__ import annotations

from isogrow.families.edits import drop, like
from isogrow.families.phi3 import GLM4

GLM = like(GLM4, "glm", drop("attn_after mlp_after"))

LAYOUTS = (GLM,)
