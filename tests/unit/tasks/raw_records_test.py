"""JSONL's and TSV's forms of records against TFDS's form of the same."""

import collections

import numpy as np
import pytest

from prompt_tuning.data.sources import read_records
from prompt_tuning.tasks import records
from prompt_tuning.tasks.catalog import DATA_SETS, data_set
from prompt_tuning.testing import shared


def plain(name, record, split="validation"):
  return list(DATA_SETS[name].examples([record], split=split))


_PAIR = {"premise": "It rains.", "hypothesis": "It is wet."}
_BOOLQ = {"question": "is it wet", "passage": "It rains."}
_WIC = {"sentence1": "a bank", "sentence2": "the bank", "word": "bank"}


@pytest.mark.parametrize(
  ("name", "fields", "label", "same", "word"),
  [
    ("boolq", _BOOLQ, 1, True, "True"),
    ("boolq", _BOOLQ, 0, False, "False"),
    ("wic", _WIC, 1, True, "True"),
    ("cb", _PAIR, 1, "contradiction", "contradiction"),
    ("rte", _PAIR, 1, "not_entailment", "not_entailment"),
    ("boolq", _BOOLQ, 1, "1", "True"),
    ("boolq", _BOOLQ, 0, "false", "False"),
  ],
)
def test_labels_of_files_are_those_of_tfds(name, fields, label, same, word):
  of_tfds = plain(name, fields | {"label": label})
  assert of_tfds == plain(name, fields | {"label": same})
  assert of_tfds[0]["targets"] == word


@pytest.mark.parametrize("label", [{}, {"label": -1}, {"label": None}])
def test_without_a_label_the_target_is_unknown(label):
  assert plain("boolq", _BOOLQ | label)[0]["targets"] == "<unk>"


@pytest.mark.parametrize("label", ["maybe", 2, -2, 0.5])
def test_an_unknown_label_is_an_error(label):
  with pytest.raises(ValueError, match=r"one of \['False', 'True'\]"):
    plain("boolq", _BOOLQ | {"label": label})


_QUESTION = {"question": "Who?", "context": "A man."}
_SENTENCE = {"sentence": "Tom saw Bob , he ran .", "pronoun": "he"}
_QUERY = {"query": "@placeholder", "passage": "a", "entities": ["b"]}


@pytest.mark.parametrize(
  ("name", "record", "message"),
  [
    ("squad", _QUESTION | {"answers": [1959]}, "must be a list of texts"),
    ("squad", _QUESTION | {"answers": [None]}, "must be a list of texts"),
    ("squad", _QUESTION | {"answers": "A man"}, "must be a list of"),
    ("record", _QUERY | {"answers": "abc"}, "must be a list of texts"),
    ("record", _QUERY | {"answers": [1]}, "must be a list of texts"),
    (
      "record",
      _QUERY | {"answers": [], "entities": [1]},
      "must be a list of texts",
    ),
    ("dpr", _SENTENCE | {"candidates": "AB", "label": 0}, "a list of texts"),
    ("dpr", _SENTENCE | {"candidates": ["A", "B"], "label": 7}, "counted from"),
    ("stsb", {"sentence1": "a", "sentence2": "b", "label": 9}, "from 0 to 5"),
    ("stsb", {"sentence1": "a", "sentence2": "b", "label": -2}, "from 0 to 5"),
  ],
)
def test_fields_of_another_kind_are_named(name, record, message):
  with pytest.raises(ValueError, match=message):
    plain(name, record)


def test_a_pronoun_that_nobody_resolves():
  record = _SENTENCE | {"candidates": ["Tom", "Bob"], "label": -1}
  assert plain("dpr", record)[0]["targets"] == "<unk>"
  assert plain("dpr", record | {"label": 1})[0]["targets"] == "Bob"


