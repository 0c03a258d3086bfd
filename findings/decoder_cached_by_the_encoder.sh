#!/usr/bin/env bash
# transformers 5.23.0: a T5 with more decoder than encoder layers does not generate with its cache.
#
# `num_decoder_layers` of a T5, mT5, UMT5 or LongT5 may be more than `num_layers`: the model is built, its forward
# pass, with a cache of its own too, is right, and it trains. `generate` sizes the cache by the encoder's layers (a
# cache made from such a config has as many), so the first decoder layer beyond them ends in an IndexError. With
# use_cache=False it generates. BART, whose config counts layers as `decoder_layers`, gets a cache of the decoder's.
# Where the decoder is the shallower one the cache has layers that nothing uses.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/pip" install --quiet transformers==5.23.0
cat > "$work/seen.py" <<'PY'
import sys

import torch
import transformers
from transformers import AutoConfig, AutoModelForSeq2SeqLM, DynamicCache

transformers.logging.set_verbosity_error()
ENCODER, DECODER = 2, 3
T5 = dict(
    vocab_size=64, d_model=24, d_kv=6, d_ff=40, num_heads=4, num_layers=ENCODER, num_decoder_layers=DECODER,
    decoder_start_token_id=0,
)
BART = dict(
    vocab_size=64, d_model=24, encoder_ffn_dim=40, decoder_ffn_dim=40, encoder_attention_heads=4,
    decoder_attention_heads=4, encoder_layers=ENCODER, decoder_layers=DECODER,
)


def said(work):
    try:
        work()
    except IndexError as error:
        return f"IndexError: {error}"
    return "runs"


print(f"transformers {transformers.__version__}, torch {torch.__version__}")
print(f"  {ENCODER} encoder layers, {DECODER} decoder layers")
as_described = True
for kind, own in {"t5": T5, "mt5": T5, "umt5": T5, "longt5": T5, "bart": BART}.items():
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(kind, **own)).eval()
    ids, begun = torch.arange(3, 9)[None], torch.tensor([[0, 5, 9]])
    layers = len(DynamicCache(config=model.config.get_text_config(decoder=True)).layers)
    found = {
        "forward, use_cache": said(lambda: model(ids, decoder_input_ids=begun, use_cache=True)),
        "generate": said(lambda: model.generate(ids, max_new_tokens=4, do_sample=False)),
        "generate, no cache": said(lambda: model.generate(ids, max_new_tokens=4, do_sample=False, use_cache=False)),
    }
    print(f"  {kind:7} a cache of its config has {layers} layers; " + "; ".join(f"{k}: {v}" for k, v in found.items()))
    runs = [words == "runs" for words in found.values()]
    as_described &= (layers, runs) == ((DECODER, [True] * 3) if kind == "bart" else (ENCODER, [True, False, True]))
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py"
