"""The names of T5 and of the paper's code, in processes of their own.

There are many, and what made them known cannot forget them all.
"""

import json
import os
import subprocess
import sys

import pytest

from prompt_tuning import paths

_MODULE = "prompt_tuning.tasks.t5_names"
_VARIABLE = "PROMPT_TUNING_T5_VOCABULARY"
_VOCABULARY = str(paths.embedded_dir() / "sentencepiece.model")


def run(script, **environment):
  return subprocess.run(
    [sys.executable, "-c", script],
    env=os.environ | environment,
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.fixture(scope="module")
def known():
  script = f"""
import json, sys
for name in ("seqio", "tensorflow", "tensorflow_datasets"):
  sys.modules[name] = None
from prompt_tuning.data import providers, text_mixtures, text_tasks
providers.find("taskless_super_glue_boolq_v102", module={_MODULE!r})
mixture = providers.find("squad_to_mrqa")
mixture.check_split("train")
mixture.check_evaluation("validation")
print(json.dumps({{
  "tasks": {{t.name: sorted(t.splits) for t in text_tasks.everything()}},
  "mixtures": {{
    m.name: {{
      split: [task.name for task in m.having(split)]
      for split in ("train", "validation")
    }}
    for m in text_mixtures.everything()
  }},
}}))
"""
  result = run(script, **{_VARIABLE: _VOCABULARY})
  assert result.returncode == 0, result.stderr
  return json.loads(result.stdout)


@pytest.mark.parametrize(
  "name",
  [
    "super_glue_cb_v102",
    "taskless_super_glue_record_v102",
    "taskless_super_glue_wsc_v102_simple",
    "task_index_super_glue_multirc_v102",
    "taskless_dpr_v001_simple",
    "glue_rte_v002",
    "taskless_glue_mnli_mismatched_v002",
    "task_index_glue_stsb_v002",
    "glue_mrpc_from_qqp_v002",
    "squad_v010_allanswers",
    "mrqa_textbook_qa_v100",
  ],
)
def test_a_name_of_the_reference_is_known(known, name):
  assert name in known["tasks"]


def test_splits_are_those_of_tfds(known):
  tasks = known["tasks"]
  assert tasks["super_glue_axb_v102"] == ["test"]
  assert tasks["mrqa_drop_v100"] == ["validation"]
  assert tasks["glue_mnli_v002"] == ["train", "validation"]
  assert tasks["taskless_super_glue_wsc_v102_simple"] == [
    "test",
    "train",
    "validation",
  ]


def test_mixtures_train_and_evaluate_what_they_should(known):
  mixtures = known["mixtures"]
  transfer = mixtures["taskless_glue_mrpc_from_qqp_zeroshot_v002"]
  assert transfer["train"] == ["taskless_glue_qqp_v002"]
  assert transfer["validation"] == [
    "taskless_glue_qqp_v002",
    "taskless_glue_mrpc_from_qqp_v002",
  ]
  reading = mixtures["squad_to_mrqa"]
  assert reading["train"] == ["squad_v010_allanswers"]
  assert len(reading["validation"]) == 7
  for name, count in (("", 8), ("_with_dpr", 9)):
    mixture = mixtures[f"task_index_super_glue{name}_v102_proportional"]
    assert len(mixture["train"]) == count
  assert len(mixtures["glue_v002_proportional"]["train"]) == 8


def test_without_a_vocabulary_it_says_how_to_name_one(tmp_path):
  missing = str(tmp_path / "missing.model")
  script = (
    "from prompt_tuning.data import providers\n"
    f"try: providers.find('x', module={_MODULE!r})\n"
    "except ValueError as error: print(error)"
  )
  printed = run(script, **{_VARIABLE: missing}).stdout
  assert "missing.model" in printed
  assert _VARIABLE in printed


@pytest.mark.slow
def test_seqio_knows_them_too():
  pytest.importorskip("seqio", reason="this is what is tested")
  script = f"""
import seqio
import {_MODULE}
task = seqio.get_mixture_or_task("taskless_super_glue_record_v102")
print(sorted(task.splits))
mixture = seqio.get_mixture_or_task("super_glue_v102_proportional")
print(len(mixture.tasks))
"""
  result = run(script, **{_VARIABLE: _VOCABULARY})
  assert result.returncode == 0, result.stderr
  assert result.stdout.splitlines() == ["['test', 'train', 'validation']", "8"]
