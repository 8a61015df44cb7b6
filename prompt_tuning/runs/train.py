"""One training run, whatever is trained.

Pre-training, LM adaptation, model tuning and prompt tuning are this function
with other inputs, other trainable patterns and another optimizer.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging
from flax import traverse_util

from prompt_tuning import paths
from prompt_tuning.backbone import Backbone
from prompt_tuning.data.batches import Batches
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.inputs import Inputs
from prompt_tuning.data.packing import PackedFeatureBuilder, Packing
from prompt_tuning.data.streams import ExamplesInMemory, MixtureStream
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.model import t5
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts.artifact import PromptCard
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.prompts.module import PromptAttention
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import preflight
from prompt_tuning.runs.network import Network, build_network
from prompt_tuning.train import loop, partition, throughput, writers
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import plan as plan_lib
from prompt_tuning.train import start as start_lib
from prompt_tuning.train.checkpoint import Checkpoints
from prompt_tuning.train.export import PromptExporter
from prompt_tuning.train.optimizers import Optimizer
from prompt_tuning.train.run_identity import RunIdentity
from prompt_tuning.train.selection import Selection
from prompt_tuning.train.step import (
  LossNormalization,
  TrainState,
  init_state,
  make_train_step,
)
from prompt_tuning.types import Params

_RUN_FILE = "run.json"


class Evaluation(Protocol):
  """Something to measure while training."""

  def prepare(
    self,
    model: T5,
    *,
    vocabulary: Vocabulary,
    lengths: FeatureLengths,
    layout: Layout,
    output_dir: str,
  ) -> Callable[[Params, int], Mapping[str, float]]:
    """Returns `(all parameters, step) -> {"<task>/<metric>": value}`."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardware:
  """How a run lies on the devices; it changes nothing that is learned.

  Attributes:
    data: Ways to cut the batch; -1 for the devices that are left.
    model: Ways to cut the wide axes of the parameters.
    peak_flops_per_second: What one device could do in the compute type, to
      state model FLOPs utilisation against; None states none.
    axis_rules: Mesh axis of each logical axis.
  """

  data: int = -1
  model: int = 1
  peak_flops_per_second: float | None = None
  axis_rules: mesh_lib.AxisRules = mesh_lib.DEFAULT_RULES


ALL_DEVICES = Hardware()


