"""Local files: what is read, and errors that name file, line and field."""

import gzip
import json
import lzma

import pytest

from prompt_tuning.data import sources, vocabularies
from prompt_tuning.testing import shared

_ROWS = [
  {"text": "so good", "label": 1},
  {"text": "naïve \u2028 plot", "label": 0},
]
_JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _ROWS)
_TSV = "text\tlabel\nso good\t1\nnaïve \u2028 plot\t0\n"


def _write(path, text, *, encoding="utf-8"):
  opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
  with opener(path, "wb") as file:
    file.write(text.encode(encoding))
  return str(path)


def _read(path, **options):
  return [dict(r.fields) for r in sources.read_records(path, **options)]


class TestRecords:
  @pytest.mark.parametrize("compression", ["", ".gz", ".xz"])
  def test_jsonl(self, tmp_path, compression):
    path = _write(tmp_path / f"a.b.jsonl{compression}", _JSONL)
    assert _read(path) == _ROWS

  @pytest.mark.parametrize("compression", ["", ".gz", ".xz"])
  @pytest.mark.parametrize("text", [_TSV, _TSV.replace("\n", "\r\n")])
  def test_tsv_with_header(self, tmp_path, compression, text):
    path = _write(tmp_path / f"a.tsv{compression}", text)
    assert _read(path) == [row | {"label": str(row["label"])} for row in _ROWS]

  def test_tsv_without_header(self, tmp_path):
    path = _write(tmp_path / "a.tsv", 'a "quoted\t1\n')
    rows = _read(path, field_names=["x", "y"])
    assert rows == [{"x": 'a "quoted', "y": "1"}]

  def test_where(self, tmp_path):
    path = _write(tmp_path / "a.tsv", _TSV)
    places = [record.where for record in sources.read_records(path)]
    assert places == [f"{path}, line 2", f"{path}, line 3"]

  def test_missing_field_lists_those_there_are(self, tmp_path):
    (record, _) = sources.read_records(_write(tmp_path / "a.jsonl", _JSONL))
    message = r"line 1: field 'sentence' is missing; .* \['label', 'text'\]"
    with pytest.raises(ValueError, match=message):
      record["sentence"]

  def test_null_field(self, tmp_path):
    (record,) = sources.read_records(_write(tmp_path / "a.jsonl", '{"x":null}'))
    with pytest.raises(ValueError, match="line 1: field 'x' is null"):
      record["x"]

  @pytest.mark.parametrize(
    ("name", "text", "message"),
    [
      ("a.jsonl", "", "holds no records"),
      ("a.tsv", "", "holds no records"),
      ("a.tsv", "text\tlabel\n", "holds no records"),
      ("a.jsonl", '{"x": 1}\n{"x": 2', r"a\.jsonl, line 2: not JSON"),
      ("a.jsonl", '{"x": 1}\n\n{"x": 2}', r"a\.jsonl, line 2: not JSON"),
      ("a.jsonl", "[1]\n", "line 1: expected a JSON object, got list"),
      ("a.tsv", "x\ty\n1\t2\n3\n", r"line 3: 1 columns where .* \['x', 'y'\]"),
      ("a.csv", "x,y\n", r"cannot tell the format of '.*a\.csv'; use \.tsv"),
      ("jsonl", "{}\n", "cannot tell the format"),
      ("a.gz", "{}\n", "cannot tell the format"),
    ],
  )
  def test_malformed(self, tmp_path, name, text, message):
    path = _write(tmp_path / name, text)
    with pytest.raises(ValueError, match=message):
      _read(path)

  def test_missing_file(self, tmp_path):
    with pytest.raises(ValueError, match=r"cannot read '.*none\.jsonl'"):
      _read(str(tmp_path / "none.jsonl"))

  @pytest.mark.parametrize("suffix", [".gz", ".xz"])
  def test_file_that_is_not_compressed(self, tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_text(_JSONL)
    with pytest.raises(ValueError, match="truncated or not compressed as"):
      _read(str(path))

  @pytest.mark.parametrize("suffix", [".gz", ".xz"])
  def test_truncated_file(self, tmp_path, suffix):
    path = _write(tmp_path / f"a.jsonl{suffix}", _JSONL * 50)
    with open(path, "rb") as file:
      content = file.read()
    (tmp_path / f"cut.jsonl{suffix}").write_bytes(content[:-20])
    with pytest.raises(ValueError, match="truncated or not compressed as"):
      _read(str(tmp_path / f"cut.jsonl{suffix}"))

  def test_not_utf8(self, tmp_path):
    path = _write(tmp_path / "a.tsv", "text\ncafé\n", encoding="latin-1")
    with pytest.raises(ValueError, match="is not UTF-8 text in line 2"):
      _read(path)

  def test_jsonl_names_its_own_fields(self, tmp_path):
    path = _write(tmp_path / "a.jsonl", _JSONL)
    with pytest.raises(ValueError, match="field_names is for TSV files"):
      _read(path, field_names=["x"])


class TestExamples:
  def test_templates(self, tmp_path):
    path = _write(tmp_path / "a.jsonl", _JSONL)
    (first, _) = sources.examples_from(
      path, inputs="review: {text} {{{label}}}", targets="{label}."
    )
    assert first == {"inputs": "review: so good {1}", "targets": "1."}

  @pytest.mark.parametrize(
    "verbalizers",
    [["bad", "good"], {0: "bad", 1: "good"}, {"1": "good", 0: "bad"}],
  )
  @pytest.mark.parametrize(
    ("name", "text"), [("a.tsv", _TSV), ("a.jsonl", _JSONL)]
  )
  def test_verbalizers(self, tmp_path, name, text, verbalizers):
    path = _write(tmp_path / name, text)
    examples = sources.examples_from(
      path, inputs="{text}", targets="label", verbalizers=verbalizers
    )
    assert [example["targets"] for example in examples] == ["good", "bad"]

  def test_label_outside_the_verbalizers(self, tmp_path):
    path = _write(tmp_path / "a.tsv", "text\tlabel\nso so\t2\n")
    examples = sources.examples_from(
      path, inputs="{text}", targets="label", verbalizers=["bad", "good"]
    )
    message = r"a\.tsv, line 2: label '2' has no verbalizer; the labels are .*1"
    with pytest.raises(ValueError, match=message):
      list(examples)

  @pytest.mark.parametrize(
    ("label", "verbalizers", "word"),
    [
      (True, {"true": "yes", "false": "no"}, "yes"),
      ("false", {True: "yes", False: "no"}, "no"),
      ("entailment", {"entailment": "yes"}, "yes"),
      (-1, {-1: "less", 1: "more"}, "less"),
    ],
  )
  def test_labels_are_compared_as_text(self, label, verbalizers, word):
    assert sources.verbalize(label, verbalizers=verbalizers) == word

  @pytest.mark.parametrize("label", [-1, 2, "good", 0.0, None])
  def test_position_is_no_python_index(self, label):
    with pytest.raises(ValueError, match="has no verbalizer"):
      sources.verbalize(label, verbalizers=["bad", "good"])

  def test_a_word_is_no_list_of_words(self):
    with pytest.raises(ValueError, match="must be a list or mapping"):
      sources.verbalize(0, verbalizers="good")

  @pytest.mark.parametrize(
    ("name", "text"),
    [
      ("a.tsv", "x\ttask\nhi\t0\nho\t12\n"),
      ("a.jsonl", '{"x": "hi", "task": 0}\n{"x": "ho", "task": "12"}\n'),
    ],
  )
  def test_prompt_of_a_bank(self, tmp_path, name, text):
    path = _write(tmp_path / name, text)
    examples = sources.examples_from(
      path, inputs="{x}", targets="{x}", prompt_index="task"
    )
    assert [example["prompt_index"] for example in examples] == [0, 12]

  @pytest.mark.parametrize(
    ("value", "message"),
    [
      ("-1", "line 1: field 'task' must be the number of a prompt, .* got -1"),
      ("1.0", "got 1.0"),
      ("true", "got True"),
      ('"rte"', "got 'rte'"),
      ("null", "line 1: field 'task' is null"),
    ],
  )
  def test_number_of_no_prompt(self, tmp_path, value, message):
    path = _write(tmp_path / "a.jsonl", f'{{"x": "hi", "task": {value}}}\n')
    examples = sources.examples_from(
      path, inputs="{x}", targets="{x}", prompt_index="task"
    )
    with pytest.raises(ValueError, match=message):
      list(examples)

  def test_field_that_is_no_text(self, tmp_path):
    path = _write(tmp_path / "a.jsonl", '{"x": ["a"]}\n')
    with pytest.raises(ValueError, match="line 1: field 'x' is a list"):
      list(sources.examples_from(path, inputs="{x}", targets="{x}"))

  def test_real_file(self):
    path = shared.data_path("classification/sst2/validation.jsonl.gz")
    (record, *_) = sources.read_records(str(path))
    text_field = next(k for k in record.fields if k != "label")
    examples = list(
      sources.examples_from(
        str(path),
        inputs=f"{{{text_field}}}",
        targets="label",
        verbalizers=["negative", "positive"],
      )
    )
    # The official development set of SST-2.
    targets = [example["targets"] for example in examples]
    assert (len(targets), targets.count("positive")) == (872, 444)


def test_tokenized_examples_end_with_the_end_of_sequence():
  vocabulary = vocabularies.ByteVocabulary()
  (example,) = sources.tokenize_examples(
    [{"inputs": "hi", "targets": "é", "prompt_index": 2}], vocabulary
  )
  assert example["inputs"].tolist() == [ord("h") + 3, ord("i") + 3, 1]
  assert example["targets"].tolist() == [0xC3 + 3, 0xA9 + 3, 1]
  assert example["inputs"].dtype.name == "int32"
  assert example["inputs_pretokenized"] == "hi"
  assert example["targets_pretokenized"] == "é"
  assert example["prompt_index"] == 2


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_plain_text_is_documents_apart_by_empty_lines(tmp_path, suffix):
  text = "\n\nOne.\nTwo.\n \n\nThree.\r\n\nFour.\n"
  path = _write(tmp_path / f"corpus.txt{suffix}", text)
  records = list(sources.read_documents(path))
  assert [r["text"] for r in records] == ["One.\nTwo.", "Three.", "Four."]
  assert records[1].where == f"{path}, line 7"


def test_documents_of_records_are_their_records(tmp_path):
  path = _write(tmp_path / "a.jsonl", '{"text": "One."}\n{"text": "Two."}\n')
  assert [r["text"] for r in sources.read_documents(path)] == ["One.", "Two."]


def test_plain_text_of_nothing(tmp_path):
  with pytest.raises(ValueError, match=r"a\.txt' holds no text"):
    list(sources.read_documents(_write(tmp_path / "a.txt", "\n \n")))
