"""Public data sets from TensorFlow Datasets, at the versions of the paper.

Records are read as NumPy and rendered in Python, by what renders files too. A
data set that is not prepared in --tfds_data_dir is downloaded when it is first
read, never when it is checked.
"""

import functools

from prompt_tuning.data import described, text_tasks, tfds_records
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.tasks import catalog
from prompt_tuning.tasks.data_set import DataSet
from prompt_tuning.tasks.text_form import Rendered, TextForm, text_form_of


def add(
  data_set: str,
  *,
  vocabulary: Vocabulary,
  name: str | None = None,
  text_form: TextForm | str = TextForm.PLAIN,
  data_dir: str | None = None,
) -> text_tasks.TextTask:
  """Makes a data set of TFDS known as a task.

  Args:
    data_set: Its name in `catalog`, such as "boolq".
    vocabulary: The backbone's.
    name: The task's name; by default the data set's.
    text_form: What stands in front of an example's text, see `TextForm`.
    data_dir: Where TFDS has it or puts it; by default where --tfds_data_dir
      says, or else TFDS's own folder.

  Returns:
    The task.

  Raises:
    ValueError: As `from_files.add`.
  """
  found, form = catalog.data_set(data_set), text_form_of(text_form)
  form.check(vocabulary, index=found.index)
  return text_tasks.add(
    name or data_set,
    {
      split: functools.partial(
        _read, found, split=split, form=form, data_dir=data_dir
      )
      for split in found.tfds_splits
    },
    vocabulary=vocabulary,
    metric_fns=found.metric_fns,
    postprocess_fn=found.postprocess_fn,
  )


def data_set_task(
  *,
  data_set: str,
  vocabulary: Vocabulary,
  name: str | None = None,
  text_form: TextForm | str = TextForm.PLAIN,
) -> str:
  """As `add`, but the same task may be described again.

  Returns:
    The task's name, to be used as MIXTURE_OR_TASK_NAME.
  """
  name = name or data_set
  return described.once(
    name,
    ("tfds", data_set, text_form_of(text_form), vocabulary),
    lambda: add(
      data_set, vocabulary=vocabulary, name=name, text_form=text_form
    ),
  )


# Returns a list, unlike what reads files: a generator's first example would be
# looked at when the task is checked, and that would download the data set.
def _read(
  data_set: DataSet, *, split: str, form: TextForm, data_dir: str | None
) -> list[Rendered]:
  """Reads a split in TFDS's order."""
  source = tfds_records.TfdsSplit(
    data_set.tfds, data_set.tfds_splits[split], data_dir
  )
  return list(data_set.examples(source.records(), split=split, form=form))