def train(
  *,
  model_dir: str,
  backbone: Backbone,
  inputs: Inputs,
  feature_lengths: Mapping[str, int],
  batch_size: int,
  trainable: Sequence[str],
  optimizer: Optimizer,
  plan: plan_lib.Plan,
  prompt: PromptSpec | None = None,
  from_scratch: bool = False,
  evaluations: Sequence[Evaluation] = (),
  selection: Selection | None = None,
  z_loss: float = 1e-4,
  loss_normalization: LossNormalization = LossNormalization.SUM,
  num_microbatches: int = 1,
  packed_length: int | None = None,
  keep_checkpoints: int = 1,
  seed: int = 0,
  hardware: Hardware = ALL_DEVICES,
  settings: Mapping[str, str] | None = None,
  config_text: str | None = None,
) -> loop.FitResult:
  """Trains, or goes on where MODEL_DIR left off.

  What a run starts from, in this order:
    1. its own latest checkpoint in `model_dir`, if there is one;
    2. the backbone's checkpoint, and the prompt's initialiser;
    3. random weights, only if `from_scratch` says so.
  A weight that is missing from a checkpoint is an error in every case.

  Args:
    model_dir: Where the run writes; README.md lists what.
    backbone: The T5 that is tuned.
    inputs: What is trained on.
    feature_lengths: TASK_FEATURE_LENGTHS, tokens of inputs and targets.
    batch_size: B, examples of a step.
    trainable: Patterns of the paths that are trained, such as `prompt/.*`.
    optimizer: Updates what is trained.
    plan: How long, and what when.
    prompt: The soft prompt; None for none.
    from_scratch: Whether the backbone starts from random weights.
    evaluations: What is measured at every evaluation.
    selection: Which evaluation is the best, and when to stop early.
    z_loss: Coefficient of the z-loss.
    loss_normalization: What the summed loss is divided by.
    num_microbatches: Parts in which a batch is run.
    packed_length: PACKED_LENGTH, tokens of rows that hold several examples;
      None for one example a row. A step has the same examples either way.
    keep_checkpoints: Latest checkpoints to keep; the best is kept besides.
    seed: Of initialisation, data order and dropout.
    hardware: How it lies on the devices.
    settings: What else tells this run from another, by name.
    config_text: A recipe that repeats the run, for `model_dir`.

  Raises:
    ValueError: If anything does not fit; nothing is written then.
  """
  mesh = mesh_lib.make_mesh(hardware.data, hardware.model)
  mesh_lib.check_batch_size(batch_size, mesh)
  packing = _packing(packed_length, num_microbatches, mesh)
  lengths = check(backbone, inputs, feature_lengths, evaluations)
  init_rng, step_rng = jax.random.split(jax.random.key(seed))
  network = build_network(
    backbone, prompt, rng=init_rng, from_scratch=from_scratch
  )
  table = partition.describe(network.params, trainable)
  logging.info("\n%s", table)
  batches = _batches(
    inputs,
    backbone,
    network,
    lengths,
    batch_size=batch_size,
    seed=seed,
    mesh=mesh,
    packing=packing,
  )
  state, frozen = _place(network, trainable, optimizer, mesh, hardware)
  identity = RunIdentity(
    backbone=network.identity,
    trainable=list(trainable),
    seed=seed,
    config={
      **_identity(prompt, inputs, lengths, batch_size, batches),
      **(settings or {}),
    },
  )
  measures = [
    evaluation.prepare(
      network.model,
      vocabulary=backbone.vocabulary,
      lengths=lengths,
      layout=network.layout,
      output_dir=model_dir,
    )
    for evaluation in evaluations
  ]
  _check_same_run(model_dir, identity)
  checkpoints = Checkpoints(model_dir, run=identity, keep=keep_checkpoints)
  start_lib.check_same_everywhere(identity, checkpoints.latest_step())
  start = start_lib.Start(state)
  if checkpoints.latest_step() is not None:
    start = start_lib.resume(checkpoints, state, batches)
    logging.info("Resuming %s at step %d", model_dir, start.step)
  _describe_run(model_dir, identity, table, config_text)
  writer = writers.default_writer(model_dir)
  try:
    result = loop.fit(
      start,
      frozen,
      batches,
      train_step=make_train_step(
        network.model,
        optimizer,
        z_loss=z_loss,
        loss_normalization=loss_normalization,
        num_microbatches=num_microbatches,
      ),
      rng=step_rng,
      mesh=mesh,
      plan=plan,
      model_dir=model_dir,
      checkpoints=checkpoints,
      writer=writer,
      evaluate=_evaluate_all(measures, frozen),
      selection=selection,
      export=_exporter(model_dir, network, prompt, inputs, selection)
      if set(state.trainable) == {"prompt"}
      else None,  # A prompt is no artifact without the weights tuned with it.
      meter=_meter(network, frozen, hardware, mesh, batches, batch_size)
      if packing is None
      else throughput.Meter(),  # The shapes of packed batches vary.
    )
  finally:
    writer.close()
    checkpoints.close()
  logging.info("%s", batches.builder.summary())
  return result


def check(
  backbone: Backbone,
  inputs: Inputs,
  feature_lengths: Mapping[str, int],
  evaluations: Sequence[Evaluation] = (),
) -> FeatureLengths:
  """Checks arguments of `train` before weights and examples are read.

  Raises:
    ValueError: What is to be read is not there, or does not fit.
  """
  lengths = FeatureLengths.from_mapping(feature_lengths)
  preflight.check_inputs(inputs, backbone=backbone, lengths=lengths)
  preflight.check_evaluations(evaluations, backbone=backbone, lengths=lengths)
  return lengths


def _check_same_run(model_dir: str, identity: RunIdentity) -> None:
  """Refuses the folder of another run, even if its checkpoints are gone.

  Raises:
    ValueError: Naming what differs.
  """
  path = paths.as_path(model_dir) / _RUN_FILE
  if not paths.exists(path):
    return
  before = RunIdentity.from_json(json.loads(paths.read_text(path)))
  differences = identity.differences(before)
  if differences:
    lines = "".join(f"\n  {line}" for line in differences)
    raise ValueError(
      f"MODEL_DIR {model_dir} holds another run (there -> here):{lines}\nPass "
      "another MODEL_DIR, or undo the changes to resume that run."
    )


def _describe_run(
  model_dir: str, identity: RunIdentity, table: str, config_text: str | None
) -> None:
  if jax.process_index() != 0:
    return
  folder = paths.make_writable_dir(model_dir)
  paths.write_text(
    folder / _RUN_FILE, json.dumps(identity.as_json(), indent=2) + "\n"
  )
  paths.write_text(folder / "model-info.txt", table)
  if config_text is not None:
    paths.write_text(folder / "config.gin", config_text)


def _packing(
  length: int | None, num_microbatches: int, mesh: jax.sharding.Mesh
) -> Packing | None:
  """Returns how rows are packed, in numbers that divide over the devices."""
  if length is None:
    return None
  if jax.process_count() > 1:
    raise ValueError(
      "PACKED_LENGTH is set, but this is one of "
      f"{jax.process_count()} processes: each would pack its own examples into "
      "another number of rows. Leave it out, or use one process."
    )
  multiple = mesh.shape[mesh_lib.DATA] * num_microbatches
  return Packing(row_length=length, rows_multiple=multiple)


