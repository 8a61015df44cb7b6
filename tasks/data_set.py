"""A public data set as a task: its text, what it is measured by, where it is.

The data sets stand in `super_glue`, `glue` and `reading`, and all in `catalog`.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prompt_tuning.tasks import answers, records
from prompt_tuning.tasks.text_form import Rendered, TextForm, text_form_of

Render = Callable[[records.Record], Iterator[Rendered]]
"""Makes the plain text examples of a record."""

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
  """A data set.

  Attributes:
    name: Its name here.
    render: Makes text of its records.
    metric_fns: T5's metrics of it; see `text_tasks.TextTask`.
    postprocess_fn: Makes of a text what they compare.
    words: The words of labels 0, 1, ...; none for free text.
    title: What T5 calls it in front of its text; by default `name`.
    index: Its number in its benchmark, for the indexed form.
    tfds: Its name and version in TFDS.
    tfds_splits: TFDS's name of each split.
    num_train: Training examples that it has as text (Lester et al., 2021, table
      7); 0 for sets that are there to be evaluated.
    trains_on: Tells of an example whether it may be trained on; None for all.
  """

  name: str
  render: Render
  metric_fns: Sequence[Callable[..., Mapping[str, Any]]] = ()
  postprocess_fn: Callable[..., Any] = answers.label
  words: tuple[str, ...] = ()
  title: str = ""
  index: int | None = None
  tfds: str
  tfds_splits: Mapping[str, str] = dataclasses.field(
    default_factory=lambda: {TRAIN: TRAIN, VALIDATION: VALIDATION, TEST: TEST}
  )
  num_train: int = 0
  trains_on: Callable[[Rendered], bool] | None = None

  def examples(
    self,
    of_records: Iterable[records.Record],
    *,
    split: str,
    form: TextForm | str = TextForm.PLAIN,
  ) -> Iterator[Rendered]:
    """Yields the text examples of records.

    Args:
      of_records: Records of a split.
      split: "train" leaves out what is not trained on.
      form: What stands in front of the text.

    Raises:
      ValueError: A record is malformed, or there is no such form.
    """
    text_form = text_form_of(form)
    for record in of_records:
      for example in text_form.apply(
        self.render(record), name=self.title or self.name, index=self.index
      ):
        if split != TRAIN or self.trains_on is None or self.trains_on(example):
          yield example


def by_name(*data_sets: DataSet) -> dict[str, DataSet]:
  """Returns data sets by their names."""
  return {data_set.name: data_set for data_set in data_sets}


def named(name: str, data_sets: Mapping[str, DataSet]) -> DataSet:
  """Returns the data set of a name.

  Raises:
    ValueError: There is none.
  """
  if name not in data_sets:
    near = difflib.get_close_matches(name, data_sets, n=3) or sorted(data_sets)
    raise ValueError(
      f"there is no data set {name!r}; did you mean one of {near}?"
    )
  return data_sets[name]
