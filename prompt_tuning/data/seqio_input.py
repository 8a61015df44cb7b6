"""Examples from seqio Tasks and Mixtures.

The result is NumPy, and everything after it is too. seqio never trims: what
does not fit is cut by `features`, which keeps slots, verbalizers and ends of
sequence, and says what it cut.
"""

import inspect
import os
from collections.abc import Sequence
from typing import Any

import seqio
import tensorflow as tf
from absl import logging

from prompt_tuning.data import streams, text_tasks, vocabularies
from prompt_tuning.data.features import Example
from prompt_tuning.data.providers import Targets, check_targets
from prompt_tuning.data.seqio_tasks import ExamplesSource, as_numpy

TaskOrMixture = seqio.Task | seqio.Mixture


def find(
  name: str, *, module: str | None = None, cache_dirs: Sequence[str] = ()
) -> TaskOrMixture:
  """Returns a registered Task or Mixture.

  Args:
    name: MIXTURE_OR_TASK_NAME.
    module: MIXTURE_OR_TASK_MODULE, imported first, as it registers tasks.
    cache_dirs: SEQIO_CACHE_DIRS, folders in which seqio is to look for cached
      tasks from now on, besides those that it knows.

  Raises:
    ValueError: The module cannot be imported, or nothing has this name; near
      names are listed.
  """
  text_tasks.import_module(module)
  names = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
  if name not in names:
    imported = (
      f"MIXTURE_OR_TASK_MODULE {module!r} was imported"
      if module
      else "no MIXTURE_OR_TASK_MODULE was imported"
    )
    raise ValueError(
      f"there is no task or mixture {name!r} among {len(names)}; near names: "
      f"{text_tasks.near(name, names)}; {imported}"
    )
  seqio.add_global_cache_dirs([os.path.expanduser(d) for d in cache_dirs])
  return seqio.get_mixture_or_task(name)


def check_vocabulary(
  provider: TaskOrMixture, vocabulary: vocabularies.Vocabulary
) -> None:
  """Checks that a Task's ids are the model's.

  Vocabularies are compared by content: the same model file may lie elsewhere.

  Raises:
    ValueError: A feature of the Task has another vocabulary.
  """
  expected = vocabulary.seqio()
  for task in seqio.get_subtasks(provider):
    for name, feature in task.output_features.items():
      if not _same_ids(feature.vocabulary, expected):
        raise ValueError(
          f"feature {name!r} of task {task.name!r} has the vocabulary "
          f"{feature.vocabulary} and the model {expected}; their ids differ"
        )


def read_task(
  name: str,
  split: str,
  *,
  use_cached: bool = False,
  module: str | None = None,
  seed: int = 0,
) -> list[Example]:
  """Reads a split of a Task into memory, tokenised and never trimmed.

  Args:
    name: MIXTURE_OR_TASK_NAME; a Mixture has no one list, see
      `training_stream`.
    split: Such as "train".
    use_cached: USE_CACHED_TASKS: read what seqio cached.
    module: MIXTURE_OR_TASK_MODULE, imported first.
    seed: For preprocessors that draw at random; they draw once.

  Returns:
    Mappings with int32 `inputs` and `targets`; texts, numbers and whatever else
    the Task keeps beside them.

  Raises:
    ValueError: The Task, split or cache does not exist, or a preprocessor wants
      the feature lengths in order to trim.
  """
  provider = find(name, module=module)
  if not isinstance(provider, seqio.Task):
    raise ValueError(
      f"{name!r} is a mixture of {[t.name for t in provider.tasks]}; read one "
      "of its tasks, or draw from it with training_stream"
    )
  return _read(provider, split, use_cached=use_cached, seed=seed)


def training_stream(
  name: str,
  split: str = "train",
  *,
  seed: int,
  use_cached: bool = False,
  module: str | None = None,
  targets: Targets | None = None,
) -> streams.ExampleStream:
  """Returns endless shuffled examples of a Task, or of a Mixture at its rates.

  Args:
    name: MIXTURE_OR_TASK_NAME.
    split: Such as "train"; tasks of a mixture without it are left out.
    seed: Decides the order and the draws.
    use_cached: USE_CACHED_TASKS: read what seqio cached.
    module: MIXTURE_OR_TASK_MODULE, imported first.
    targets: The tokens of every target that may occur, and its text; None
      takes any.

  Raises:
    ValueError: As `read_task`; or no task of the mixture has the split; or a
      target is not among `targets`.
  """
  provider = find(name, module=module)

  def read(task: seqio.Task) -> list[Example]:
    examples = _read(task, split, use_cached=use_cached, seed=seed)
    check_targets(task.name, examples, targets)
    return examples

  if isinstance(provider, seqio.Task):
    examples = read(provider)
    return streams.ExamplesInMemory(examples, seed=seed)
  tasks = _with_split(provider, split, use_cached=use_cached)
  left_out = [task.name for task in provider.tasks if task not in tasks]
  if left_out:
    logging.info("Mixture %s: %s have no %r split.", name, left_out, split)
  return streams.MixtureStream(
    {
      task.name: streams.ExamplesInMemory(read(task), seed=seed)
      for task in tasks
    },
    rates={task.name: provider.get_rate(task) for task in tasks},
    seed=seed,
  )


def _with_split(
  mixture: seqio.Mixture, split: str, *, use_cached: bool
) -> list[seqio.Task]:
  """Returns the tasks of a mixture that have the split."""
  tasks = [
    task
    for task in mixture.tasks
    if split in splits(task, use_cached=use_cached)
  ]
  if not tasks:
    raise ValueError(
      f"no task of the mixture {mixture.name!r} has a split {split!r}"
    )
  return tasks