def _batches(
  inputs, backbone, network, lengths, *, batch_size, seed, mesh, packing
):
  settings = {
    "vocab_size": backbone.config.vocab_size,
    "layout": network.layout,
    "num_prompts": network.model.num_prompts,
    "truncate_targets": inputs.truncate_targets,
  }
  if packing is None:
    builder = FeatureBuilder(lengths, **settings)
  else:
    builder = PackedFeatureBuilder(lengths, packing=packing, **settings)
  stream = inputs.stream(backbone.vocabulary, lengths, seed=seed)
  if isinstance(stream, ExamplesInMemory | MixtureStream):
    # An example that does not fit ends the run now, not after a thousand steps.
    builder.check(stream.examples)
  return Batches(
    stream,
    builder,
    batch_size=batch_size,
    rows=mesh_lib.local_rows(batch_size, mesh),
  )


def _place(
  network: Network,
  patterns: Sequence[str],
  optimizer: Optimizer,
  mesh: jax.sharding.Mesh,
  hardware: Hardware,
) -> tuple[TrainState, Params]:
  """Returns a fresh state and the frozen parameters, on the devices."""
  parts = partition.split(network.params, patterns)
  axes = t5.logical_axes(network.model)

  def shardings(params):
    return mesh_lib.param_shardings(
      params, axes, mesh=mesh, rules=hardware.axis_rules
    )

  frozen = mesh_lib.place(parts.frozen, shardings(parts.frozen))
  # What is trained is kept in float32, whatever the backbone is stored in.
  trainable = jax.tree.map(
    lambda leaf: np.asarray(leaf).astype(np.float32), parts.trainable
  )
  placed = shardings(trainable)
  make = lambda params: init_state(params, optimizer)  # noqa: E731
  abstract = jax.eval_shape(make, trainable)
  state = jax.jit(
    make,
    out_shardings=mesh_lib.state_shardings(abstract, placed, mesh=mesh),
  )(mesh_lib.place(trainable, placed))
  return state, frozen


def _identity(
  prompt: PromptSpec | None,
  inputs: Inputs,
  lengths: FeatureLengths,
  batch_size: int,
  batches: Batches,
) -> dict[str, Any]:
  described: dict[str, Any] = {
    "inputs": inputs.name,
    # One by one, so that what differs is named.
    **traverse_util.flatten_dict({"data": batches.card}, sep="/"),
    "feature_lengths": dataclasses.asdict(lengths),
    "batch_size": batch_size,
  }
  if prompt is not None:
    described["prompt"] = {
      "length": prompt.length,
      "num_prompts": prompt.num_prompts,
      "layout": prompt.layout_text,
      "attention": PromptAttention(prompt.attention).value,
      "initializer": prompt.initializer_name,
    }
  return json.loads(json.dumps(described))


def _evaluate_all(measures, frozen):
  if not measures:
    return None

  def evaluate(trainable, step):
    params = partition.merge(trainable, frozen)
    results = {}
    for measure in measures:
      results.update(measure(params, step))
    return results

  return evaluate


def _exporter(model_dir, network, prompt, inputs, selection):
  if prompt is None:
    return None
  card = PromptCard(
    length=prompt.length,
    width=network.model.config.embed_dim,
    num_prompts=prompt.num_prompts,
    backbone=network.fingerprint,
    step=0,
    initialiser=prompt.initializer_name,
    task=inputs.name,
    layout=prompt.layout_text,
    attention=PromptAttention(prompt.attention).value,
    backbone_dtype=network.dtype,
  )
  return PromptExporter(
    model_dir, card, metric=None if selection is None else selection.metric
  )


def _meter(network, frozen, hardware, mesh, batches, batch_size):
  peak = None
  if hardware.peak_flops_per_second is not None:
    peak = throughput.Peak(hardware.peak_flops_per_second, mesh.size)
  # Where any matrix is frozen almost all are: prompts, scales, adapters.
  gradients = (
    throughput.Gradients.ACTIVATIONS
    if frozen
    else throughput.Gradients.ACTIVATIONS_AND_WEIGHTS
  )
  prompt = network.model.prompt
  is_apart = t5.is_apart(prompt)
  products = throughput.batch_products(
    network.model.config,
    batch_size=batch_size,
    inputs_length=batches.builder.encoder_length,
    targets_length=batches.builder.lengths.targets,
    num_compiled=prompt.num_prompts if is_apart else 0,
    compiled_length=prompt.length if is_apart else 0,
  )
  return throughput.Meter(step_flops=products.step_flops(gradients), peak=peak)
