#!/usr/bin/env bash
# transformers 4.57.6 to 5.23.0: LukeForMaskedLM no longer ties its head of words to the words' embedding.
#
# Up to 4.57 that head is the embedding, so save_pretrained leaves it out of the file. In 5.23 the class ties the
# entities' head alone, though its config says tie_word_embeddings: the same file loads with a head of random numbers,
# named in a table of what is missing, and the logits of words mean nothing. A model saved by 5.23 has a head of its own.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
for version in 4.57.6 5.23.0; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet torch==2.13.0
    "$work/$version/bin/pip" install --quiet "transformers==$version"
done
cat > "$work/seen.py" <<'PY'
import sys

import torch
import transformers
from safetensors import safe_open
from transformers import LukeConfig, LukeForMaskedLM

folder, ids = sys.argv[1], torch.arange(3, 14)[None]
if transformers.__version__.startswith("4."):
    torch.manual_seed(5)
    sizes = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=28)
    rest = dict(vocab_size=40, entity_vocab_size=12, entity_emb_size=10, max_position_embeddings=32)
    model = LukeForMaskedLM(LukeConfig(**sizes, **rest)).eval()
    model.save_pretrained(folder)
model = LukeForMaskedLM.from_pretrained(folder).eval()
words = model.luke.embeddings.word_embeddings.weight
head = model.lm_head.decoder.weight
with safe_open(f"{folder}/model.safetensors", "pt") as file:
    stored = [name for name in file.keys() if "lm_head.decoder.weight" in name]
alike = bool(torch.equal(head, words))
print(f"transformers {transformers.__version__}: tie_word_embeddings {model.config.tie_word_embeddings}")
print(f"  stored heads of words: {stored}; the loaded head is the embedding: {alike}")
with torch.no_grad():
    print(f"  first logits: {[round(x, 4) for x in model(ids).logits[0, 0, :4].tolist()]}")
sys.exit(alike != (sys.argv[2] == "tied"))
PY
"$work/4.57.6/bin/python" "$work/seen.py" "$work/model" tied
"$work/5.23.0/bin/python" "$work/seen.py" "$work/model" apart
