"""Tries the meshes that a slice allows, and takes the fastest that fits."""

import dataclasses
from collections.abc import Sequence

from absl import logging

from prompt_tuning.runs.hardware import AUTO, Hardware
from prompt_tuning.scale.compilation import Cost, DoesNotFit, compile_for
from prompt_tuning.scale.programs import Run
from prompt_tuning.scale.slices import Slice
from prompt_tuning.train import mesh_choice
from prompt_tuning.train.mesh_choice import MeshShape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
  """A mesh with what came of it.

  Attributes:
    shape: The mesh.
    weight_bytes: Parameters on each chip; None if they cannot be cut so.
    cost: Of a training step; None if there is no such step.
    refusal: Why not.
  """

  shape: MeshShape
  weight_bytes: int | None = None
  cost: Cost | None = None
  refusal: str | None = None

  @property
  def name(self) -> str:
    """The mesh in words."""
    return self.shape.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What a run would be on a slice.

  Attributes:
    slice: The slice.
    trials: The meshes tried, by their training step.
    best: The fastest that fits, None if none does.
    costs: All steps on the best mesh.
    failures: Why a step other than training is not among them, by its name.
    auto: The mesh that the run itself would take, None if it found none.
  """

  slice: Slice
  trials: Sequence[Trial]
  best: Trial | None
  costs: Sequence[Cost]
  failures: dict[str, str]
  auto: MeshShape | None


def make_plan(
  run: Run, slice_: Slice, *, model_ways: Sequence[int] | None = None
) -> Plan:
  """Compiles the training step for every mesh, the others for the best one.

  Args:
    run: What is to be run.
    slice_: Where.
    model_ways: Sizes of the model axis to try; every divisor by default.
  """
  devices = slice_.devices()
  chip = slice_.chip
  trials = []
  for shape in _shapes(run, slice_, model_ways):
    trial = _try(run, slice_, devices, shape)
    logging.info("%s, %s: %s", slice_.name, trial.name, _outcome(trial))
    trials.append(trial)
  auto = _auto(run, slice_)
  fitting = [trial for trial in trials if trial.cost is not None]
  if not fitting:
    return Plan(
      slice=slice_, trials=trials, best=None, costs=(), failures={}, auto=auto
    )
  best = min(fitting, key=lambda trial: trial.cost.seconds)  # pyright: ignore
  mesh = best.shape.on(devices)
  costs, failures = [best.cost], {}
  for program in (run.score(mesh), run.decode(mesh)):
    try:
      costs.append(compile_for(chip, program))
    except DoesNotFit as error:
      failures[program.name] = str(error)
  return Plan(
    slice=slice_,
    trials=trials,
    best=best,
    costs=costs,
    failures=failures,
    auto=auto,
  )


def _shapes(
  run: Run, slice_: Slice, model_ways: Sequence[int] | None
) -> list[MeshShape]:
  sequence = run.sequence_ways
  shapes = mesh_choice.candidates(slice_.num_chips, sequence=sequence)
  if model_ways is None:
    return shapes
  by_ways = {shape.model: shape for shape in shapes}
  # What does not divide the slice is refused when it is laid onto it.
  return [
    by_ways.get(ways, MeshShape(data=1, sequence=sequence, model=ways))
    for ways in model_ways
  ]


def _auto(run: Run, slice_: Slice) -> MeshShape | None:
  """Returns the mesh of `MODEL_PARTITIONS = 'auto'`, by estimate."""
  try:
    return Hardware(sequence=run.sequence_ways, model=AUTO).shape(
      lambda: run.need,
      rows=run.rows,
      num_devices=slice_.num_chips,
      memory_bytes=lambda: slice_.chip.hbm_bytes,
    )
  except ValueError as error:
    logging.info("%s, auto: %s", slice_.name, error)
    return None


def _try(run: Run, slice_: Slice, devices, shape: MeshShape) -> Trial:
  chip = slice_.chip
  try:
    mesh = shape.on(devices)
    run.check_mesh(mesh)
  # JAX has no way to lay some meshes onto the torus.
  except (ValueError, NotImplementedError) as error:
    return Trial(shape=shape, refusal=str(error))
  weights = run.weight_bytes(mesh)
  refused = Trial(shape=shape, weight_bytes=weights)
  if weights > chip.hbm_bytes:
    reason = "the parameters alone are more than a chip's memory"
    return dataclasses.replace(refused, refusal=reason)
  try:
    cost = compile_for(chip, run.train(mesh))
  except DoesNotFit as error:
    return dataclasses.replace(refused, refusal=str(error))
  return dataclasses.replace(refused, cost=cost)


def _outcome(trial: Trial) -> str:
  if trial.cost is None:
    return f"refused: {trial.refusal}"
  return f"compiled in {trial.cost.compile_seconds:.0f} s"
