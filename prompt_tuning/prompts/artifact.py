"""Soft prompts on disk: an `.npy` file and a JSON card that describes it.

The prompt is the artifact of a run (DESIGN.md, idea 3): some hundred kilobytes
that mean something only together with the backbone they were tuned on, so the
card carries that backbone's fingerprint.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from prompt_tuning import paths
from prompt_tuning.types import Params

_SAMPLES = 256
_FORMAT_VERSION = 1
_SUFFIX = ".npy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptCard:
  """What a prompt is.

  Attributes:
    length: P, in tokens.
    width: D, the width of the backbone.
    backbone: The `fingerprint` of the backbone that it was tuned on.
    step: The number of training steps that it has seen.
    num_prompts: N, prompts in the file.
    initialiser: How it started, in words.
    task: The task or mixture that it was tuned on.
    metric_name: The metric that `metric_value` is of, if it was evaluated.
    metric_value: The value of that metric.
    layout: Where its tokens stand in an input, in words.
    attention: What its tokens attend to, "full" or "prefix".
    backbone_dtype: The type that the backbone's weights were kept in. Weights
      in another type are the same backbone, only less exact.
    library_version: The version of this library that wrote it.
    base_model: What the backbone is called, such as its checkpoint.
    recipe: The recipes and settings that it was tuned by, as given.
    licence: What it may be used for, as an SPDX identifier or in words.
  """

  length: int
  width: int
  backbone: str
  step: int
  num_prompts: int = 1
  initialiser: str = ""
  task: str = ""
  metric_name: str | None = None
  metric_value: float | None = None
  layout: str = "prefix"
  attention: str = "full"
  backbone_dtype: str = ""
  library_version: str = ""
  base_model: str = ""
  recipe: str = ""
  licence: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedPrompt:
  """A prompt as read.

  Attributes:
    array: float32, [P, D], or [N, P, D] for a bank.
    card: Its card; None for a file that never had one.
  """

  array: np.ndarray
  card: PromptCard | None


@dataclasses.dataclass(frozen=True)
class Sample:
  """What a fingerprint takes of one weight.

  Attributes:
    shape: Of the weight.
    values: Up to 256 of its values at equal distances, bfloat16.
  """

  shape: tuple[int, ...]
  values: np.ndarray


def fingerprint(params: Params) -> str:
  """Returns a short hexadecimal digest of a backbone.

  Taken over the sorted paths and shapes and, of every weight, up to 256 values
  at equal distances, rounded to bfloat16. So it is the same whether weights
  were loaded as float32 or bfloat16 and whatever soft prompt is beside them,
  and cheap even for eleven billion weights; it differs after model tuning.
  Of weights that are kept as int8, samples are taken before (`sample`).

  Args:
    params: Parameters in floating point, in host memory or addressable on
      devices. A subtree `prompt` is left out.
  """
  return fingerprint_of_samples(
    {path: sample(leaf) for path, leaf in _leaves(params)}
  )


def fingerprint_of_samples(samples: Mapping[str, Sample]) -> str:
  """Returns the `fingerprint` of weights of which only samples are there.

  Args:
    samples: Of every weight, by its path joined by "/", in any order.
  """
  digest = hashlib.sha256()
  for path in sorted(samples, key=lambda path: path.split("/")):
    digest.update(f"{path}:{samples[path].shape};".encode())
    digest.update(samples[path].values.tobytes())
  return digest.hexdigest()[:16]


def sample(weight: Any) -> Sample:
  """Returns what a fingerprint takes of one weight."""
  shape = tuple(weight.shape)
  # One index an axis, in C order: flattening a sharded array would gather it.
  values = weight[np.unravel_index(sampled_places(shape), shape)]
  return Sample(shape, np.asarray(values).astype(jnp.bfloat16))


def sampled_places(shape: tuple[int, ...]) -> np.ndarray:
  """Returns where a sample is taken, in C order, ascending."""
  size = int(np.prod(shape, dtype=np.int64))
  count = min(size, _SAMPLES)
  return np.arange(count, dtype=np.int64) * size // max(count, 1)


def save_prompt(
  path: paths.PathLike, array: Any, card: PromptCard
) -> PromptCard:
  """Writes a prompt and its card, each atomically.

  The card holds a digest of the array, so that `load_prompt` tells where a
  crash between the two has left a new array with an old card.

  Args:
    path: Where to, ending in `.npy`; the card ends in `.json`.
    array: [P, D], or [N, P, D] for a bank; stored as float32.
    card: What it is.

  Returns:
    The card as written, with the library's version filled in.

  Raises:
    ValueError: If the array is not what the card says.
    OSError: If the disk is full or the folder cannot be written.
  """
  if not os.fspath(path).endswith(_SUFFIX):
    raise ValueError(
      f"A prompt file must end in {_SUFFIX}, got {os.fspath(path)!r}."
    )
  array = np.asarray(array).astype(np.float32)
  _check_shape(array, card, source=os.fspath(path))
  if not card.library_version:
    card = dataclasses.replace(card, library_version=_library_version())
  buffer = io.BytesIO()
  np.save(buffer, array, allow_pickle=False)
  data = buffer.getvalue()
  described = {
    "format_version": _FORMAT_VERSION,
    **dataclasses.asdict(card),
    "sha256": hashlib.sha256(data).hexdigest(),
  }
  paths.write_bytes(path, data)
  paths.write_text(_card_path(path), json.dumps(described, indent=2) + "\n")
  return card


def load_prompt(
  path: paths.PathLike,
  *,
  expected_width: int | None = None,
  backbone_fingerprint: str | None = None,
  allow_missing_card: bool = False,
) -> SavedPrompt:
  """Reads a prompt and checks that it belongs to the backbone.

  Args:
    path: The array, `.npy` or a file of google's `numpy_checkpoints`, which has
      no ending.
    expected_width: D of the backbone, if known.
    backbone_fingerprint: The `fingerprint` of the backbone, if known.
    allow_missing_card: Whether to read a bare array, such as the prompts that
      google released; nothing then tells which backbone it belongs to.

  Raises:
    ValueError: If the file is corrupt, has no card, or was tuned on a backbone
      of another width or with other weights.
    OSError: If there is no such file.
  """
  source = os.fspath(path)
  data = paths.read_bytes(path)
  array = _parse_array(data, source=source)
  card = _read_card(path, data)
  if card is None and not allow_missing_card:
    raise ValueError(
      f"{source} has no card ({_card_path(path).name}), so nothing says which "
      "backbone it was tuned on. If you know that it fits, say "
      "allow_missing_card=True."
    )
  if card is not None:
    _check_shape(array, card, source=source)
  if expected_width is not None and array.shape[-1] != expected_width:
    raise ValueError(
      f"{source} is a prompt of width {array.shape[-1]}, but the backbone has "
      f"width {expected_width}; choose the model size that it was tuned on."
    )
  if array.ndim == 3 and len(array) == 1:
    array = array[0]  # A bank of one is a prompt.
  saved = SavedPrompt(array=array, card=card)
  if backbone_fingerprint:
    check_backbone(saved, backbone_fingerprint, source=source)
  return saved


def stack_prompts(
  prompts: Sequence[SavedPrompt], *, sources: Sequence[str]
) -> SavedPrompt:
  """Returns prompts that were tuned apart as one bank, of their latest step.

  Args:
    prompts: Of one shape, tuned on one backbone to be used in one way.
    sources: What to call each in an error.

  Raises:
    ValueError: They differ in shape, backbone, layout or attention, or one is a
      bank itself.
  """
  first = prompts[0]
  for saved, source in zip(prompts, sources, strict=True):
    if saved.array.ndim != 2:
      raise ValueError(
        f"{source} is a bank of {len(saved.array)} prompts; name files of one "
        "prompt each, or that file alone."
      )
    for name in ("length", "width", "backbone", "layout", "attention"):
      here, there = _fact(saved, name), _fact(first, name)
      if here != there:
        raise ValueError(
          f"{source} has the {name} {here!r} and {sources[0]} {there!r}; "
          "prompts of one bank must agree."
        )
  card = first.card
  if card is not None:
    steps = [saved.card.step for saved in prompts if saved.card is not None]
    card = dataclasses.replace(
      card,
      num_prompts=len(prompts),
      step=max(steps),
      metric_name=None,
      metric_value=None,
    )
  return SavedPrompt(
    array=np.stack([saved.array for saved in prompts]), card=card
  )


def _fact(saved: SavedPrompt, name: str) -> Any:
  shape = {"length": saved.array.shape[-2], "width": saved.array.shape[-1]}
  return shape[name] if name in shape else getattr(saved.card, name, None)


def check_backbone(
  saved: SavedPrompt, backbone_fingerprint: str, *, source: str
) -> None:
  """Checks that a prompt was tuned on this backbone, as far as its card says.

  Args:
    saved: The prompt.
    backbone_fingerprint: The `fingerprint` of the backbone.
    source: What to call the prompt in an error.

  Raises:
    ValueError: If its card names another backbone.
  """
  if saved.card and saved.card.backbone != backbone_fingerprint:
    raise ValueError(
      f"{source} was tuned on the backbone {saved.card.backbone}, but this one "
      f"is {backbone_fingerprint}. A prompt means nothing to other weights; "
      "load the checkpoint that it was tuned on."
    )


def check_layout(
  saved: SavedPrompt, layout: str, *, attention: str = "full", source: str
) -> None:
  """Checks that a prompt was tuned as it is to be used, if its card says so.

  Args:
    saved: The prompt.
    layout: Where its tokens are to stand, as on a card.
    attention: What they are to attend to, as on a card.
    source: What to call the prompt in an error.

  Raises:
    ValueError: If its card names another layout or attention.
  """
  if saved.card and saved.card.attention != attention:
    raise ValueError(
      f"{source} was tuned with the prompt attention {saved.card.attention!r}, "
      f"but here it is {attention!r}, at which it has learnt nothing. Set "
      "PROMPT_ATTENTION to the prompt's, or, to start from it nevertheless, "
      "from_file.allow_other_layout=True, which allows this too."
    )
  if saved.card and saved.card.layout != layout:
    raise ValueError(
      f"{source} was tuned with the layout {saved.card.layout!r}, but here its "
      f"tokens stand at {layout!r}, where they have learnt nothing. Set "
      "PromptSpec.position (or PromptSpec.template) to the prompt's, or, to "
      "start from it nevertheless, from_file.allow_other_layout=True."
    )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
  """Returns path and array of every weight but a prompt's."""
  leaves = []
  for key in tree:
    path = f"{prefix}/{key}" if prefix else key
    if path == "prompt":
      continue
    if isinstance(tree[key], Mapping):
      leaves += _leaves(tree[key], path)
    else:
      leaves.append((path, tree[key]))
  return leaves


