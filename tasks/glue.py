"""GLUE (Wang et al., 2018), as the paper reads and measures it.

Metrics are T5's. MNLI is evaluated on two validation splits, `mnli_matched` and
`mnli_mismatched`; `mnli` itself has the first. The diagnostic set AX has no
public labels. WNLI is among the tasks but not in the mixture, as in T5.

For a transfer without training (Lester et al., 2021, sec. 5), `mrpc_from_qqp`
judges answers in QQP's words on MRPC, and `qqp_from_mrpc` the other way round.
"""

import dataclasses
import functools
from collections.abc import Sequence

from prompt_tuning.metrics import classification, correlation
from prompt_tuning.tasks import answers, glue_text
from prompt_tuning.tasks.data_set import (
  TEST,
  TRAIN,
  VALIDATION,
  DataSet,
  by_name,
)
from prompt_tuning.tasks.glue_text import DUPLICATION, EQUIVALENCE, INFERENCE
from prompt_tuning.tasks.super_glue_text import ENTAILMENT

_ACCURACY = (classification.accuracy,)


def _f1_and_accuracy(words: Sequence[str]):
  negative, positive = words
  f1 = functools.partial(
    classification.f1_with_invalid,
    positive_label=positive,
    negative_label=negative,
  )
  return (f1, classification.accuracy)


_MNLI = DataSet(
  name="mnli",
  render=glue_text.mnli,
  words=INFERENCE,
  metric_fns=_ACCURACY,
  index=1,
  tfds="glue/mnli:1.0.0",
  tfds_splits={TRAIN: TRAIN, VALIDATION: "validation_matched"},
  num_train=392702,
)


def _evaluated_as_mnli(name: str) -> DataSet:
  return dataclasses.replace(
    _MNLI,
    name=name,
    title="mnli",
    tfds=f"glue/{name}:1.0.0",
    tfds_splits={VALIDATION: VALIDATION, TEST: TEST},
    num_train=0,
  )


DATA_SETS = by_name(
  DataSet(
    name="cola",
    render=glue_text.cola,
    words=glue_text.ACCEPTABILITY,
    metric_fns=(
      functools.partial(
        classification.matthews, labels=glue_text.ACCEPTABILITY
      ),
    ),
    index=0,
    tfds="glue/cola:1.0.0",
    num_train=8551,
  ),
  _MNLI,
  DataSet(
    name="mrpc",
    render=glue_text.mrpc,
    words=EQUIVALENCE,
    metric_fns=_f1_and_accuracy(EQUIVALENCE),
    index=2,
    tfds="glue/mrpc:1.0.0",
    num_train=3668,
  ),
  DataSet(
    name="qnli",
    render=glue_text.qnli,
    words=ENTAILMENT,
    metric_fns=_ACCURACY,
    index=3,
    tfds="glue/qnli:1.0.0",
    num_train=104743,
  ),
  DataSet(
    name="qqp",
    render=glue_text.qqp,
    words=DUPLICATION,
    metric_fns=_f1_and_accuracy(DUPLICATION),
    index=4,
    tfds="glue/qqp:1.0.0",
    num_train=363849,
  ),
  DataSet(
    name="glue_rte",
    render=glue_text.rte,
    words=ENTAILMENT,
    metric_fns=_ACCURACY,
    title="rte",
    index=5,
    tfds="glue/rte:1.0.0",
    num_train=2490,
  ),
  DataSet(
    name="sst2",
    render=glue_text.sst2,
    words=glue_text.SENTIMENT,
    metric_fns=_ACCURACY,
    index=6,
    tfds="glue/sst2:1.0.0",
    num_train=67349,
  ),
  DataSet(
    name="stsb",
    render=glue_text.stsb,
    postprocess_fn=answers.similarity,
    metric_fns=(correlation.pearson, correlation.spearman),
    index=7,
    tfds="glue/stsb:1.0.0",
    num_train=5749,
  ),
)

WINOGRAD = DataSet(
  name="wnli",
  render=glue_text.wnli,
  words=glue_text.WINOGRAD,
  metric_fns=_ACCURACY,
  index=8,
  tfds="glue/wnli:1.0.0",
  num_train=635,
)

EVALUATED = by_name(
  _evaluated_as_mnli("mnli_matched"),
  _evaluated_as_mnli("mnli_mismatched"),
  DataSet(
    name="ax",
    render=glue_text.mnli,
    words=INFERENCE,
    title="mnli",
    index=1,
    tfds="glue/ax:1.0.0",
    tfds_splits={TEST: TEST},
  ),
)


def _transferred(target: str, *, source: str) -> DataSet:
  """Returns a data set that is answered in the words of another."""
  judged, answered = DATA_SETS[target], DATA_SETS[source]
  words = dict(zip(answered.words, judged.words, strict=True))
  return dataclasses.replace(
    judged,
    name=f"{target}_from_{source}",
    title=target,
    postprocess_fn=answers.translated(words),
    tfds_splits={VALIDATION: VALIDATION},
    num_train=0,
  )


TRANSFERRED = by_name(
  _transferred("mrpc", source="qqp"), _transferred("qqp", source="mrpc")
)
