#!/usr/bin/env bash
# transformers 5.23.0: a model that a Trainer trained learns otherwise once it is loaded again.
#
# A Trainer whose tokenizer has a padding token writes that token into the model's config, but the embedding of the model
# that it trains was built without one: `padding_idx` stays None, and the token's row learns wherever the token is a
# label or a word of the text. Saved and loaded again, the embedding is built with `padding_idx`, so the same row gets no
# gradient any more. The function is the same; a run that goes on from the folder is not the run that would have gone on.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/pip" install --quiet transformers==5.23.0 accelerate==1.15.0
cat > "$work/seen.py" <<'PY'
import sys
import tempfile

import torch
import transformers
from tokenizers import Tokenizer, models

transformers.logging.set_verbosity_error()
words = {f"word{i}": i for i in range(32)}
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="word0")), pad_token="word9"
)
model = transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )
)
text = torch.tensor([3, 9, 5, 9])
folder = tempfile.mkdtemp()
trainer = transformers.Trainer(
    model,
    transformers.TrainingArguments(
        folder, max_steps=1, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True
    ),
    train_dataset=[{"input_ids": text, "labels": text}] * 2,
    processing_class=tokenizer,
)
trainer.train()
trainer.save_model(folder)
again = transformers.LlamaForCausalLM.from_pretrained(folder)


def gradient(model: torch.nn.Module) -> float:
    model.zero_grad()
    model(input_ids=text[None], labels=text[None]).loss.backward()
    return model.get_input_embeddings().weight.grad[9].abs().sum().item()


same = torch.equal(model(input_ids=text[None]).logits, again(input_ids=text[None]).logits)
print(f"transformers {transformers.__version__}: the config says padding {model.config.pad_token_id}")
print(f"padding_idx of the embedding in training {model.get_input_embeddings().padding_idx}, "
      f"loaded again {again.get_input_embeddings().padding_idx}; the same logits: {same}")
print(f"gradient of that row: {gradient(model):.3f} in training, {gradient(again):.3f} loaded again")
sys.exit(not (same and gradient(model) > 0 and gradient(again) == 0))
PY
"$work/venv/bin/python" "$work/seen.py"
