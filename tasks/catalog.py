"""All data sets by name."""

from collections.abc import Mapping

from prompt_tuning.tasks import glue, reading, super_glue
from prompt_tuning.tasks.data_set import DataSet, named

DATA_SETS: Mapping[str, DataSet] = {
  **super_glue.DATA_SETS,
  **super_glue.DIAGNOSTICS,
  super_glue.DEFINITE_PRONOUNS.name: super_glue.DEFINITE_PRONOUNS,
  **glue.DATA_SETS,
  glue.WINOGRAD.name: glue.WINOGRAD,
  **glue.EVALUATED,
  **glue.TRANSFERRED,
  **reading.DATA_SETS,
}


def data_set(name: str) -> DataSet:
  """Returns a data set by its name.

  Raises:
    ValueError: There is none; near names are listed.
  """
  return named(name, DATA_SETS)