def _card_path(path: paths.PathLike) -> pathlib.Path:
  path = paths.as_path(path)
  if path.suffix == _SUFFIX:
    return path.with_suffix(".json")
  return path.with_name(f"{path.name}.json")


def _parse_array(data: bytes, *, source: str) -> np.ndarray:
  try:
    array = np.load(io.BytesIO(data), allow_pickle=False)
  except (ValueError, EOFError) as error:
    raise ValueError(
      f"{source} is not a complete .npy file; it is truncated or corrupt. "
      f"({error})"
    ) from error
  if array.ndim not in (2, 3) or not np.issubdtype(array.dtype, np.floating):
    raise ValueError(
      f"{source} holds {array.dtype} of shape {list(array.shape)}; a prompt "
      "is floating point, [length, width] or [prompts, length, width]."
    )
  return array.astype(np.float32, copy=False)


def _read_card(path: paths.PathLike, data: bytes) -> PromptCard | None:
  card_path = _card_path(path)
  if not card_path.exists():
    return None
  try:
    described = json.loads(paths.read_text(card_path))
    if described.pop("format_version") != _FORMAT_VERSION:
      raise ValueError("it was written by a newer version of this library")
    digest = described.pop("sha256")
    card = PromptCard(**described)
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(
      f"{card_path} is not the card of a prompt: {error}."
    ) from error
  actual = hashlib.sha256(data).hexdigest()
  if digest != actual:
    raise ValueError(
      f"{card_path} describes another array than {os.fspath(path)} holds: one "
      "of the two was replaced, or a save was interrupted between them. "
      f"{_remedy(card_path, actual)}"
    )
  return card


