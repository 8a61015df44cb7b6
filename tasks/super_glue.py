"""SuperGLUE (Wang et al., 2019), as the paper reads and measures it.

Metrics are T5's (Lester et al., 2021, appendix A). The score is the mean over
the eight tasks of the mean of each one's metrics, which is what an evaluation
of them all reports as `mean/score`; AX-b and AX-g are for diagnosis and have
none here.
"""

import functools

from prompt_tuning.metrics import classification, grouped, question_answering
from prompt_tuning.tasks import answers, pronouns, super_glue_text
from prompt_tuning.tasks.data_set import (
  TEST,
  TRAIN,
  DataSet,
  by_name,
)
from prompt_tuning.tasks.super_glue_text import COMMITMENT, ENTAILMENT, TRUTH

_FALSE, _TRUE = TRUTH

DATA_SETS = by_name(
  DataSet(
    name="boolq",
    render=super_glue_text.boolq,
    words=TRUTH,
    metric_fns=(classification.accuracy,),
    index=0,
    tfds="super_glue/boolq:1.0.2",
    num_train=9427,
  ),
  DataSet(
    name="cb",
    render=super_glue_text.cb,
    words=COMMITMENT,
    metric_fns=(
      functools.partial(classification.macro_f1, labels=COMMITMENT),
      classification.accuracy,
    ),
    index=1,
    tfds="super_glue/cb:1.0.2",
    num_train=250,
  ),
  DataSet(
    name="copa",
    render=super_glue_text.copa,
    words=super_glue_text.CHOICES,
    metric_fns=(classification.accuracy,),
    index=2,
    tfds="super_glue/copa:1.0.2",
    num_train=400,
  ),
  DataSet(
    name="multirc",
    render=super_glue_text.multirc,
    words=TRUTH,
    postprocess_fn=answers.grouped_label,
    metric_fns=(
      functools.partial(
        grouped.f1_over_all, positive_label=_TRUE, negative_label=_FALSE
      ),
      grouped.exact_match,
    ),
    index=3,
    tfds="super_glue/multirc:1.0.2",
    num_train=27243,
  ),
  DataSet(
    name="record",
    render=super_glue_text.record,
    postprocess_fn=answers.grouped_answers,
    metric_fns=(grouped.once_each(question_answering.squad),),
    index=4,
    tfds="super_glue/record:1.0.2",
    # Of 100,730 queries, one for each right answer.
    num_train=138854,
  ),
  DataSet(
    name="rte",
    render=super_glue_text.rte,
    words=ENTAILMENT,
    metric_fns=(classification.accuracy,),
    index=5,
    tfds="super_glue/rte:1.0.2",
    num_train=2490,
  ),
  DataSet(
    name="wic",
    render=super_glue_text.wic,
    words=TRUTH,
    metric_fns=(classification.accuracy,),
    index=6,
    tfds="super_glue/wic:1.0.2",
    num_train=5428,
  ),
  DataSet(
    name="wsc",
    render=pronouns.wsc,
    title="wsc:",
    postprocess_fn=answers.referent,
    metric_fns=(classification.accuracy,),
    index=7,
    tfds="super_glue/wsc.fixed:1.0.2",
    num_train=259,
    trains_on=pronouns.has_right_candidate,
  ),
)

DIAGNOSTICS = by_name(
  DataSet(
    name="axb",
    render=super_glue_text.axb,
    words=ENTAILMENT,
    title="rte",
    index=5,
    tfds="super_glue/axb:1.0.2",
    tfds_splits={TEST: TEST},
  ),
  DataSet(
    name="axg",
    render=super_glue_text.rte,
    words=ENTAILMENT,
    title="rte",
    index=5,
    tfds="super_glue/axg:1.0.2",
    tfds_splits={TEST: TEST},
  ),
)

# Multi-task model tuning adds it to WSC's few examples (Lester et al., 2021,
# appendix A).
DEFINITE_PRONOUNS = DataSet(
  name="dpr",
  render=pronouns.definite_pronouns,
  title="wsc:",
  metric_fns=(classification.accuracy,),
  index=7,
  tfds="definite_pronoun_resolution:1.1.0",
  # Trained on alone: SuperGLUE's score is the mean of SuperGLUE's tasks.
  tfds_splits={TRAIN: TRAIN, TEST: TEST},
  num_train=1322,
)
