"""The text of every data set against what T5's and the paper's code made.

The fixture holds, for 79 tasks of the reference, a record as TFDS has it and
its text before that is tokenised. A task with an index has its sentinel put in
after that, so here it stands in front of the fixture's text.
"""

import json
import re

import pytest

from prompt_tuning.tasks import other_text, reading_text
from prompt_tuning.tasks.catalog import DATA_SETS
from prompt_tuning.testing import shared

_NAME = re.compile(
  r"(?P<form>taskless_|task_index_|)(?P<super>super_)?(glue_|spot_glue_)?"
  r"(?P<name>[a-z0-9_]+?)_v\d+(_allanswers)?(_simple)?(_train|_eval|_examples)*"
  r"(_test(_rc)?)?"
)
# Those beyond the paper's sets are called as their source, and some get a name
# in front that the set itself does not have.
_OTHERS = {
  "xsum": other_text.xsum,
  "cnn_dailymail": other_text.cnn_dailymail,
  "spot_cnn_dailymail": other_text.cnn_dailymail,
  "spot_anli_r1": other_text.anli,
  "spot_snli": other_text.snli,
  "mrqa_drop": reading_text.squad,
  "spot_mrqa_squad": reading_text.squad,
}
_UNNAMED = ("squad", "xsum", "cnn_dailymail", "mrqa_drop")
# The order of the paper's code: alphabetical in GLUE and in SuperGLUE.
_INDEX = {
  name: number
  for names in (
    "cola mnli mrpc qnli qqp glue_rte sst2 stsb wnli",
    "boolq cb copa multirc record rte wic wsc",
  )
  for number, name in enumerate(names.split())
} | {"mnli_matched": 1, "mnli_mismatched": 1, "ax": 1, "axb": 5, "axg": 5}


def fixture():
  path = shared.shared_root() / "fixtures" / "text_preprocessing.json"
  return json.loads(path.read_text()) if path.exists() else {}


CASES = fixture()


def test_the_fixture_is_there():
  shared.fixture_path("text_preprocessing.json")
  assert len(CASES) == 79


def rendered(task, record):
  """Returns what is made of a record, and what stands in front of its text."""
  parts = _NAME.fullmatch(task.removeprefix("pr:"))
  name, form = parts["name"], parts["form"]
  if name in _OTHERS:
    front = name.removeprefix("spot_").removeprefix("mrqa_")
    front = "" if name in _UNNAMED else f"{front} "
    return list(_OTHERS[name](record)), front
  if name == "rte" and not parts["super"]:
    name = "glue_rte"
  data_set = DATA_SETS[name]
  if task.startswith("pr:") or name in _UNNAMED or form == "taskless_":
    form = "plain"
  else:
    form = {"task_index_": "indexed", "": "named"}[form]
  split = "train" if "_train" in task else "validation"
  made = data_set.examples([record], split=split, form=form)
  front = f"<extra_id_{_INDEX[name]}> " if form == "indexed" else ""
  return list(made), front


@pytest.mark.parametrize("task", sorted(CASES) or ["all"])
def test_text_is_that_of_the_reference(task):
  shared.fixture_path("text_preprocessing.json")  # Skips where it is missing.
  record, wanted = CASES[task]["example"], CASES[task]["outputs"]
  made, front = rendered(task, record)
  if task.endswith("_test_rc"):
    # Rank classification there has an example for each label; here labels are
    # ranked when they are evaluated, and the example is the right one.
    wanted = [example for example in wanted if example.pop("is_correct")]
    wanted = [{**wanted[0], "idx": record["idx"]}]
  if "spot" in task and front:
    made = [e | {"inputs": f"{front}{e['inputs']}"} for e in made]
    front = ""
  assert len(made) == len(wanted)
  for example, other in zip(made, wanted, strict=True):
    assert example["inputs"] == front + other["inputs"]
    assert example["targets"] == other["targets"]
    for field in {"idx", "label", "answers"} & set(other) & set(example):
      assert example[field] == other[field]
