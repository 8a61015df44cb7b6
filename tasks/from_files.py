"""Public data sets from files: no download, and no TensorFlow.

`data_set_task` is what recipes call; see `gin/tasks/data_set.gin`.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence

from prompt_tuning.data import described, text_tasks
from prompt_tuning.data.sources import Record, read_records
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.tasks import catalog
from prompt_tuning.tasks.data_set import DataSet
from prompt_tuning.tasks.text_form import Rendered, TextForm, text_form_of


def add(
  data_set: str,
  files: Mapping[str, str],
  *,
  vocabulary: Vocabulary,
  name: str | None = None,
  text_form: TextForm | str = TextForm.PLAIN,
  field_names: Sequence[str] | None = None,
  prompt_index: str | None = None,
) -> text_tasks.TextTask:
  """Makes a data set from files known as a task.

  Args:
    data_set: Its name in `catalog`, such as "boolq".
    files: The JSONL or TSV file of each split, plain, .gz or .xz; the fields
      are the data set's own, see `super_glue_text` and its neighbours. Of the
      split "train" only what can be trained on is taken: of WSC's examples,
      those whose candidate is right.
    vocabulary: The backbone's.
    name: The task's name; by default the data set's.
    text_form: What stands in front of an example's text, see `TextForm`.
    field_names: Names of the columns of TSV files without a header.
    prompt_index: Name of the field that says which prompt of a bank an example
      takes, counted from 0; None where there is no bank.

  Returns:
    The task.

  Raises:
    ValueError: There is no such data set or form, the vocabulary does not read
      the form's sentinel, or another task has the name.
  """
  found, form = catalog.data_set(data_set), text_form_of(text_form)
  form.check(vocabulary, index=found.index)
  return text_tasks.add(
    name or data_set,
    {
      split: functools.partial(
        _read,
        path,
        data_set=found,
        split=split,
        form=form,
        field_names=field_names,
        prompt_index=prompt_index,
      )
      for split, path in files.items()
    },
    vocabulary=vocabulary,
    metric_fns=found.metric_fns,
    postprocess_fn=found.postprocess_fn,
  )


def data_set_task(
  *,
  data_set: str,
  files: Mapping[str, str],
  vocabulary: Vocabulary,
  name: str | None = None,
  text_form: TextForm | str = TextForm.PLAIN,
  field_names: Sequence[str] | None = None,
  prompt_index: str | None = None,
) -> str:
  """As `add`, but the same task may be described again.

  A recipe names its task wherever that is used, so it is described repeatedly.

  Returns:
    The task's name, to be used as MIXTURE_OR_TASK_NAME.
  """
  name = name or data_set
  how = (text_form_of(text_form).value, field_names and tuple(field_names))
  return described.once(
    name,
    (data_set, sorted(files.items()), how, prompt_index, vocabulary),
    lambda: add(
      data_set,
      files,
      vocabulary=vocabulary,
      name=name,
      text_form=text_form,
      field_names=field_names,
      prompt_index=prompt_index,
    ),
  )


def _read(
  path: str,
  *,
  data_set: DataSet,
  split: str,
  form: TextForm,
  field_names: Sequence[str] | None,
  prompt_index: str | None,
) -> Iterator[Rendered]:
  """Yields the text examples of a file; errors name the file and the line."""
  for record in read_records(path, field_names=field_names):
    try:
      examples = list(
        data_set.examples([record.fields], split=split, form=form)
      )
    except ValueError as error:
      raise ValueError(f"{record.where}: {error}") from error
    except (TypeError, AttributeError, LookupError) as error:
      raise ValueError(
        f"{record.where}: a field is not of the kind that {data_set.name!r} "
        f"has ({type(error).__name__}: {error})"
      ) from error
    for example in examples:
      if prompt_index is not None:
        example["prompt_index"] = _prompt_of(record, prompt_index)
      yield example


def _prompt_of(record: Record, field: str) -> int:
  text = str(record[field])  # TSV has text, JSONL numbers.
  if not (text.isascii() and text.isdecimal()):
    raise ValueError(
      f"{record.where}: field {field!r} must be the number of a prompt, 0, 1, "
      f"2, ..., got {record[field]!r}"
    )
  return int(text)
