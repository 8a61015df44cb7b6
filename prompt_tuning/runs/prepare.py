"""Everything of a training run that comes before its first step."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
from absl import logging
from jax.sharding import Mesh

from prompt_tuning import paths
from prompt_tuning.checkpoints.load import Loaded
from prompt_tuning.data.batches import Batches
from prompt_tuning.data.features import (
  Example,
  FeatureBuilder,
  FeatureLengths,
)
from prompt_tuning.data.packing import PackedFeatureBuilder, Packing
from prompt_tuning.data.prefetch import PrefetchedBatches, check_depth
from prompt_tuning.data.streams import ExampleStream
from prompt_tuning.model import t5
from prompt_tuning.runs import card, model_dir, placement, preflight
from prompt_tuning.runs.abstract import (
  check_row_length,
)
from prompt_tuning.runs.arguments import Evaluation, TrainArguments
from prompt_tuning.runs.network import Network, build_network, check_trained
from prompt_tuning.train import (
  checkpoint_files,
  partition,
  throughput,
  writers,
)
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import start as start_lib
from prompt_tuning.train.checkpoint import Checkpoints
from prompt_tuning.train.dispatch import Steps
from prompt_tuning.train.loop import check_steps_per_dispatch
from prompt_tuning.train.run import Evaluate, Run
from prompt_tuning.train.step import TrainState, make_train_step
from prompt_tuning.types import Params

# Rows of this many tokens, or twice as many, fill a vector register.
_TILE = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
  """A run that may begin; `close` it at the end.

  Attributes:
    run: The run.
    frozen: The parameters that are not trained, on the devices.
    network: What is trained; its parameters are in `run` and `frozen`.
    steps: The training step, which compiles meanwhile; None where `prepare` was
      not to compile one.
  """

  run: Run
  frozen: Params
  network: Network
  steps: Steps | None = None

  def close(self) -> None:
    """Ends threads, closes files, logs what was cut from the examples."""
    batches = self.run.batches
    assert isinstance(batches, PrefetchedBatches)  # `prepare` made them.
    batches.close()
    self.run.writer.close()
    self.run.checkpoints.close()
    logging.info("%s", batches.summary())


def prepare(
  arguments: TrainArguments,
  *,
  mesh: Mesh,
  name: str = "",
  loaded: Loaded | None = None,
  beside: Prepared | None = None,
  compile_step: bool = False,
) -> Prepared:
  """Reads all that a run needs, and opens its MODEL_DIR.

  Args:
    arguments: The run's.
    mesh: Where it lies.
    name: What the log calls the run, where there are several.
    loaded: The backbone's weights, if they were read before.
    beside: A run of the same job, whose frozen parameters serve this one, and
      for whose model evaluations are compiled once.
    compile_step: Whether to compile the step of this run alone, in a thread,
      while evaluations are prepared.

  Raises:
    ValueError: If anything does not fit; nothing is written then.
  """
  a = arguments
  check_steps_per_dispatch(a.steps_per_dispatch)
  check_depth(a.prefetch_batches)
  packing = _packing(a.packed_length, a.num_microbatches, mesh)
  lengths = check(a)
  paths.check_writable_dir(a.model_dir)
  init_rng, step_rng = jax.random.split(jax.random.key(a.seed))
  network = build_network(
    a.backbone,
    a.prompt,
    rng=init_rng,
    from_scratch=a.from_scratch,
    loaded=loaded,
    method=a.method,
    in_parts=placement.reads_in_parts(mesh),
  )
  if beside is not None:
    network = dataclasses.replace(network, model=beside.network.model)
  else:
    network = network.on(mesh, a.hardware.axis_rules)
  table = partition.describe(network.params, a.trainable)
  check_trained(network.model, a.trainable)
  if beside is None:
    logging.info("\n%s", table)
  state, frozen = placement.place(
    a, network, mesh, frozen=None if beside is None else beside.frozen
  )
  # The devices have them: a copy in the host's memory would be a second one.
  network = dataclasses.replace(network, params={})
  check_row_length(a.packed_length, lengths, network.layout.num_added, mesh)
  stream = a.inputs.stream(a.backbone.vocabulary, lengths, seed=a.seed)
  builder = _builder(a, network, lengths, packing)
  # An example that does not fit ends the run now, not after a thousand steps.
  builder.check(stream.examples)
  if packing is None and stream.is_in_memory:
    fitting = _fitting(stream.examples, builder, mesh)
    builder = _builder(a, network, fitting, None)
  steps = None
  if compile_step:
    steps = _steps(a, network, state, mesh)
    if _compiles_ahead(a):
      rows = mesh_lib.local_rows(a.batch_size, mesh)
      empty = [builder.batch([], num_rows=len(rows))] * a.steps_per_dispatch
      key = mesh_lib.replicate_key(step_rng, mesh)
      steps.compile_ahead(state, frozen, empty, key)
  batches = _batches(a, stream, builder, mesh=mesh)
  identity = card.identity(a, network, lengths, batches.card)
  evaluate, evaluate_finally = (
    _evaluate_all(a, evaluations, network, lengths, frozen)
    for evaluations in (a.evaluations, a.final_evaluations)
  )
  model_dir.check_same_run(a.model_dir, identity)
  checkpoints = Checkpoints(a.model_dir, run=identity, keep=a.keep_checkpoints)
  start_lib.check_same_everywhere(identity, checkpoints.latest_step())
  start = start_lib.Start(state)
  if checkpoints.latest_step() is not None:
    start = start_lib.resume(checkpoints, state, batches)
    logging.info("Resuming %s at step %d", a.model_dir, start.step)
  model_dir.describe_run(
    a.model_dir,
    identity,
    table=table,
    counts={
      "trained": partition.count(state.trainable),
      "frozen": partition.count(frozen),
    },
    config_text=a.config_text,
  )
  run = Run(
    start=start,
    batches=batches,
    rng=step_rng,
    mesh=mesh,
    plan=a.plan,
    model_dir=a.model_dir,
    checkpoints=checkpoints,
    writer=writers.default_writer(a.model_dir, name=name),
    evaluate=evaluate,
    evaluate_finally=evaluate_finally,
    selection=a.selection,
    export=card.exporter(a, network)
    if set(state.trainable) == {"prompt"} and a.method is None
    else None,  # A prompt is no artifact without the weights tuned with it.
    meter=_meter(a, network, frozen, mesh, builder)
    if packing is None
    else throughput.Meter(),  # The shapes of packed batches vary.
  )
  return Prepared(run=run, frozen=frozen, network=network, steps=steps)


def check(arguments: TrainArguments) -> FeatureLengths:
  """Checks arguments of `train` before weights and examples are read.

  Raises:
    ValueError: What is to be read is not there, or does not fit.
  """
  a = arguments
  lengths = FeatureLengths.from_mapping(a.feature_lengths)
  preflight.check_inputs(a.inputs, backbone=a.backbone, lengths=lengths)
  preflight.check_evaluations(
    [*a.evaluations, *a.final_evaluations],
    backbone=a.backbone,
    lengths=lengths,
  )
  return lengths


def _packing(
  length: int | None, num_microbatches: int, mesh: Mesh
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


def _steps(
  a: TrainArguments, network: Network, state: TrainState, mesh: Mesh
) -> Steps:
  step = make_train_step(network.model, a.optimizer, **a.step_options)
  return Steps(step, state, mesh=mesh, axis=0)


def _compiles_ahead(a: TrainArguments) -> bool:
  """Returns whether it is known what will be compiled, and that it will be."""
  latest = checkpoint_files.latest_step(a.model_dir)
  if latest is not None and latest >= a.plan.total_steps:
    return False
  # The shapes of packed batches vary. Several processes compile in one order.
  return a.packed_length is None and jax.process_count() == 1


def _builder(
  a: TrainArguments,
  network: Network,
  lengths: FeatureLengths,
  packing: Packing | None,
) -> FeatureBuilder:
  settings = {
    "vocab_size": a.backbone.config.vocab_size,
    "layout": network.layout,
    "num_prompts": network.model.num_prompts,
    "truncate_targets": a.inputs.truncate_targets,
  }
  if packing is None:
    return FeatureBuilder(lengths, **settings)
  return PackedFeatureBuilder(lengths, packing=packing, **settings)


def _fitting(
  examples: Sequence[Example], builder: FeatureBuilder, mesh: Mesh
) -> FeatureLengths:
  """Returns lengths with little of the padding that every row would have."""
  fitting = builder.lengths.fitting(
    examples,
    num_added=builder.layout.num_added,
    multiple=_TILE * mesh.shape[mesh_lib.SEQUENCE],
  )
  if fitting != builder.lengths:
    logging.info(
      "TASK_FEATURE_LENGTHS allow %s; no example needs more than %s",
      builder.lengths,
      fitting,
    )
  return fitting


def _batches(
  a: TrainArguments,
  stream: ExampleStream,
  builder: FeatureBuilder,
  *,
  mesh: Mesh,
) -> PrefetchedBatches:
  batches = Batches(
    stream,
    builder,
    batch_size=a.batch_size,
    rows=mesh_lib.local_rows(a.batch_size, mesh),
  )
  return PrefetchedBatches(batches, depth=a.prefetch_batches)


def _evaluate_all(
  a: TrainArguments,
  evaluations: Sequence[Evaluation],
  network: Network,
  lengths: FeatureLengths,
  frozen: Params,
) -> Evaluate | None:
  """Reads what is evaluated; returns what measures what is trained."""
  measures = [
    evaluation.prepare(
      network.model,
      vocabulary=a.backbone.vocabulary,
      lengths=lengths,
      layout=network.layout,
      output_dir=a.model_dir,
    )
    for evaluation in evaluations
  ]
  if not measures:
    return None

  def evaluate(trainable: Params, step: int) -> Mapping[str, float]:
    params = partition.merge(trainable, frozen)
    results: dict[str, float] = {}
    for measure in measures:
      results.update(measure(params, step))
    return results

  return evaluate


def _meter(
  a: TrainArguments,
  network: Network,
  frozen: Params,
  mesh: Mesh,
  builder: FeatureBuilder,
) -> throughput.Meter:
  peak = None
  if a.hardware.peak_flops_per_second is not None:
    peak = throughput.Peak(a.hardware.peak_flops_per_second, mesh.size)
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
    batch_size=a.batch_size,
    inputs_length=builder.encoder_length,
    targets_length=builder.lengths.targets,
    num_compiled=prompt.num_prompts if is_apart else 0,
    compiled_length=prompt.length if is_apart else 0,
  )
  return throughput.Meter(step_flops=products.step_flops(gradients), peak=peak)
