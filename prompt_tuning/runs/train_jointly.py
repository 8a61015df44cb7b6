"""Several training runs over one frozen backbone, as one job.

Each run is what `train` would make of the same arguments: it has the same
folder, data, optimizer, evaluations and checkpoints, and either may go on where
the other has stopped. The job reads the backbone once and takes the steps of
all runs together (`train.joint_loop`).
"""

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from absl import logging

from prompt_tuning import paths
from prompt_tuning.runs import placement
from prompt_tuning.runs import prepare as prepare_lib
from prompt_tuning.runs.arguments import TrainArguments
from prompt_tuning.runs.train import with_defaults
from prompt_tuning.train.joint_loop import JointResult, fit_jointly
from prompt_tuning.train.step import make_joint_train_step

# What decides the compiled step, or what all read.
_SHARED = (
  "batch_size",
  "hardware",
  "loss_normalization",
  "num_microbatches",
  "packed_length",
  "steps_per_dispatch",
  "trainable",
  "z_loss",
)


def train_jointly(runs: Mapping[str, Mapping[str, Any]]) -> JointResult:
  """Trains several runs, or goes on with those that have not ended.

  A run that breaks off, by its numbers or its data, leaves the others alone.

  Args:
    runs: Arguments of `train` by the name of the run. They may differ in all
      but the backbone, the shape of the prompt, what is trained, and how steps
      are taken; lengths of inputs and targets are padded to the longest.

  Returns:
    How each ended.

  Raises:
    ValueError: If there is no run, two share a MODEL_DIR, they differ in what
      must be the same, or one of them could not begin: it is named. Those
      before it may have their folders by then, without a checkpoint.
    OSError: If something cannot be read or written; the run is named where it
      could not begin.
  """
  arguments = {name: with_defaults(given) for name, given in runs.items()}
  check(arguments)
  first = next(iter(arguments.values()))
  for name, each in arguments.items():
    check_alone(name, each)
    paths.check_writable_dir(each.model_dir)
  mesh = placement.make_mesh(list(arguments.values()))
  loaded = first.backbone.load(in_parts=placement.reads_in_parts(mesh))
  prepared: dict[str, prepare_lib.Prepared] = {}
  with contextlib.ExitStack() as stack:
    for name, each in arguments.items():
      beside = next(iter(prepared.values()), None)
      with _named(name):
        prepared[name] = prepare_lib.prepare(
          each, mesh=mesh, name=name, loaded=loaded, beside=beside
        )
      stack.callback(prepared[name].close)
    del loaded  # They are on the devices now.
    one = next(iter(prepared.values()))
    result = fit_jointly(
      {name: each.run for name, each in prepared.items()},
      one.frozen,
      make_step=lambda names: make_joint_train_step(
        one.network.model,
        [arguments[name].optimizer for name in names],
        **first.step_options,
      ),
      mesh=mesh,
      steps_per_dispatch=first.steps_per_dispatch,
    )
  logging.info("\n%s", describe(result))
  return result


def check(runs: Mapping[str, TrainArguments]) -> None:
  """Checks that runs can be one job.

  Raises:
    ValueError: Naming what differs and where.
  """
  if not runs:
    raise ValueError("There is no run to train: give at least one.")
  name, first = next(iter(runs.items()))
  folders: dict[str, str] = {}
  for other, each in runs.items():
    if each.from_scratch:
      raise ValueError(
        f"{other}: FROM_SCRATCH is set, but the runs of a job share one frozen "
        "backbone; set INITIAL_CHECKPOINT_PATH, or train this run alone."
      )
    ignored = each.method is not None and each.method.ignores_prompt
    if each.prompt is not None and not (ignored or _tunes_prompt(each)):
      raise ValueError(
        f"{other}: TRAINABLE {tuple(each.trainable)} leaves the prompt as it "
        "is, but runs of a job share what is not trained; add 'prompt/.*', or "
        "train this run alone."
      )
    if each.model_dir in folders:
      raise ValueError(
        f"{folders[each.model_dir]} and {other} have the same MODEL_DIR "
        f"{each.model_dir}; give each its own."
      )
    folders[each.model_dir] = other
    ours, theirs = _shared(first), _shared(each)
    differing = [
      f"{key} {ours[key]!r} and {theirs[key]!r}"
      for key in ours
      if ours[key] != theirs[key]
    ]
    if differing:
      raise ValueError(
        f"{name} and {other} cannot be one job, they differ in: "
        f"{'; '.join(differing)}. Make them equal, or start two jobs."
      )


def check_alone(name: str, run: TrainArguments) -> None:
  """Checks what shows of one run before weights and examples are read.

  Raises:
    ValueError: As `train`, with the name of the run.
  """
  with _named(name):
    prepare_lib.check(run)


def describe(result: JointResult) -> str:
  """Returns a line for each run: how it ended, and its best evaluation."""
  lines = []
  for name, ended in result.finished.items():
    best = ended.best
    value = "" if best is None else f", best {best.value:.4g} at {best.step}"
    lines.append(f"{name}: {ended.reason.value} at step {ended.step}{value}")
  lines += [f"{name}: broke off: {e}" for name, e in result.failed.items()]
  return "\n".join(lines)


def _tunes_prompt(run: TrainArguments) -> bool:
  return any(
    re.fullmatch(pattern, "prompt/embedding") for pattern in run.trainable
  )


def _shared(run: TrainArguments) -> dict[str, Any]:
  """Returns what must be the same in all runs of a job, comparable."""
  backbone = run.backbone
  shared = {key: getattr(run, key) for key in _SHARED}
  shared["trainable"] = tuple(run.trainable)
  shared |= {
    **{
      f"T5Config.{key}": value
      for key, value in dataclasses.asdict(backbone.config).items()
    },
    "INITIAL_CHECKPOINT_PATH": backbone.checkpoint,
    "BACKBONE_DTYPE": backbone.dtype,
  }
  prompt = run.prompt
  shape = None if prompt is None else (prompt.length, prompt.num_prompts)
  attention = None if prompt is None else prompt.attention
  return shared | {
    "length and number of prompts": shape,
    "PROMPT_ATTENTION": attention,
    "method": run.method,
  }


@contextlib.contextmanager
def _named(name: str):
  """Says in an error which run it is about."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f"{name}: {error}") from error
  except OSError as error:
    raise OSError(f"{name}: {error}") from error
