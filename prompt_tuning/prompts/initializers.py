"""How a soft prompt starts (Lester et al., 2021, sec. 3.2).

Each function returns an initialiser `(rng, shape, dtype) -> [P, D]` and works
under `jit` and shape evaluation. Tables of embeddings are rows of the frozen
backbone, [V, D], such as `params["token_embedder"]["embedding"]`. The prompts
of a bank are initialised one by one, each with a key of its own; only `Values`
may start all of them at once.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from prompt_tuning import paths
from prompt_tuning.prompts import artifact
from prompt_tuning.types import UNK_ID, Array, Float, Initializer

POPULATION_SIZE = 5000
"""How many of the most frequent pieces the paper samples from."""

Encode = Callable[[str], Sequence[int]]
"""Text to token ids, without an end of sequence."""


class Values:
  """An initialiser that gives what it holds, whatever the key.

  Attributes:
    array: A prompt [P, D], or a bank of prompts [N, P, D].
    source: Where it comes from, to name in an error.
  """

  def __init__(self, array: Any, source: str):
    """Holds the values."""
    self.array = np.asarray(array)
    self.source = source

  @property
  def is_bank(self) -> bool:
    """Whether it gives all prompts of a bank, instead of one."""
    return self.array.ndim == 3

  def __call__(
    self, rng: Any, shape: tuple[int, ...], dtype: Any = jnp.float32
  ) -> Array:
    """Returns the values.

    Raises:
      ValueError: If they have another shape.
    """
    del rng  # Nothing is drawn.
    if tuple(self.array.shape) != tuple(shape):
      *bank, length, width = self.array.shape
      number = bank[0] if bank else 1
      raise ValueError(
        f"The prompt from {self.source} has shape {list(self.array.shape)}, "
        f"but the configured one has {list(shape)}; set the number of prompts "
        f"to {number}, the prompt length to {length} and use a backbone of "
        f"width {width}."
      )
    return jnp.asarray(self.array, dtype)


def uniform(low: float = -0.5, high: float = 0.5) -> Initializer:
  """Draws from [low, high), by default the paper's range.

  Args:
    low: The least value.
    high: The bound above all values.

  Raises:
    ValueError: If `low` is not below `high`.
  """
  if not low < high:
    raise ValueError(f"uniform: low {low!r} must be below high {high!r}.")

  def initialize(rng, shape, dtype=jnp.float32):
    return jax.random.uniform(rng, shape, dtype, minval=low, maxval=high)

  return initialize


def reference_uniform(scale: float = 0.5) -> Initializer:
  """Draws from [0, scale), as the reference's recipes do.

  The paper says [-0.5, 0.5]; its released code draws from [0, 0.5).

  Args:
    scale: The bound above all values.
  """
  return jax.nn.initializers.uniform(scale)


def normal(
  embeddings: Float[Any, "V D"], *, stddev: float | None = None
) -> Initializer:
  """Draws from a normal distribution around 0 (Gu et al., 2022, sec. 2).

  Args:
    embeddings: The backbone's table.
    stddev: Its width; by default that of the table's numbers.

  Raises:
    ValueError: If the width is not positive.
  """
  if stddev is None:
    stddev = float(np.std(np.asarray(embeddings, np.float32)))
  elif not stddev > 0:
    raise ValueError(f"normal: stddev must be positive, got {stddev!r}.")
  return jax.nn.initializers.normal(stddev)


def sampled_vocabulary(
  embeddings: Float[Any, "V D"], *, population_size: int = POPULATION_SIZE
) -> Initializer:
  """Takes rows of the embedding table at random, each at most once.

  The population is the table's first rows, because sentencepiece sorts its
  vocabulary by frequency. As in the reference it counts from id 0, so that
  padding, end of sequence and unknown (ids 0 to 2) may be drawn. Only if the
  prompt is longer than the population are rows drawn repeatedly.

  Args:
    embeddings: The backbone's table.
    population_size: How many rows to draw from; the paper's is 5,000. A table
      that has fewer is drawn from as a whole.

  Raises:
    ValueError: If the population is empty; when called, if the widths differ.
  """
  if population_size < 1:
    raise ValueError(
      "sampled_vocabulary: population_size must be at least 1, got "
      f"{population_size!r}."
    )
  rows = np.array(embeddings[:population_size])  # A copy: the table may go.

  def initialize(rng, shape, dtype=jnp.float32):
    _check_width(rows, shape, "sampled_vocabulary")
    repeat = shape[0] > len(rows)
    if repeat:
      warnings.warn(
        f"sampled_vocabulary: the prompt of length {shape[0]} is longer than "
        f"the population of {len(rows)} rows, so rows are drawn repeatedly.",
        stacklevel=2,
      )
    index = jax.random.choice(rng, len(rows), (shape[0],), replace=repeat)
    return jnp.asarray(rows, dtype)[index]

  return initialize


def sampled_words(
  embeddings: Float[Any, "V D"], encode: Encode, words: Sequence[str]
) -> Initializer:
  """Starts every soft token from one of a few words, drawn at random.

  As Gu et al. (2022, table 1) try it with label words and words of the task.

  Args:
    embeddings: The backbone's table.
    encode: Splits text into ids of the table.
    words: What to draw from; a word of several pieces is their mean.

  Raises:
    ValueError: If there is no word, one has no pieces, or an id is not in the
      table.
  """
  if isinstance(words, str) or not words:
    raise ValueError(
      "sampled_words: words must be a non-empty list of strings, got "
      f"{words!r}."
    )
  rows = np.stack(
    [
      _embed(embeddings, encode, word, "sampled_words").mean(axis=0)
      for word in words
    ]
  )

  def initialize(rng, shape, dtype=jnp.float32):
    _check_width(rows, shape, "sampled_words")
    index = jax.random.choice(rng, len(rows), (shape[0],))
    return jnp.asarray(rows, dtype)[index]

  return initialize


def one_token(
  embeddings: Float[Any, "V D"], *, token_id: int = UNK_ID
) -> Initializer:
  """Starts all soft tokens from the same token.

  The released code of PPT did so with `<unk>`, by mistake: only relative
  positions tell its soft tokens apart.

  Args:
    embeddings: The backbone's table.
    token_id: The token.

  Raises:
    ValueError: If the table has no such row.
  """
  if not 0 <= token_id < len(embeddings):
    raise ValueError(
      f"one_token: token_id {token_id} is outside the {len(embeddings)} rows "
      "of the embedding table."
    )
  row = np.array(embeddings[token_id])[None]

  def initialize(rng, shape, dtype=jnp.float32):
    del rng  # Nothing is drawn.
    _check_width(row, shape, "one_token")
    return jnp.broadcast_to(jnp.asarray(row, dtype), shape)

  return initialize


def class_labels(
  embeddings: Float[Any, "V D"],
  encode: Encode,
  labels: Sequence[str],
  *,
  rest: Initializer | None = None,
  population_size: int = POPULATION_SIZE,
) -> Initializer:
  """Puts the embedding of one label into each row, the paper's best start.

  Row i is the mean over the pieces of label i. Labels are not repeated: the
  remaining rows come from `rest`.

  Args:
    embeddings: The backbone's table.
    encode: Splits text into ids of the table.
    labels: The class labels, in order; words of the task where there are none.
    rest: Initialises the other rows; `sampled_vocabulary` by default.
    population_size: What that one draws from.

  Raises:
    ValueError: If a label has no pieces, or an id is not in the table.
  """
  if isinstance(labels, str) or not labels:
    raise ValueError(
      "class_labels: labels must be a non-empty list of strings, got "
      f"{labels!r}."
    )
  rows = [
    _embed(embeddings, encode, label, "class_labels").mean(axis=0)
    for label in labels
  ]
  rest = rest or sampled_vocabulary(embeddings, population_size=population_size)
  return _rows_then_rest(np.stack(rows), rest, "class_labels", list(labels))


def embedded_text(
  embeddings: Float[Any, "V D"],
  encode: Encode,
  text: str,
  *,
  rest: Initializer | None = None,
  population_size: int = POPULATION_SIZE,
) -> Initializer:
  """Puts the embeddings of a text into the first rows, a row a piece.

  Args:
    embeddings: The backbone's table.
    encode: Splits text into ids of the table.
    text: For example a description of the task.
    rest: Initialises the other rows; `sampled_vocabulary` by default.
    population_size: What that one draws from.

  Raises:
    ValueError: If the text has no pieces, or an id is not in the table.
  """
  rows = _embed(embeddings, encode, text, "embedded_text")
  rest = rest or sampled_vocabulary(embeddings, population_size=population_size)
  pieces = [f"piece {index}" for index in range(len(rows))]
  return _rows_then_rest(rows, rest, "embedded_text", pieces)


def from_array(
  array: Float[Any, "P D"] | Float[Any, "N P D"],
) -> Initializer:
  """Starts from given values.

  Args:
    array: The prompt, of exactly the shape wanted, or the whole bank. Given one
      prompt, all of a bank start from it.

  Raises:
    ValueError: When called, if the shapes differ.
  """
  array = np.asarray(array)
  return Values(array, f"an array of shape {list(array.shape)}")


def from_file(
  path: paths.PathLike,
  *,
  backbone_fingerprint: str | None = None,
  layout: str | None = None,
  attention: str = "full",
  allow_missing_card: bool = False,
  allow_other_layout: bool = False,
) -> Initializer:
  """Starts from a saved prompt, as transfer between tasks does.

  A bank starts from the file of a bank, prompt by prompt, or all of its prompts
  from the file of one.

  Args:
    path: The prompt's `.npy` file.
    backbone_fingerprint: See `artifact.load_prompt`.
    layout: Where the slots will stand, as `PromptCard.layout` has it; None if
      unknown. `PromptSpec` says it.
    attention: What they will attend to, as `PromptCard.attention` has it.
    allow_missing_card: See `artifact.load_prompt`. Without a card nothing tells
      the layout either.
    allow_other_layout: Whether to start from a prompt that was tuned in another
      place, such as between the words of another template, or with another
      attention.

  Raises:
    ValueError: If it cannot be read, belongs to another backbone, or was tuned
      in another layout; when called, if the shapes differ.
  """
  saved = artifact.load_prompt(
    path,
    backbone_fingerprint=backbone_fingerprint,
    allow_missing_card=allow_missing_card,
  )
  source = os.fspath(path)
  if layout is not None and not allow_other_layout:
    artifact.check_layout(saved, layout, attention=attention, source=source)
  return Values(saved.array, source)


def _rows_then_rest(
  rows: np.ndarray, rest: Initializer, caller: str, names: Sequence[str]
) -> Initializer:
  def initialize(rng, shape, dtype=jnp.float32) -> Array:
    _check_width(rows, shape, caller)
    used = min(len(rows), shape[0])
    if used < len(rows):
      warnings.warn(
        f"{caller}: a prompt of length {shape[0]} has no room for "
        f"{', '.join(names[used:])}; they are left out.",
        stacklevel=2,
      )
    # All rows are drawn and the first ones overwritten, as the reference does:
    # the rest then has the same values.
    prompt = rest(rng, shape, dtype)
    return prompt.at[:used].set(jnp.asarray(rows[:used], dtype))

  return initialize


def _embed(
  embeddings: Any, encode: Encode, text: str, caller: str
) -> np.ndarray:
  """Returns the embeddings of the pieces of a text, [pieces, D]."""
  ids = list(encode(text))
  if not ids:
    raise ValueError(f"{caller}: the vocabulary finds no piece in {text!r}.")
  if min(ids) < 0 or max(ids) >= len(embeddings):
    raise ValueError(
      f"{caller}: {text!r} has the ids {ids}, but the embedding table has "
      f"{len(embeddings)} rows; use the backbone's own vocabulary."
    )
  return np.asarray(embeddings)[np.asarray(ids)]


def _check_width(rows: np.ndarray, shape: tuple[int, ...], caller: str) -> None:
  if len(shape) != 2 or rows.shape[-1] != shape[-1]:
    raise ValueError(
      f"{caller}: the embedding table has width {rows.shape[-1]}, so the "
      f"prompt must be [length, {rows.shape[-1]}]; it is {list(shape)}."
    )
