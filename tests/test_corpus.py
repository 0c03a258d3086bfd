"""From files to sequences of tokens."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import datasets
import pytest

from isogrow.errors import RecipeError
from isogrow.recipes.corpus import Sequences, files, sequences, settle
from isogrow.recipes.recipe import Data

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
        (Data(train=("latin.jsonl",)), "latin.jsonl, line 2 is no JSON object with 'text' in UTF-8"),
        (Data(train=("latin.txt",)), "latin.txt is no UTF-8: convert it, or leave it out"),
        (Data(train=("null.jsonl",)), "null.jsonl, line 2: 'text' is null, and a text was expected: correct"),
        (Data(train=("list.jsonl",)), "list.jsonl, line 1: 'text' is ..a., .b.., and a text was"),
        (Data(train=("half.jsonl",)), r"half.jsonl, line 1: 'text' holds half of a character \('.ud800'\)"),
        (Data(train=("numbers",)), r"numbers, row 1 \(the first is 0\): 'text' is null, and a text was"),
        (Data(train=("numbers",), text="n"), "numbers, row 0 .*: 'n' is 3, and a text was expected"),
        (Data(train=("whole.json",)), "whole.json, line 1 is no JSON object with 'text'.* one object a line"),
        (Data(train=("*.GZ",)), "train: .*d.txt.GZ is no text by its name: unpack or"),
        (Data(train=("empty*.txt",)), "train: all 2 files are empty: name files that hold text"),
        (Data(train=("saved",), text="body"), "no column 'body' but text: name it in data, text"),
        (Data(train=("tokens-of-nothing",)), "is not there"),
        (Data(train=("a.txt",), tokenizer="none"), "none is no folder: give a tokenizer's folder, or bytes"),
    ],
)
def test_what_can_not_be_read_is_refused(base: Path, data: Data, message: str) -> None:
    (base / "latin.jsonl").write_bytes(b'{"text": "ok"}\n' + '{"text": "süß"}'.encode("latin-1"))
    (base / "latin.txt").write_bytes(b"some \xe9t\xe9")
    (base / "null.jsonl").write_text('{"text": "a"}\n{"text": null}\n')
    (base / "list.jsonl").write_text('{"text": ["a", "b"]}\n')
    (base / "half.jsonl").write_text('{"text": "a\\ud800"}\n')
    rows = datasets.Dataset.from_dict({"text": ["a", None], "n": [3, 4]})
    rows.save_to_disk(str(base / "numbers"))
    (base / "whole.json").write_text(json.dumps([{"text": ONE}], indent=1))
    (base / "d.txt.GZ").write_bytes(b"\x1f\x8b")
    for number in range(2):
        (base / f"empty{number}.txt").touch()
    with pytest.raises(RecipeError, match=message):
        made(data, base)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({}, "holds no tokenizer that transformers reads .Couldn't instantiate the backend"),
        ({"tokenizer.json": '{"a":'}, "holds no tokenizer that transformers reads .Expecting value"),
        ({"config.json": '{"model_type": "gpt2"}'}, "holds no tokenizer, or one of no words"),
    ],
)
def test_a_folder_without_a_tokenizer_is_refused(base: Path, held: dict[str, str], message: str) -> None:
    (base / "words").mkdir()
    for name, text in held.items():
        (base / "words" / name).write_text(text)
    with pytest.raises(
        RecipeError, match=f"data, tokenizer: .*words {message}.*: give a tokenizer's"
    ) as told:
        made(Data(train=("a.txt",), tokenizer="words"), base)
    assert "\n" not in str(told.value)


def test_a_name_that_is_there_is_no_pattern(base: Path) -> None:
    (base / "b[1].txt").write_text("its own")
    (base / "b1.txt").write_text("another")
    assert files(("b[1].txt",), base, "train") == [base / "b[1].txt"]
    assert files(("b[1-2].txt",), base, "train") == [base / "b1.txt"]


def test_json_is_read_line_by_line(base: Path) -> None:
    (base / "c.jsonl").rename(base / "c.json")
    assert text_of(made(Data(train=("c.json",), length=2), base)).startswith(ONE + THREE[:2])


def begun(base: Path, going_on: bool = True) -> None:
    """A run that goes on (or begins) in the folder as it is now."""
    settle({"train": made(Data(train=("*.txt", "saved"), length=4), base)}, base / "corpus.json", going_on)


def test_a_run_goes_on_with_the_tokens_that_it_began_with(base: Path) -> None:
    begun(base)
    begun(base)
    os.utime(base / "a.txt", ns=(0, 7))  # the same text
    begun(base)
    (base / "d.txt").write_text("more")
    with pytest.raises(
        RecipeError, match="data, train: d.txt is new since the run began, .* as they were, or"
    ):
        begun(base)
    (base / "d.txt").unlink()
    begun(base)
    (base / "a.txt").write_text(ONE.upper())
    with pytest.raises(RecipeError, match="data, train: a.txt has changed since"):
        begun(base)
    (base / "a.txt").unlink()
    with pytest.raises(RecipeError, match="data, train: a.txt is gone since"):
        begun(base)
    begun(base, going_on=False)
    begun(base)


def test_a_saved_dataset_that_is_written_anew_is_another(base: Path) -> None:
    begun(base)
    (arrow,) = (base / "saved").glob("*.arrow")
    changed = datasets.Dataset.from_dict({"text": [TWO, THREE]})
    changed.save_to_disk(str(base / "other"))
    arrow.write_bytes(next((base / "other").glob("*.arrow")).read_bytes())
    with pytest.raises(RecipeError, match=f"data, train: saved/{arrow.name} has changed since"):
        begun(base)


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


def test_pieces_of_a_file_are_the_whole(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a character, or the end of a line, is cut."""
    text = ("süß\r\nx" * 7 + "\N{MUSICAL SYMBOL G CLEF}") * 3
    (base / "long.txt").write_bytes(text.encode())
    data = Data(train=("long.txt",), length=2)
    wanted = text_of(made(data, base))
    for piece in (1, 2, 5):
        monkeypatch.setattr("isogrow.recipes.corpus.PIECE", piece)
        (base / "tokens").rename(base / f"tokens{piece}")
        assert text_of(made(data, base)) == wanted
    assert wanted.encode() == text.encode()[: len(wanted.encode())]
    assert len(wanted.encode()) > len(text.encode()) - 4


def test_bytes_are_those_of_the_file(base: Path) -> None:
    """Ends of lines as they are there, and a mark at the start, too."""
    held = b"\xef\xbb\xbfone\r\ntwo\rthree\n\x00\r\r\n"
    (base / "crlf.txt").write_bytes(held)
    found = made(Data(train=("crlf.txt",), length=len(held)), base)
    assert bytes(found[0]["input_ids"].tolist()) == held


def test_a_corpus_is_not_held_in_memory(base: Path) -> None:
    size = 24_000_000
    (base / "large.txt").write_bytes(b"twelve bytes" * (size // 12))
    tracemalloc.start()
    try:
        assert len(made(Data(train=("large.txt",), length=12), base)) == size // 12
        assert tracemalloc.get_traced_memory()[1] < size // 2
    finally:
        tracemalloc.stop()
