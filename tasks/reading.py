"""SQuAD and the sets that the paper carries its prompt over to (sec. 5).

All are measured by SQuAD's exact match and F1, the best over an example's
answers. The six out-of-domain sets of MRQA 2019 (Fisch et al., 2019) have no
training split; TFDS calls what they have `test`.
"""

from prompt_tuning.metrics import question_answering
from prompt_tuning.tasks import answers, reading_text
from prompt_tuning.tasks.data_set import (
  TEST,
  TRAIN,
  VALIDATION,
  DataSet,
  by_name,
)

SQUAD = DataSet(
  name="squad",
  render=reading_text.squad,
  postprocess_fn=answers.answers,
  metric_fns=(question_answering.squad,),
  tfds="squad/v1.1:3.0.0",
  tfds_splits={TRAIN: TRAIN, VALIDATION: VALIDATION},
  num_train=87599,
)


def _out_of_domain(name: str) -> DataSet:
  return DataSet(
    name=name,
    render=reading_text.squad,
    postprocess_fn=answers.answers,
    metric_fns=(question_answering.squad,),
    tfds=f"mrqa/{name}:1.0.0",
    tfds_splits={VALIDATION: TEST},
  )


OUT_OF_DOMAIN = by_name(
  *map(
    _out_of_domain,
    (
      "bio_asq",
      "drop",
      "duo_rc",
      "race",
      "relation_extraction",
      "textbook_qa",
    ),
  )
)
DATA_SETS = {SQUAD.name: SQUAD, **OUT_OF_DOMAIN}
