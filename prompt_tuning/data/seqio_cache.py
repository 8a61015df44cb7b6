"""Tasks written in the format that seqio reads as cached, without Beam.

`seqio_cache_tasks` needs Apache Beam, which few have at hand; a task that one
machine can read is as well written by one.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from absl import logging

from prompt_tuning import paths
from prompt_tuning.data import seqio_input

_LOG_EVERY = 100_000


def cache_task(
  name: str,
  folder: str | os.PathLike,
  *,
  module: str | None = None,
  splits: Sequence[str] | None = None,
  num_shards: int = 1,
) -> str:
  """Writes what a Task reads of its source, up to where it may be cached.

  The folder appears when all of it is written.

  Args:
    name: MIXTURE_OR_TASK_NAME, a Task.
    folder: One of SEQIO_CACHE_DIRS to be; the task gets a folder in it.
    module: MIXTURE_OR_TASK_MODULE, imported first.
    splits: Which; all by default.
    num_shards: Files of each split.

  Returns:
    The task's folder.

  Raises:
    ValueError: There is no such Task or split, it cannot be cached, or it is
      there already.
  """
  task = seqio_input.find(name, module=module)
  if not isinstance(task, seqio.Task) or not task.supports_caching:
    raise ValueError(
      f"{name!r} cannot be cached: it is a mixture, whose tasks are cached "
      "each by its name, or a task without a seqio.CacheDatasetPlaceholder"
    )
  splits = list(task.splits) if splits is None else list(splits)
  unknown = sorted(set(splits) - set(task.splits))
  if unknown or num_shards < 1:
    raise ValueError(
      f"task {name!r} has the splits {sorted(task.splits)}, asked for were "
      f"{splits}, in {num_shards} files each"
    )
  output = os.path.join(folder, seqio.get_task_dir_from_name(name))
  if paths.exists(output):
    raise ValueError(
      f"{output} is there already; remove it to cache the task again"
    )
  with paths.atomic_directory(output) as place:
    for split in splits:
      _write_split(task, split, str(place), num_shards)
    (place / "COMPLETED").touch()
  return output


def _write_split(
  task: seqio.Task, split: str, folder: str, num_shards: int
) -> None:
  raw = task.source.get_dataset(split, shuffle=False)
  prefix = seqio.utils.get_cached_tfrecord_prefix(folder, split)
  names = [f"{prefix}-{n:05}-of-{num_shards:05}" for n in range(num_shards)]
  count, features = 0, dict[str, Any]()
  with contextlib.ExitStack() as stack:
    writers = [stack.enter_context(tf.io.TFRecordWriter(n)) for n in names]
    for example in task.preprocess_precache(raw).as_numpy_iterator():
      features = features or _described(example)
      proto = seqio.utils.dict_to_tfexample(example)
      writers[count % num_shards].write(proto.SerializeToString())
      count += 1
      if count % _LOG_EVERY == 0:
        logging.info("%s, %s: %d examples.", task.name, split, count)
  if not count:
    raise ValueError(f"task {task.name!r}: split {split!r} has no examples")
  info = {
    "num_shards": num_shards,
    "features": features,
    "seqio_version": seqio.__version__,
  }
  paths.write_text(
    seqio.utils.get_cached_info_path(folder, split), json.dumps(info)
  )
  paths.write_text(
    seqio.utils.get_cached_stats_path(folder, split),
    json.dumps({"examples": count}),
  )
  logging.info("%s, %s: %d examples are cached.", task.name, split, count)


def _described(example: Mapping[str, Any]) -> dict[str, Any]:
  return {
    key: {
      "shape": [None] * np.ndim(value),
      "dtype": "string" if _is_text(value) else str(np.asarray(value).dtype),
    }
    for key, value in example.items()
  }


def _is_text(value: Any) -> bool:
  return isinstance(value, bytes) or np.asarray(value).dtype == object
