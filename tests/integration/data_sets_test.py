"""Public data sets out of TFDS against the same out of files.

TFDS's own code reads JSONL of SuperGLUE here, and what it makes of it is
prepared in a folder of its own: nothing is downloaded.
"""

import gzip
import json
import sys

import pytest

from prompt_tuning.data import providers, text_tasks, tfds_records
from prompt_tuning.data.sources import read_records
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.tasks import from_files, from_tfds
from prompt_tuning.tasks.catalog import DATA_SETS
from prompt_tuning.tasks.rendering import space_punctuation
from prompt_tuning.testing import shared

tfds = pytest.importorskip("tensorflow_datasets", reason="is what is read")
tf = pytest.importorskip("tensorflow", reason="T5 makes its text with it")

_ROWS = {
  "boolq": [
    {"question": "ist's é?", "passage": "It is.", "label": True, "idx": 0},
    {"question": "was it", "passage": "It is.", "label": False, "idx": 1},
  ],
  "cb": [
    {"premise": "a", "hypothesis": "b", "label": label, "idx": number}
    for number, label in enumerate(["neutral", "contradiction", "entailment"])
  ],
  "multirc": [
    {
      "idx": 0,
      "passage": {
        "text": "<b>Sent 1: </b>Bob ran.<br>",
        "questions": [
          {
            "question": "Who ran?",
            "idx": 4,
            "answers": [
              {"text": "Bob", "label": 1, "idx": 9},
              {"text": "Ann", "label": 0, "idx": 10},
            ],
          }
        ],
      },
    }
  ],
  "record": [
    {
      "idx": 3,
      "passage": {
        "text": "Bob met Ann\n@highlight\nAnn saw.",
        "entities": [{"start": 8, "end": 10}, {"start": 0, "end": 2}],
      },
      "qas": [
        {
          "query": "@placeholder met",
          "idx": 7,
          "answers": [{"text": "Bob"}, {"text": "Ann"}],
        },
        {"query": "@placeholder", "idx": 8, "answers": [{"text": "Bob"}]},
      ],
    }
  ],
  "wsc": [
    {
      "text": "The girl says she ran",
      "target": {
        "span1_text": "the girl",
        "span1_index": 0,
        "span2_text": "she",
        "span2_index": 3,
      },
      "label": label,
      "idx": number,
    }
    for number, label in enumerate([False, True])
  ],
}


def ordered(examples):
  return sorted(examples, key=lambda example: json.dumps(example))


@pytest.fixture
def prepare(tmp_path, monkeypatch):
  """Has TFDS prepare rows; returns the file of the rows."""
  tfds.disable_progress_bar()
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))

  def prepare(name):
    file = tmp_path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in _ROWS[name]))
    builder = tfds.builder(
      DATA_SETS[name].tfds, data_dir=str(tmp_path / "tfds")
    )
    monkeypatch.setattr(
      builder,
      "_split_generators",
      lambda *unused: {
        split: builder._generate_examples(str(file), split)
        for split in ("train", "validation")
      },
    )
    builder.download_and_prepare()
    return str(file)

  return prepare


@pytest.fixture
def compared(prepare, tmp_path):
  """Returns the same data set as a task from files and one out of TFDS."""
  names = []

  def compared(name, **options):
    file = prepare(name)
    options["vocabulary"] = ByteVocabulary()
    names.extend([f"data_sets_test_{name}_{kind}" for kind in ("file", "tfds")])
    files = {"train": file, "validation": file}
    of_files = from_files.add(name, files, name=names[-2], **options)
    data_dir = str(tmp_path / "tfds")
    return of_files, from_tfds.add(
      name, name=names[-1], data_dir=data_dir, **options
    )

  yield compared
  for name in names:
    text_tasks.remove(name)
    if (seqio := sys.modules.get("seqio")) is not None:
      seqio.TaskRegistry.remove(name)


@pytest.mark.parametrize("form", ["plain", "named"])
@pytest.mark.parametrize("name", _ROWS)
def test_text_out_of_tfds_is_that_of_files(compared, name, form):
  of_files, of_tfds = compared(name, text_form=form)
  for split in ("train", "validation"):
    wanted = of_files.read(split)
    assert ordered(of_tfds.read(split)) == ordered(wanted)
  assert len(wanted) >= 2


def test_seqio_has_it_too(compared):
  pytest.importorskip("seqio", reason="this is what is tested")
  from prompt_tuning.data.seqio_provider import SeqioProvider

  _, of_tfds = compared("record")
  theirs = SeqioProvider(of_tfds.name).examples("validation")
  texts = [example["inputs_pretokenized"] for example in theirs]
  assert texts == [example["inputs"] for example in of_tfds.read("validation")]