def test_mrqa_as_it_is_published():
  questions = [
    {"qid": "1", "question": "Who?", "answers": ["a man", "the man"]},
    {"qid": "2", "question": "Where?", "answers": ["here"]},
  ]
  assert plain("bio_asq", {"header": {"dataset": "BioASQ"}}) == []
  nested = plain("bio_asq", {"context": "A man.", "qas": questions})
  apart = [
    example
    for question in questions
    for example in plain("bio_asq", {**question, "context": "A man."})
  ]
  assert nested == apart
  assert [each["targets"] for each in nested] == ["a man", "here"]


def test_a_missing_field_is_named():
  with pytest.raises(ValueError, match=r"'passage'.*\['label', 'question'\]"):
    plain("boolq", {"question": "is it wet", "label": 1})
  with pytest.raises(ValueError, match="'sentence' or 'text_a'"):
    plain("sst2", {"label": 1})
  with pytest.raises(ValueError, match="must be text, got 3"):
    plain("sst2", {"sentence": 3, "label": 1})


@pytest.mark.parametrize(
  ("name", "of_tfds", "of_file"),
  [
    (
      "mrpc",
      {"sentence1": "a", "sentence2": "b", "label": 1},
      {"#1 String": "a", "#2 String": "b", "Quality": "1"},
    ),
    (
      "qqp",
      {"question1": "a", "question2": "b", "label": 0},
      {"question1": "a", "question2": "b", "is_duplicate": "0"},
    ),
    (
      "mnli",
      {"premise": "a", "hypothesis": "b", "label": 2},
      {"sentence1": "a", "sentence2": "b", "gold_label": "contradiction"},
    ),
    (
      "mnli",
      {"premise": "a", "hypothesis": "b", "label": 1},
      {"text_a": "a", "text_b": "b", "label": "neutral"},
    ),
    (
      "stsb",
      {"sentence1": "a", "sentence2": "b", "label": 4.4},
      {"text_a": "a", "text_b": "b", "score": "4.400"},
    ),
    (
      "squad",
      {"question": "q?", "context": "c", "answers": {"text": ["a", "b"]}},
      {"question": "q?", "context": "c", "answers": ["a", "b"]},
    ),
  ],
)
def test_fields_of_files_are_those_of_tfds(name, of_tfds, of_file):
  assert plain(name, of_tfds) == plain(name, of_file)


def test_a_passage_of_multirc_is_an_example_for_each_answer():
  passage = {
    "idx": 4,
    "passage": {
      "text": "<b>Sent 1: </b>Bob ran.<br>",
      "questions": [
        {
          "question": "Who ran?",
          "idx": 7,
          "answers": [
            {"text": "Bob", "idx": 1, "label": 1},
            {"text": "Ann", "idx": 2, "label": 0},
          ],
        },
        {
          "question": "What did Bob?",
          "idx": 8,
          "answers": [{"text": "Run", "idx": 3}],
        },
      ],
    },
  }
  first = {
    "paragraph": "<b>Sent 1: </b>Bob ran.<br>",
    "question": "Who ran?",
    "answer": "Bob",
    "label": 1,
    "idx": {"paragraph": 4, "question": 7, "answer": 1},
  }
  made = plain("multirc", passage)
  assert made[:1] == plain("multirc", first)
  assert made[0]["inputs"] == (
    "question: Who ran? answer: Bob paragraph: Sent 1: Bob ran. "
  )
  assert [example["group"] for example in made] == ["4-7", "4-7", "4-8"]
  assert [e["targets"] for e in made] == ["True", "False", "<unk>"]