def _remedy(card_path: pathlib.Path, digest: str) -> str:
  """Says what to do about an array that has the card of another.

  A run writes every prompt under its step first and only then as the best one,
  so that what an interrupted save leaves as `best` is whole beside it.
  """
  for name in paths.list_dir(card_path.parent):
    sibling = card_path.parent / name
    if sibling.suffix == ".json" and _digest_of(sibling) == digest:
      whole = sibling.with_suffix(_SUFFIX)
      if whole.exists():
        return (
          f"{whole.name} beside it is the same prompt, with its own card: use "
          "that, or resume the run, which saves both anew."
        )
  return (
    "Save the prompt again, copy both files together, or delete the card and "
    "say allow_missing_card=True."
  )


def _digest_of(card_path: pathlib.Path) -> str | None:
  try:
    return json.loads(paths.read_text(card_path))["sha256"]
  except (OSError, ValueError, TypeError, KeyError):
    return None  # Another file, or no card at all.


def _check_shape(array: np.ndarray, card: PromptCard, *, source: str) -> None:
  bank = (card.num_prompts, card.length, card.width)
  allowed = [bank] if card.num_prompts > 1 else [bank, bank[1:]]
  if array.shape not in allowed:
    raise ValueError(
      f"{source}: the card describes {card.num_prompts} prompt(s) of length "
      f"{card.length} and width {card.width}, but the array is "
      f"{list(array.shape)}."
    )


def _library_version() -> str:
  import prompt_tuning

  return prompt_tuning.__version__
