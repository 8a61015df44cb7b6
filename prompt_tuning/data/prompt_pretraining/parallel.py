"""Work on all cores, its results in order."""

import concurrent.futures
import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from prompt_tuning.data.features import Example, FeatureLengths
from prompt_tuning.data.inputs import Inputs
from prompt_tuning.data.vocabularies import Vocabulary

T = TypeVar("T")
R = TypeVar("R")

_NUMBERS_AT_A_TIME = 256
# No row is cut by them: a pattern has budgets of its own.
_LENGTHS = FeatureLengths(inputs=1024, targets=8)


def ordered_map(
  function: Callable[[T], R],
  items: Iterator[T],
  *,
  num_workers: int | None = None,
  initializer: Callable[..., None] | None = None,
  arguments: Sequence[Any] = (),
) -> Iterator[R]:
  """Yields the result of each item, in the order of the items.

  Memory stays bounded: twice as many items wait as there are processes.

  Args:
    function: What is done; of a module, so that processes find it.
    items: What with.
    num_workers: Processes; one for each core by default. With one, or with
      fewer items, this process does it.
    initializer: Called first in each process.
    arguments: With these.
  """
  workers = num_workers or os.cpu_count() or 1
  first = list(itertools.islice(items, 2 * workers))
  if workers == 1 or len(first) < workers:
    # Starting processes would take longer.
    if initializer is not None:
      initializer(*arguments)
    yield from map(function, itertools.chain(first, items))
    return
  # A fork of a process in which JAX runs may stand still.
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(
    workers, context, initializer=initializer, initargs=tuple(arguments)
  ) as pool:
    waiting = [pool.submit(function, item) for item in first]
    while waiting:
      yield waiting.pop(0).result()
      waiting += [pool.submit(function, i) for i in itertools.islice(items, 1)]


def examples(
  inputs: Inputs,
  vocabulary: Vocabulary,
  count: int,
  *,
  seed: int,
  num_workers: int | None = None,
) -> Iterator[Example]:
  """Yields the first examples of inputs, made on all cores.

  Args:
    inputs: Such as `stream.PretrainingInputs`.
    vocabulary: Gives the ids.
    count: How many.
    seed: Decides them; the number of processes does not.
    num_workers: See `ordered_map`.

  Raises:
    ValueError: As the inputs.
  """
  # Here first: what is to be read or cached once is not by each process.
  inputs.stream(vocabulary, _LENGTHS, seed=seed)
  starts = range(0, count, _NUMBERS_AT_A_TIME)
  numbers = (range(n, min(n + _NUMBERS_AT_A_TIME, count)) for n in starts)
  for made in ordered_map(
    _make,
    iter(numbers),
    num_workers=num_workers,
    initializer=_open,
    arguments=(inputs, vocabulary, seed),
  ):
    yield from made


# Of this process: the one stream that it makes examples of.
_OPEN: dict[str, Any] = {}


def _open(inputs: Inputs, vocabulary: Vocabulary, seed: int) -> None:
  _OPEN["stream"] = inputs.stream(vocabulary, _LENGTHS, seed=seed)


def _make(numbers: range) -> list[Example]:
  return [_OPEN["stream"].example(number) for number in numbers]
