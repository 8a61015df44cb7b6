"""Mixtures of public data sets: all of SuperGLUE, or of GLUE, for one model.

Multi-task model tuning (Lester et al., 2021, appendix A) trains on all of
SuperGLUE with the tasks' names in the text, each task as often as it has
examples. Prompts are tuned on one task each; a mixture is for shared ones.
"""

import enum
from collections.abc import Callable, Iterable, Mapping

from prompt_tuning.data import described, text_mixtures
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.tasks import from_files, from_tfds, glue
from prompt_tuning.tasks import super_glue as super_glue_sets
from prompt_tuning.tasks.text_form import TextForm
from prompt_tuning.types import enum_member

BENCHMARKS: Mapping[str, tuple[str, ...]] = {
  "super_glue": tuple(super_glue_sets.DATA_SETS),
  # The paper's multi-task baseline adds DPR to WSC's few examples.
  "super_glue_with_dpr": (
    *super_glue_sets.DATA_SETS,
    super_glue_sets.DEFINITE_PRONOUNS.name,
  ),
  # Of MNLI the matched validation split is its own; the other is added.
  "glue": (*glue.DATA_SETS, "mnli_mismatched"),
}
"""The data sets of each mixture out of TFDS."""


class Mixing(enum.Enum):
  """How often a task comes: as often as others, or as it has examples."""

  EQUAL = "equal"
  PROPORTIONAL = "proportional"


def of_files(
  *,
  name: str,
  files: Mapping[str, Mapping[str, str]],
  vocabulary: Vocabulary,
  text_form: TextForm | str = TextForm.NAMED,
  mixing: Mixing | str = Mixing.PROPORTIONAL,
  maximum: int | None = None,
) -> str:
  """Describes a mixture of data sets from files.

  Args:
    name: The mixture's name; its tasks are `<name>_<data set>`.
    files: The files of each data set, by split; see `from_files.add`. A set
      without a training file is only evaluated.
    vocabulary: The backbone's.
    text_form: What stands in front of an example's text, see `TextForm`.
    mixing: How often each task comes.
    maximum: K, where it is proportional: the examples from which a task comes
      no more often; None for no limit.

  Returns:
    The name, to be used as MIXTURE_OR_TASK_NAME.

  Raises:
    ValueError: As `from_files.add` and `text_mixtures.add`; or a maximum is
      given where all come equally often.
  """
  return _describe(
    name,
    files,
    lambda data_set, task: from_files.data_set_task(
      data_set=data_set,
      files=files[data_set],
      vocabulary=vocabulary,
      name=task,
      text_form=text_form,
    ),
    rate=_rate(mixing, maximum),
  )


def of_tfds(
  *,
  name: str,
  benchmark: str,
  vocabulary: Vocabulary,
  text_form: TextForm | str = TextForm.NAMED,
  mixing: Mixing | str = Mixing.PROPORTIONAL,
  maximum: int | None = None,
) -> str:
  """Describes a mixture of data sets out of TFDS.

  Args:
    name: As in `of_files`.
    benchmark: One of `BENCHMARKS`.
    vocabulary: As in `of_files`, and so are the others.
    text_form: See there.
    mixing: See there.
    maximum: See there.

  Returns:
    The name, to be used as MIXTURE_OR_TASK_NAME.

  Raises:
    ValueError: There is no such benchmark; or as `of_files`.
  """
  if benchmark not in BENCHMARKS:
    raise ValueError(
      f"the benchmark must be one of {list(BENCHMARKS)}, got {benchmark!r}"
    )
  return _describe(
    name,
    BENCHMARKS[benchmark],
    lambda data_set, task: from_tfds.data_set_task(
      data_set=data_set, vocabulary=vocabulary, name=task, text_form=text_form
    ),
    rate=_rate(mixing, maximum),
  )


def _describe(
  name: str,
  data_sets: Iterable[str],
  describe: Callable[[str, str], str],
  *,
  rate: text_mixtures.Rate,
) -> str:
  tasks = [describe(data_set, f"{name}_{data_set}") for data_set in data_sets]
  return described.once(
    name,
    ("mixture", tasks, rate),
    lambda: text_mixtures.add(name, tasks, rate=rate),
  )


def _rate(mixing: Mixing | str, maximum: int | None) -> text_mixtures.Rate:
  mixing = enum_member(Mixing, mixing, name="mixing")
  if mixing is Mixing.PROPORTIONAL:
    return text_mixtures.Proportional(maximum)
  if maximum is not None:
    raise ValueError(
      f"a maximum is for proportional mixing, got {maximum} where tasks come "
      "equally often; leave it out"
    )
  return text_mixtures.equal
