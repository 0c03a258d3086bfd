"""From files to sequences of tokens."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from isogrow.errors import RecipeError
from isogrow.train.corpus import Sequences, sequences
from isogrow.train.recipe import Data

ONE, TWO, THREE = "first line\n", "zweite Zeile: süß\n", "third"


def made(data: Data, base: Path) -> Sequences:
    return sequences(data, data.train, "train", base, base / "tokens")


def text_of(found: Sequences) -> str:
    return b"".join(bytes(found[i]["input_ids"].tolist()) for i in range(len(found))).decode(errors="ignore")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "b.txt").write_text(TWO)
    (tmp_path / "a.txt").write_text(ONE)
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in (ONE, THREE)) + "\n\n")
    datasets.Dataset.from_dict({"text": [THREE, TWO]}).save_to_disk(str(tmp_path / "saved"))
    return tmp_path


def test_every_kind_of_file_in_order(base: Path) -> None:
    found = made(Data(train=("*.txt", "c.jsonl", "saved", "a.txt"), length=2), base)
    whole = ONE + TWO + ONE + THREE + THREE + TWO
    assert text_of(found) == whole.encode()[: 2 * len(found)].decode(errors="ignore")
    assert len(found) == len(whole.encode()) // 2
    assert (found[0]["labels"] == found[0]["input_ids"]).all()


def test_tokens_are_written_once_and_anew_for_other_files(base: Path) -> None:
    data = Data(train=("*.txt",), length=4)
    made(data, base)
    (first,) = (base / "tokens").iterdir()
    before = first.stat().st_mtime_ns
    made(data, base)
    assert first.stat().st_mtime_ns == before
    (base / "a.txt").write_text("something else")
    assert text_of(made(data, base)).startswith("something")
    assert not list(base.glob("tokens/*.unfinished"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(train=("none.txt",)), "train: none.txt is not there"),
        (Data(train=("a.txt",), length=50), "11 tokens are less than one sequence of 50: give more text"),
        (Data(train=("c.jsonl",), text="body"), "c.jsonl, line 1 is no JSON object with 'body'"),
        (Data(train=("saved",), text="body"), "no column 'body' but text: name it in data, text"),
        (Data(train=("tokens-of-nothing",)), "is not there"),
        (Data(train=("a.txt",), tokenizer="none"), "none is no folder: give a tokenizer's folder, or bytes"),
    ],
)
def test_what_can_not_be_read_is_refused(base: Path, data: Data, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        made(data, base)


def test_a_tokenizer_of_ones_own(base: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(("<end>", "first", "line", "third", "?"))}
    own = Tokenizer(models.WordLevel(words, unk_token="?"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    wrapped = PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<end>", unk_token="?")
    wrapped.save_pretrained(base / "words")
    found = made(Data(train=("c.jsonl",), tokenizer="words", length=5), base)
    assert found[0]["input_ids"].tolist() == [1, 2, 0, 3, 0]