def test_a_passage_of_record_is_an_example_for_each_answer():
  passage = {
    "idx": 1,
    "passage": {
      "text": "Bob met Ann\n@highlight\nIs it so?\n@highlight\nYes",
      # Offsets with the last included; Ann twice.
      "entities": [
        {"start": 8, "end": 10},
        {"start": 0, "end": 2},
        {"start": 8, "end": 10},
      ],
    },
    "qas": [
      {
        "query": "@placeholder met",
        "idx": 5,
        "answers": [
          {"start": 0, "end": 2, "text": "Bob"},
          {"start": 0, "end": 2, "text": "Bob"},
          {"start": 8, "end": 10, "text": "Ann"},
        ],
      },
      {"query": "and @placeholder", "idx": 6},
    ],
  }
  query = {
    "passage": passage["passage"]["text"],
    "query": "@placeholder met",
    "entities": ["Ann", "Bob"],
    "answers": ["Ann", "Bob"],
    "idx": {"passage": 1, "query": 5},
  }
  made = plain("record", passage)
  assert made[:2] == plain("record", query)
  assert [e["targets"] for e in made] == ["Ann", "Bob", "<unk>"]
  assert [e["group"] for e in made] == ["1-5", "1-5", "1-6"]
  assert made[0]["inputs"] == (
    "query: @placeholder met entities: Ann, Bob "
    "passage: Bob met Ann. Is it so? Yes"
  )


def schema(text, pronoun, place, candidate="Ann", at=0, **label):
  return {
    "text": text,
    "target": {
      "span1_text": candidate,
      "span1_index": at,
      "span2_text": pronoun,
      "span2_index": place,
    },
    **label,
  }


@pytest.mark.parametrize(
  ("text", "pronoun", "place", "marked"),
  [
    ("Ann ran as she could .", "she", 3, "Ann ran as *she* could ."),
    ("Ann left it", "it", 2, "Ann left *it*"),
    ("She saw Ann .", "She", 0, "*She* saw Ann ."),
    # Punctuation without a space, as in one text of the data.
    ('"Fine for him," Ann said. ', "him", 2, '"Fine for *him* ," Ann said.'),
    # A place too early, as in another.
    (
      "Ann might want to use it , but",
      "it",
      3,
      "Ann might want to use *it* , but",
    ),
  ],
)
def test_the_pronoun_is_marked(text, pronoun, place, marked):
  assert plain("wsc", schema(text, pronoun, place))[0]["inputs"] == marked


@pytest.mark.parametrize("place", [9, 2])
def test_a_pronoun_that_is_nowhere_is_an_error(place):
  with pytest.raises(ValueError, match="the pronoun 'he'"):
    plain("wsc", schema("Ann ran there", "he", place))


@pytest.mark.parametrize(
  ("candidate", "at", "target"),
  [
    ("the tree", 0, "The tree"),
    ("His eyes", 3, "his eyes"),
    ("A\nred tree.", 5, "a red tree"),
    ("Nobody", 0, "Nobody"),
  ],
)
def test_the_candidate_is_written_as_in_the_text(candidate, at, target):
  record = schema("The tree and his eyes a red tree it", "it", 8, candidate, at)
  assert plain("wsc", record)[0]["targets"] == target


def test_wsc_trains_on_right_candidates_alone():
  right, wrong = (
    schema("Ann ran as she could .", "she", 3, label=label)
    for label in (True, False)
  )
  assert plain("wsc", right, "train") == plain("wsc", right)
  assert plain("wsc", right)[0]["label"] == 1
  assert plain("wsc", wrong, "train") == []
  assert plain("wsc", wrong)[0]["label"] == 0


def test_similarity_is_rounded_as_float32_rounds_it():
  for label in np.arange(0, 501) / np.float32(100):
    steps = np.round(np.float32(label) * np.float32(5))
    wanted = f"{np.float32(steps) / np.float32(5):.1f}"
    # As text, and as TFDS's float32 becomes a number.
    for given in (f"{label:.2f}", np.float32(label).item()):
      pair = {"sentence1": "a", "sentence2": "b", "label": given}
      assert plain("stsb", pair)[0]["targets"] == wanted


@pytest.mark.parametrize("label", ["much", "nan", "inf"])
def test_a_similarity_that_is_no_number_is_an_error(label):
  with pytest.raises(ValueError, match=f"from 0 to 5, got '{label}'"):
    plain("stsb", {"sentence1": "a", "sentence2": "b", "label": label})


