"""What an installed isogrow must do away from its sources: tell its help, and grow a tiny model."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sysconfig
from importlib.resources import files

from transformers import LlamaConfig, LlamaForCausalLM

import isogrow

assert str(files(isogrow)).startswith(sysconfig.get_paths()["purelib"]), "not what was installed"
assert importlib.metadata.version("isogrow") == isogrow.__version__
assert files(isogrow).joinpath("py.typed").is_file(), "the wheel lacks py.typed"

sizes = dict(vocab_size=64, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4)
LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained("small")
for command in ("--help", "grow small large --hidden 32 --heads 8 --ffn x2 --layers +1"):
    subprocess.run(["isogrow", *command.split()], check=True, stdout=subprocess.DEVNULL)
config = LlamaForCausalLM.from_pretrained("large").config
assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (32, 80, 3)