def _read(
  task: seqio.Task, split: str, *, use_cached: bool, seed: int
) -> list[Example]:
  check_readable(task, split, use_cached=use_cached)
  dataset = task.get_dataset(
    sequence_length=None,
    split=split,
    use_cached=use_cached,
    shuffle=False,
    seed=seed,
    num_epochs=1,
    trim_output_features=False,
  )
  try:
    return [as_numpy(example) for example in dataset.as_numpy_iterator()]
  except tf.errors.OpError as error:
    # TensorFlow's own is no OSError where a file is missing.
    raise ValueError(
      f"task {task.name!r}, split {split!r} cannot be read: {error.message}"
    ) from error


def splits(task: seqio.Task, *, use_cached: bool) -> Sequence[str]:
  """Returns the names of a Task's splits.

  Args:
    task: The Task.
    use_cached: Whether its cache will be read; what is in there needs no
      source.

  Raises:
    ValueError: They are not known before the dataset is prepared.
  """
  if use_cached and task.cache_dir:
    files = tf.io.gfile.glob(f"{task.cache_dir}/info.*.json")
    return sorted(file.rsplit("info.", 1)[1][: -len(".json")] for file in files)
  source: Any = task.source
  # seqio would only say that there are none.
  if isinstance(source, seqio.TfdsDataSource) and not source.splits:
    loader = source.tfds_dataset
    raise ValueError(
      f"task {task.name!r}: the splits of the TFDS dataset {loader.name!r} are "
      f"not known, as it is not prepared in {loader.builder.data_dir!r}. Name "
      "the folder that it was prepared in by --tfds_data_dir, prepare it with "
      "`tfds build`, or give its TfdsDataSource the names of the splits: then "
      "the first run prepares it"
    )
  return task.splits


def check_split(
  provider: TaskOrMixture, split: str, *, use_cached: bool
) -> None:
  """Checks that a split can be read, before all of it is.

  Raises:
    ValueError: As `check_readable`; or no task of the mixture has the split.
  """
  is_task = isinstance(provider, seqio.Task)
  tasks = (
    [provider]
    if is_task
    else _with_split(provider, split, use_cached=use_cached)
  )
  for task in tasks:
    check_readable(task, split, use_cached=use_cached)


def check_readable(task: seqio.Task, split: str, *, use_cached: bool) -> None:
  """Checks that a split of a Task can be read as asked, without trimming.

  Nothing is downloaded, and of a file no more than the first example is read.

  Raises:
    ValueError: The split or cache does not exist, its file cannot be read, or a
      preprocessor wants the feature lengths.
  """
  if use_cached:
    _check_cached(task, split)
  known = splits(task, use_cached=use_cached)
  if split not in known:
    raise ValueError(
      f"task {task.name!r} has no split {split!r}; its splits are "
      f"{sorted(known)}"
    )
  if not use_cached and isinstance(task.source, ExamplesSource):
    task.source.check(split)
  for preprocessor in task.preprocessors:
    if isinstance(preprocessor, seqio.CacheDatasetPlaceholder):
      continue
    wanted = inspect.signature(preprocessor).parameters.get("sequence_length")
    # With a default it can do without, as append_eos_after_trim does.
    if wanted is not None and wanted.default is wanted.empty:
      raise ValueError(
        f"preprocessor {seqio.utils.function_name(preprocessor)} of task "
        f"{task.name!r} wants the feature lengths, which apply after the "
        "task here; running text is read by runs/pretrain.gin and "
        "runs/lm_adapt.gin instead, out of TFDS too: "
        "CORPUS_FILES=['tfds:c4/en:2.2.0@train']"
      )


def _check_cached(task: seqio.Task, split: str) -> None:
  """Checks that seqio has cached a split."""
  remedy = "or set USE_CACHED_TASKS = False"
  if not task.supports_caching:
    raise ValueError(
      f"USE_CACHED_TASKS is set and task {task.name!r} cannot be cached: it "
      f"has no CacheDatasetPlaceholder; give it one, {remedy}"
    )
  if not task.cache_dir:
    folders = seqio.utils.get_global_cache_dirs()
    raise ValueError(
      f"USE_CACHED_TASKS is set and task {task.name!r} is in none of the cache "
      f"folders {list(folders)}{_why_not_cached(task, folders)}; cache it with "
      f"seqio_cache_tasks, name its folder in SEQIO_CACHE_DIRS, {remedy}"
    )
  if not tf.io.gfile.exists(
    seqio.utils.get_cached_info_path(task.cache_dir, split)
  ):
    raise ValueError(
      f"USE_CACHED_TASKS is set and {task.cache_dir} holds no split {split!r} "
      f"of task {task.name!r}; cache it with seqio_cache_tasks, {remedy}"
    )


def _why_not_cached(task: seqio.Task, folders: Sequence[str]) -> str:
  """Returns what is wrong with the folders, as far as it shows."""
  reasons = []
  for folder in folders:
    cache = os.path.join(folder, seqio.utils.get_task_dir_from_name(task.name))
    if not tf.io.gfile.isdir(folder):
      reasons.append(f"{folder} does not exist")
    elif tf.io.gfile.isdir(cache):
      reasons.append(f"{cache} is incomplete, as it lacks the file COMPLETED")
  return f" ({'; '.join(reasons)})" if reasons else ""


def _same_ids(first: seqio.Vocabulary, second: seqio.Vocabulary) -> bool:
  pieces = seqio.SentencePieceVocabulary
  if isinstance(first, pieces) and isinstance(second, pieces):
    return first.sp_model == second.sp_model
  return first == second
