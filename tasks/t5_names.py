"""The data sets of TFDS under the names of T5 and of the paper's code.

Importing this module, as MIXTURE_OR_TASK_MODULE, makes them known; nothing is
read before it is used. A name has a form, a data set and a version:

* `super_glue_boolq_v102`, `glue_sst2_v002`: the text with the task's name.
* `taskless_super_glue_boolq_v102`: without it, as the paper has it.
* `task_index_super_glue_boolq_v102`: with a sentinel in its place.
* `squad_v010_allanswers`, `mrqa_drop_v100`: there is one form.

WSC is one task, `..._wsc_v102_simple`, which trains on right candidates and is
evaluated on all. Mixtures are `..._super_glue_v102_proportional`, the same
`_with_dpr`, `..._glue_v002_proportional`, `squad_to_drop` and so on,
`squad_to_mrqa`, and `..._glue_mrpc_from_qqp_zeroshot_v002` and the other way
round.

`t5_vocabulary` says which vocabulary they have. A recipe that names a data set
(`tasks/tfds.gin`) takes the model's own.
"""

from collections.abc import Iterable

from prompt_tuning.data import text_mixtures
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.tasks import (
  from_tfds,
  glue,
  reading,
  super_glue,
  t5_vocabulary,
)
from prompt_tuning.tasks.data_set import DataSet
from prompt_tuning.tasks.text_form import TextForm

_FORMS = {
  "": TextForm.NAMED,
  "taskless_": TextForm.PLAIN,
  "task_index_": TextForm.INDEXED,
}
_PROPORTIONAL = text_mixtures.Proportional()


def task_name(data_set: DataSet) -> str:
  """Returns T5's name of a data set, without its form."""
  source = data_set.tfds.split("/")[0]
  name = data_set.name.removeprefix("glue_")
  if data_set is super_glue.DEFINITE_PRONOUNS:
    return "dpr_v001_simple"
  if data_set is reading.SQUAD:
    return "squad_v010_allanswers"
  if name == "wsc":
    return "super_glue_wsc_v102_simple"
  versions = {"super_glue": "v102", "glue": "v002", "mrqa": "v100"}
  return f"{source}_{name}_{versions[source]}"


def _add_all(vocabulary: Vocabulary) -> None:
  for front, form in _FORMS.items():
    _add(_named_sets(), vocabulary, front=front, form=form)
    _mix(
      f"{front}super_glue_v102_proportional",
      super_glue.DATA_SETS.values(),
      front,
    )
    _mix(
      f"{front}super_glue_with_dpr_v102_proportional",
      [*super_glue.DATA_SETS.values(), super_glue.DEFINITE_PRONOUNS],
      front,
    )
    matched = (*glue.DATA_SETS.values(), glue.EVALUATED["mnli_mismatched"])
    _mix(f"{front}glue_v002_proportional", matched, front)
    for name, data_set in glue.TRANSFERRED.items():
      source = glue.DATA_SETS[name.split("_from_")[1]]
      mixture = f"{front}glue_{name}_zeroshot_v002"
      _mix(mixture, [source, data_set], front)
  _add(reading.DATA_SETS.values(), vocabulary, front="", form=TextForm.PLAIN)
  for name, data_set in reading.OUT_OF_DOMAIN.items():
    _mix(f"squad_to_{name}", [reading.SQUAD, data_set], "")
  _mix("squad_to_mrqa", reading.DATA_SETS.values(), "")


def _named_sets() -> Iterable[DataSet]:
  return (
    *super_glue.DATA_SETS.values(),
    *super_glue.DIAGNOSTICS.values(),
    super_glue.DEFINITE_PRONOUNS,
    *glue.DATA_SETS.values(),
    glue.WINOGRAD,
    *glue.EVALUATED.values(),
    *glue.TRANSFERRED.values(),
  )


def _add(
  data_sets: Iterable[DataSet],
  vocabulary: Vocabulary,
  *,
  front: str,
  form: TextForm,
) -> None:
  for data_set in data_sets:
    from_tfds.add(
      data_set.name,
      vocabulary=vocabulary,
      name=f"{front}{task_name(data_set)}",
      text_form=form,
    )


def _mix(name: str, data_sets: Iterable[DataSet], front: str) -> None:
  tasks = [f"{front}{task_name(data_set)}" for data_set in data_sets]
  text_mixtures.add(name, tasks, rate=_PROPORTIONAL)


_add_all(t5_vocabulary.load())
