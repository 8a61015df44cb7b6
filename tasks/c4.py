"""C4, in T5's names, for what trains on seqio Tasks.

Importing this module, as MIXTURE_OR_TASK_MODULE, makes them known. Span
corruption is what T5 was pre-trained with, prefix language modelling what
adapts it (Raffel et al., 2020, sec. 3; Lester et al., 2021, sec. 3.1). Of span
corruption every target starts with a sentinel; where tasks are to do so too,
see `tasks/sentinel.gin`.

This library's trainer reads the same text by number instead, with
`CORPUS_FILES=["tfds:c4/en:2.2.0@train"]` in `runs/pretrain.gin`.
"""

import seqio

from prompt_tuning.data import seqio_corpora
from prompt_tuning.data.chunks import Objective
from prompt_tuning.tasks import t5_vocabulary

DATA_SET = "c4/en:2.2.0"
SPLITS = ("train", "validation")
TASKS = {
  "c4_v220_span_corruption": Objective.SPAN_CORRUPTION,
  "c4_v220_prefix_lm": Objective.PREFIX_LM,
}

_VOCABULARY = t5_vocabulary.load()

for _name, _objective in TASKS.items():
  seqio_corpora.add_corpus_task(
    _name,
    seqio.TfdsDataSource(tfds_name=DATA_SET, splits=SPLITS),
    vocabulary=_VOCABULARY,
    objective=_objective,
  )