def test_without_a_similarity_the_target_is_unknown():
  (example,) = plain("stsb", {"sentence1": "a", "sentence2": "b"})
  assert example["targets"] == "<unk>"


def test_there_is_no_such_data_set():
  with pytest.raises(ValueError, match=r"no data set 'bolq'.*'boolq'"):
    data_set("bolq")


_TRUTH = {"True", "False"}
_REAL = [
  # File, data set, examples, targets; the sizes of Lester et al. (2021, tab. 7)
  # where the file is all of a split.
  ("superglue/BoolQ/val.jsonl.gz", "boolq", 3270, _TRUTH),
  ("superglue/CB/train.jsonl.gz", "cb", 250, None),
  ("superglue/CB/val.jsonl.gz", "cb", 56, None),
  ("superglue/COPA/train.jsonl.gz", "copa", 400, {"choice1", "choice2"}),
  ("superglue/COPA/val.jsonl.gz", "copa", 100, {"choice1", "choice2"}),
  ("superglue/MultiRC/train.jsonl.gz", "multirc", 27243, _TRUTH),
  ("superglue/MultiRC/val.jsonl.gz", "multirc", 4848, _TRUTH),
  ("superglue/RTE/train.jsonl.gz", "rte", 2490, None),
  ("superglue/RTE/val.jsonl.gz", "rte", 277, None),
  ("superglue/WiC/train.jsonl.gz", "wic", 5428, _TRUTH),
  ("superglue/WiC/val.jsonl.gz", "wic", 638, _TRUTH),
  ("superglue/WSC/train.jsonl.gz", "wsc", 259, None),
  ("superglue/WSC/val.jsonl.gz", "wsc", 104, None),
  ("superglue/AX-b/AX-b.jsonl.gz", "axb", 1104, None),
  ("superglue/AX-g/AX-g.jsonl.gz", "axg", 356, None),
  ("fewglue/BoolQ/train.jsonl.gz", "boolq", 32, _TRUTH),
  ("fewglue/ReCoRD/train.jsonl.gz", "record", None, None),
  ("fewglue/ReCoRD/dev32.jsonl.gz", "record", None, None),
  ("fewglue/MultiRC/train.jsonl.gz", "multirc", None, _TRUTH),
  ("fewglue/WSC/dev32.jsonl.gz", "wsc", 32, None),
  ("classification/cola/dev_subset.jsonl.gz", "cola", 856, None),
  ("classification/mnli/dev_subset.jsonl.gz", "mnli", 1000, None),
  ("classification/mrpc/validation.jsonl.gz", "mrpc", 408, None),
  ("classification/qqp/dev_subset.jsonl.gz", "qqp", 1000, None),
  ("classification/sst2/validation.jsonl.gz", "sst2", 872, None),
  ("classification/stsb/dev_subset.jsonl.gz", "stsb", 575, None),
  ("qa/squad_v1/validation_subset.jsonl.xz", "squad", None, None),
]


@pytest.mark.parametrize(("file", "name", "size", "targets"), _REAL)
def test_real_files_are_read(file, name, size, targets):
  path = shared.data_path(file)
  split = "train" if "/train" in file else "validation"
  rows = (record.fields for record in read_records(str(path)))
  made = list(DATA_SETS[name].examples(rows, split=split))
  assert size is None or len(made) == size
  assert len({tuple(example) for example in made}) == 1, "the same fields"
  words = collections.Counter(example["targets"] for example in made)
  assert records.UNLABELLED not in words
  allowed = targets or set(DATA_SETS[name].words)
  assert not allowed or set(words) == allowed


def test_the_texts_that_t5_wrote_by_hand():
  found = []
  for split in ("train", "val"):
    path = shared.data_path(f"superglue/WSC/{split}.jsonl.gz")
    for record in read_records(str(path)):
      found += [example["inputs"] for example in plain("wsc", record.fields)]
  assert sum(t.endswith('. "Good for *him* ," he said.') for t in found) == 3
  assert sum("they might want to use *it* , but" in t for t in found) == 1