def test_nothing_is_prepared_before_it_is_read(tmp_path):
  name = from_tfds.data_set_task(
    data_set="boolq",
    vocabulary=ByteVocabulary(),
    name="data_sets_test_unprepared",
  )
  provider = providers.find(name)
  provider.check_split("train")
  provider.check_evaluation("validation")
  with pytest.raises(ValueError, match="no split 'dev'"):
    provider.check_split("dev")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("file", "name"),
  [
    ("superglue/BoolQ/val.jsonl.gz", "boolq"),
    ("superglue/CB/train.jsonl.gz", "cb"),
    ("superglue/COPA/train.jsonl.gz", "copa"),
    ("superglue/MultiRC/val.jsonl.gz", "multirc"),
    ("superglue/RTE/train.jsonl.gz", "rte"),
    ("superglue/WiC/val.jsonl.gz", "wic"),
    ("superglue/WSC/train.jsonl.gz", "wsc"),
    ("superglue/WSC/val.jsonl.gz", "wsc"),
    ("fewglue/WSC/dev32.jsonl.gz", "wsc"),
    ("fewglue/ReCoRD/train.jsonl.gz", "record"),
    ("fewglue/ReCoRD/dev32.jsonl.gz", "record"),
    ("superglue/AX-b/AX-b.jsonl.gz", "axb"),
    ("superglue/AX-g/AX-g.jsonl.gz", "axg"),
  ],
)
def test_records_that_tfds_makes_of_real_files(file, name, tmp_path):
  path = shared.data_path(file)
  plain = tmp_path / "rows.jsonl"
  plain.write_bytes(gzip.decompress(path.read_bytes()))
  builder = tfds.builder(DATA_SETS[name].tfds, data_dir=str(tmp_path))
  features = builder.info.features
  of_tfds = [
    tfds_records.plain(features.encode_example(record))
    for _, record in builder._generate_examples(str(plain), "validation")
  ]
  of_file = [record.fields for record in read_records(str(path))]
  made, wanted = (
    list(DATA_SETS[name].examples(records, split="validation"))
    for records in (of_file, of_tfds)
  )
  texts = [
    [(e["inputs"], e["targets"]) for e in each] for each in (made, wanted)
  ]
  assert texts[0] == texts[1]
  assert len(made) > 10


def spaced_by_tensorflow(texts):
  """Spaces around punctuation, as T5's regular expressions put them."""
  texts = tf.strings.regex_replace(texts, "([[:punct:]])", r" \1 ")
  texts = tf.strings.regex_replace(texts, r"\s+", " ")
  return [text.decode() for text in texts.numpy().tolist()]


def test_spaces_around_punctuation_are_tensorflows():
  every = "".join(map(chr, range(1, 0x2100)))
  texts = [f"a{sign}b  {sign}" for sign in every if sign.isprintable()]
  # What Unicode calls space or punctuation, and TensorFlow does not.
  texts += ["a\u00a0b", "a\u2003b", "a\vb", "a\t\r\n\fb", "¿a?b", "«a»", ""]
  assert list(map(space_punctuation, texts)) == spaced_by_tensorflow(texts)


def test_reading_text_is_made_as_tensorflow_makes_it():
  path = shared.data_path("qa/squad_v1/validation_subset.jsonl.xz")
  records = [record.fields for record in read_records(str(path))]
  made = list(DATA_SETS["squad"].examples(records, split="validation"))
  question, context, answer = (
    spaced_by_tensorflow([get(record) for record in records])
    for get in (
      lambda record: record["question"],
      lambda record: record["context"],
      lambda record: record["answers"][0],
    )
  )
  assert [example["targets"] for example in made] == answer
  joined = tf.strings.join(
    ["question:", question, "context:", context], separator=" "
  )
  joined = tf.strings.regex_replace(joined, r"\s+", " ").numpy().tolist()
  assert [example["inputs"].encode() for example in made] == joined


@pytest.mark.parametrize(
  "passage",
  [
    "It ends.\n@highlight\nAnd goes on\n@highlight\nand on",
    "Who?\n@highlight\n'Bob'\n@highlight\n\"Ann\"\n@highlight\nend!",
    "So!\n@highlight\n@highlight\nonce\n@highlight\n\n@highlight\ntwice",
    "No @highlight here\n",
    "\n@highlight\nIt begins so",
  ],
)
def test_highlights_are_joined_as_tensorflow_joins_them(passage):
  wanted = tf.strings.regex_replace(passage, "([.?!\"'])\n@highlight\n", r"\1 ")
  wanted = tf.strings.regex_replace(wanted, "\n@highlight\n", ". ")
  record = {
    "passage": passage,
    "query": "@placeholder",
    "entities": ["Bob"],
    "answers": ["Bob"],
    "idx": {"passage": 0, "query": 0},
  }
  (example,) = DATA_SETS["record"].examples([record], split="validation")
  text = example["inputs"].split("passage: ", 1)[1]
  assert text == wanted.numpy().decode()


def test_similarities_are_rounded_as_tensorflow_rounds_them():
  labels = [number / 1000 for number in range(5001)]
  wanted = tf.as_string(tf.round(tf.constant(labels) * 5) / 5, precision=1)
  made = DATA_SETS["stsb"].examples(
    ({"sentence1": "a", "sentence2": "b", "label": label} for label in labels),
    split="validation",
  )
  texts = [example["targets"].encode() for example in made]
  assert texts == wanted.numpy().tolist()
