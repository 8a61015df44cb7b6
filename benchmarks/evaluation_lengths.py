"""Times rank classification of inputs of given lengths by LENGTH_BUCKETS.

python -m benchmarks.evaluation_lengths --lengths_file=lengths.txt

`benchmarks.token_counts` makes the file. Weights and words are random. In one
process, every number of buckets answers all inputs once a round, every second
round backwards; what is compared are neighbours.
"""

import argparse
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import sizes
from benchmarks.summary import Spread, ratios
from prompt_tuning.data.batches import evaluation_batches
from prompt_tuning.data.features import Example, FeatureBuilder, FeatureLengths
from prompt_tuning.evaluate import over_devices
from prompt_tuning.evaluate.rank_classification import (
  RankClassifier,
  Verbalizers,
)
from prompt_tuning.model import t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.prompts import initializers
from prompt_tuning.prompts import layout as layout_lib
from prompt_tuning.prompts.module import Prompt
from prompt_tuning.types import EOS_ID

_FIRST_WORD = 3  # After padding, end of sequence and unknown.
_ROW = "| {} | {} | {:,} | {:.2f} | {:.3f} | {} |"


class Evaluation:
  """All inputs, answered with any number of buckets."""

  def __init__(
    self, lengths: Sequence[int], *, shape: Mapping[str, Any], options: Any
  ):
    """Draws weights and words.

    Args:
      lengths: Tokens of each input.
      shape: Fields of `T5Config`.
      options: Of the command line.
    """
    config = T5Config(**shape)
    prompt = Prompt(
      length=options.prompt_length,
      features=config.embed_dim,
      initializer=initializers.uniform(),
    )
    model = t5.T5(config, prompt=prompt)
    self._params = jax.jit(t5.init_params, static_argnums=0)(
      model, jax.random.key(0)
    )
    self._classifier = RankClassifier(
      model, Verbalizers(texts=("one", "other"), tokens=((3,), (4,)))
    )
    rng = np.random.default_rng(0)
    self._examples: list[Example] = [
      {
        "inputs": np.append(
          rng.integers(_FIRST_WORD, config.vocab_size, length - 1), EOS_ID
        ),
        "targets": [3, EOS_ID],
      }
      for length in lengths
    ]
    self._builder = FeatureBuilder(
      FeatureLengths(options.inputs_length, 2),
      vocab_size=config.vocab_size,
      layout=layout_lib.prefix(options.prompt_length),
    )
    self._batch_size = options.batch_size

  def batches(self, length_buckets: int) -> Any:
    """Yields the batches of `runs/eval.gin`."""
    return evaluation_batches(
      self._examples,
      self._builder,
      batch_size=self._batch_size,
      length_buckets=length_buckets,
    )

  def seconds(self, length_buckets: int) -> float:
    """Lays out and answers everything; returns how long it took."""
    start = time.perf_counter()
    for _ in over_devices.answers(
      lambda params, batch, rngs: self._classifier.predict(params, batch),
      self._params,
      self.batches(length_buckets),
    ):
      pass
    return time.perf_counter() - start


def measure(
  evaluation: Evaluation, buckets: Sequence[int], *, rounds: int
) -> str:
  """Returns the figures as a Markdown table.

  Args:
    evaluation: What is timed.
    buckets: Numbers of buckets; the first is what others are compared with.
    rounds: How often, compiling apart.
  """
  first = {}
  for number in buckets:
    jax.clear_caches()  # Numbers of buckets may have shapes in common.
    first[str(number)] = evaluation.seconds(number)
  for number in buckets:
    evaluation.seconds(number)
  seconds: dict[str, list[float]] = {name: [] for name in first}
  for index in range(rounds):
    for number in buckets[:: -1 if index % 2 else 1]:
      seconds[str(number)].append(evaluation.seconds(number))
  lines = [
    "| buckets | shapes | encoder tokens | with compiling, s | s | times as "
    "fast |",
    "|---|---|---|---|---|---|",
  ]
  for number in buckets:
    name = str(number)
    rows = [
      batch.features["encoder_input_tokens"].shape
      for batch in evaluation.batches(number)
    ]
    lines.append(
      _ROW.format(
        name,
        len(set(rows)),
        sum(size * length for size, length in rows),
        first[name],
        Spread.over(seconds[name]).median,
        ratios(seconds, of=name, to=str(buckets[0])).text(2),
      )
    )
  return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--lengths_file", required=True, type=pathlib.Path)
  parser.add_argument("--size", default="mini", help="a recipe of gin/sizes")
  parser.add_argument("--vocab_size", default=32_128, type=int)
  parser.add_argument("--inputs_length", default=64, type=int)
  parser.add_argument("--prompt_length", default=20, type=int)
  parser.add_argument("--batch_size", default=32, type=int)
  parser.add_argument("--buckets", default=[1, 2, 4, 8], type=int, nargs="+")
  parser.add_argument("--rounds", default=6, type=int)
  options = parser.parse_args(arguments)
  lengths = [int(line) for line in options.lengths_file.read_text().split()]
  shape = sizes.read(options.size, vocab_size=options.vocab_size)
  evaluation = Evaluation(lengths, shape=shape, options=options)
  print(measure(evaluation, options.buckets, rounds=options.rounds))


if __name__ == "__main__":
  main()
