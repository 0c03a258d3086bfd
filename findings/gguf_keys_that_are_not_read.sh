#!/usr/bin/env bash
# transformers 5.23.0 loads GGUF files (`gguf_file=`) without some of what they say.
#
# Three files as llama.cpp's converter writes them: a Qwen3 whose heads are not hidden / heads wide
# (attention.key_length), a Gemma 3 whose full attention turns 8 times slower (rope.scaling.factor, as the published
# 4B, 12B and 27B have it), and a Llama 3 (the tensor rope_freqs.weight). None of the three reaches the config: the
# Qwen3 gets heads of 128, the other two rotary positions that are not scaled.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/pip" install --quiet transformers==5.23.0 gguf==0.19.0
cat > "$work/seen.py" <<'PY'
import sys
import tempfile

import gguf
import numpy as np
import transformers

transformers.logging.set_verbosity_error()
SIZES = {"context_length": 64, "embedding_length": 16, "block_count": 1, "feed_forward_length": 32}
HEADS = {"attention.head_count": 4, "attention.head_count_kv": 2, "vocab_size": 31}


def config(architecture, tensors=(), **more):
    """What transformers makes of the metadata of a file."""
    with tempfile.TemporaryDirectory() as folder:
        writer = gguf.GGUFWriter(f"{folder}/m.gguf", architecture)
        for key, value in {**SIZES, **HEADS, "attention.layer_norm_rms_epsilon": 1e-6, **more}.items():
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
            add(f"{architecture}.{key}", value)
        writer.add_name("m")
        for name in ("token_embd.weight", *tensors):
            writer.add_tensor(name, np.ones((31, 16) if name.startswith("token") else 2, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return transformers.AutoConfig.from_pretrained(folder, gguf_file="m.gguf")


head = {"attention.key_length": 8, "attention.value_length": 8, "rope.freq_base": 1e6}
qwen = config("qwen3", **head)
print(f"Qwen3 with attention.key_length 8: head_dim {qwen.head_dim}")
gemma = config("gemma3", **head, **{"rope.scaling.type": "linear", "rope.scaling.factor": 8.0})
full = gemma.rope_parameters["full_attention"]
print(f"Gemma 3 with rope.scaling.factor 8: full attention has {full}")
llama = config("llama", ["rope_freqs.weight"], **{"rope.freq_base": 5e5})
print(f"Llama 3 with rope_freqs.weight: {llama.rope_parameters}")
lost = full["rope_type"] == llama.rope_parameters["rope_type"] == "default"
sys.exit(not (qwen.head_dim == 128 and gemma.head_dim == 8 and lost and "factor" not in full))
PY
"$work/venv/bin/python" "$work/seen.py"
