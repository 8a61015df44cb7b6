"""What a run would do, without weights and without reading its data.

Each function here has the name and the arguments of the run that it describes.
It refuses what shows without weights and folders, and computes everything else
on shapes, so that XXL can be looked at on a laptop. Nothing is written.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh

from prompt_tuning.backbone import Backbone
from prompt_tuning.data.batches import check_shapes, padding_batch
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.inputs import Inputs
from prompt_tuning.evaluate.predictors import Predictor
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.model import t5
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import evaluate as evaluate_lib
from prompt_tuning.runs import infer as infer_lib
from prompt_tuning.runs import train as train_lib
from prompt_tuning.runs import train_jointly as joint_lib
from prompt_tuning.runs.network import Network, abstract_network
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import partition
from prompt_tuning.train.held_out import HeldOutLoss
from prompt_tuning.train.optimizers import Optimizer
from prompt_tuning.train.step import (
  LossNormalization,
  batch_loss,
  init_state,
  make_train_step,
)
from prompt_tuning.types import enum_member

_ROW = "{:<24}{:>16}{:>20}"
_ALL_DEVICES = train_lib.Hardware()


def train(
  *,
  backbone: Backbone,
  inputs: Inputs,
  feature_lengths: Mapping[str, int],
  batch_size: int,
  trainable: Sequence[str],
  optimizer: Optimizer,
  prompt: PromptSpec | None = None,
  from_scratch: bool = False,
  evaluations: Sequence[train_lib.Evaluation] = (),
  z_loss: float = 1e-4,
  loss_normalization: LossNormalization = LossNormalization.SUM,
  num_microbatches: int = 1,
  hardware: train_lib.Hardware = _ALL_DEVICES,
  **unused: Any,
) -> str:
  """Returns the parameter table and one step by shape evaluation, as text.

  Args:
    backbone: See `runs.train.train` for this and the others.
    inputs: What is trained on.
    feature_lengths: TASK_FEATURE_LENGTHS.
    batch_size: B.
    trainable: Patterns of the paths that are trained.
    optimizer: Updates what is trained.
    prompt: The soft prompt.
    from_scratch: Whether the backbone starts from random weights.
    evaluations: What is measured at every evaluation.
    z_loss: Coefficient of the z-loss.
    loss_normalization: What the summed loss is divided by.
    num_microbatches: Parts in which a batch is run.
    hardware: How it lies on the devices, which this machine need not have.
    **unused: What else a run is configured with, which decides no shape.

  Raises:
    ValueError: As the run itself would, of what can be known without weights
      and data.
  """
  del unused
  mesh = _mesh(hardware)
  mesh_lib.check_batch_size(batch_size, mesh)
  lengths = train_lib.check(backbone, inputs, feature_lengths, evaluations)
  network = abstract_network(backbone, prompt, from_scratch=from_scratch)
  batch = _batch(network, lengths, batch_size)
  parts = partition.split(network.params, trainable)
  # What is trained is kept in float32, whatever the backbone is stored in.
  trained = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float32), parts.trainable
  )
  state = jax.eval_shape(lambda p: init_state(p, optimizer), trained)
  step = make_train_step(
    network.model,
    optimizer,
    z_loss=z_loss,
    loss_normalization=loss_normalization,
    num_microbatches=num_microbatches,
  )
  after, metrics = jax.eval_shape(step, state, parts.frozen, batch, _key())
  lines = [
    partition.describe(partition.merge(trained, parts.frozen), trainable),
    *_batch_lines("one batch", batch),
    f"frozen parameters: {_bytes(parts.frozen)}",
    f"trainable parameters: {_bytes(after.trainable)}",
    f"optimizer state: {_bytes(after.opt_state)}",
    f"metrics: {', '.join(sorted(metrics))}",
    *_mesh_lines(network, parts.frozen, after, mesh, hardware),
  ]
  return "\n".join(lines) + "\n"


def train_jointly(runs: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns the runs of a job and the first of them by shapes, as text.

  Args:
    runs: See `runs.train_jointly.train_jointly`.

  Raises:
    ValueError: As the job itself would, of what can be known without weights
      and data; the run is named.
  """
  arguments = {
    name: joint_lib.with_defaults(given) for name, given in runs.items()
  }
  joint_lib.check(arguments)
  lines = [f"{len(runs)} runs over one backbone:"]
  for name, each in arguments.items():
    joint_lib.check_alone(name, each)
    lines.append(f"  {name}: {each.inputs.name}, in {each.model_dir}")
  name, first = next(iter(runs.items()))
  return "\n".join([*lines, "", f"{name}:", train(**first)])


def evaluate(
  *,
  backbone: Backbone,
  feature_lengths: Mapping[str, int],
  evaluations: Sequence[train_lib.Evaluation],
  prompt_file: str | None = None,
  allow_missing_card: bool = False,
  **unused: Any,
) -> str:
  """Returns the parameters and one batch of each evaluation by shapes, as text.

  Args:
    backbone: See `runs.evaluate.evaluate` for this and the others.
    feature_lengths: TASK_FEATURE_LENGTHS.
    evaluations: What is measured.
    prompt_file: A tuned prompt, which is read: it is small.
    allow_missing_card: Whether to take a prompt without a card.
    **unused: What else a run is configured with, which decides no shape.

  Raises:
    ValueError: As the run itself would, of what can be known without weights
      and data.
  """
  del unused
  lengths = evaluate_lib.check(backbone, feature_lengths, evaluations)
  network, lines = _frozen(backbone, prompt_file, allow_missing_card)
  for evaluation in evaluations:
    match evaluation:
      case TaskEvaluation():
        title = f"one batch of task {evaluation.task}"
        answer = evaluation.predictor.build(
          network.model, vocabulary=backbone.vocabulary, lengths=lengths
        )
        batch = _batch(network, lengths, evaluation.batch_size)
        lines += _answered(title, answer, network, batch, "predictions")
      case HeldOutLoss():
        title = f"one batch of {evaluation.inputs.name}"
        batch = _batch(network, lengths, evaluation.batch_size)
        lines += _answered(title, _loss_fn(network), network, batch, "loss")
      case _:
        lines.append(f"not known by its shapes: {type(evaluation).__name__}")
  return "\n".join(lines) + "\n"


def infer(
  *,
  backbone: Backbone,
  inputs: infer_lib.Texts,
  feature_lengths: Mapping[str, int],
  batch_size: int,
  predictor: Predictor,
  length_buckets: int = 1,
  mode: infer_lib.Mode | str = infer_lib.Mode.PREDICT,
  prompt_file: str | None = None,
  allow_missing_card: bool = False,
  **unused: Any,
) -> str:
  """Returns the parameters and one batch by shapes, as text.

  Args:
    backbone: See `runs.infer.infer` for this and the others.
    inputs: What to predict for; of a file the first line is read.
    feature_lengths: TASK_FEATURE_LENGTHS.
    batch_size: B.
    predictor: How answers are found.
    length_buckets: How many encoder lengths batches have; the longest is shown.
    mode: Whether to predict answers or to score targets.
    prompt_file: A tuned prompt, which is read: it is small.
    allow_missing_card: Whether to take a prompt without a card.
    **unused: What else a run is configured with, which decides no shape.

  Raises:
    ValueError: As the run itself would, of what can be known without weights
      and data.
  """
  del unused
  mode = enum_member(infer_lib.Mode, mode, name="INFER_MODE")
  check_shapes(batch_size=batch_size, length_buckets=length_buckets)
  lengths = infer_lib.check(backbone, inputs, feature_lengths, mode)
  network, lines = _frozen(backbone, prompt_file, allow_missing_card)
  answer = infer_lib.answer_fn(
    network.model,
    vocabulary=backbone.vocabulary,
    lengths=lengths,
    predictor=predictor,
    mode=mode,
  )
  is_score = mode is infer_lib.Mode.SCORE
  lines += _answered(
    "one batch",
    answer,
    network,
    _batch(network, lengths, batch_size),
    "scores" if is_score else "predictions",
  )
  return "\n".join(lines) + "\n"


def _frozen(
  backbone: Backbone, prompt_file: str | None, allow_missing_card: bool
) -> tuple[Network, list[str]]:
  """Returns a network of which nothing is trained, and a table of it."""
  saved = evaluate_lib.load_prompt(
    backbone, prompt_file, allow_missing_card=allow_missing_card
  )
  network = abstract_network(
    backbone, None if saved is None else PromptSpec.of_saved(saved)
  )
  lines = [_ROW.format("subtree", "frozen", "bytes")]
  for name, part in [
    *sorted(network.params.items()),
    ("total", network.params),
  ]:
    lines.append(
      _ROW.format(name, f"{_count(part):,}", f"{_num_bytes(part):,}")
    )
  lines.append("trainable: nothing")
  if saved is not None:
    shape = list(saved.array.shape)
    lines.append(f"prompt: {saved.array.dtype}{shape} from {prompt_file}")
    if saved.card is not None:
      # Whether it is this backbone does not show without weights.
      lines.append(
        f"  tuned on {saved.card.task or 'a task without a name'}, step "
        f"{saved.card.step}, with the backbone {saved.card.backbone}"
      )
  return network, [*lines, ""]


def _loss_fn(network: Network) -> Callable[..., Any]:
  return lambda params, batch, rngs: batch_loss(network.model, params, batch)


def _answered(
  title: str,
  answer: Callable[..., Any],
  network: Network,
  batch: Mapping[str, jax.ShapeDtypeStruct],
  what: str,
) -> list[str]:
  """Describes one batch and what comes out for it."""
  rows, _ = batch["encoder_input_tokens"].shape
  answers = jax.eval_shape(answer, network.params, batch, _keys(rows))
  shapes = ", ".join(map(_shape, jax.tree.leaves(answers)))
  return [
    *_batch_lines(title, batch),
    f"{what}: {shapes}, {_bytes(answers)}",
  ]


def _batch(
  network: Network, lengths: FeatureLengths, batch_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
  builder = FeatureBuilder(
    lengths,
    vocab_size=network.model.config.vocab_size,
    layout=network.layout,
    num_prompts=network.model.num_prompts,
  )
  batch = padding_batch(builder, batch_size=batch_size)
  return {
    name: jax.ShapeDtypeStruct(value.shape, value.dtype)
    for name, value in batch.items()
  }


def _batch_lines(
  title: str, batch: Mapping[str, jax.ShapeDtypeStruct]
) -> list[str]:
  features = [f"  {name}: {_shape(x)}" for name, x in batch.items()]
  return [f"{title}: {_bytes(batch)}", *features]


def _mesh(hardware: train_lib.Hardware) -> Any:
  """Returns the mesh of a run, an abstract one if it takes more devices."""
  data, model = hardware.data, hardware.model
  is_number = model > 0 and (data > 0 or data == -1)
  if not is_number or max(data, 1) * model <= jax.device_count():
    return mesh_lib.make_mesh(data, model)
  return AbstractMesh((max(data, 1), model), (mesh_lib.DATA, mesh_lib.MODEL))


def _mesh_lines(
  network: Network,
  frozen: Any,
  state: Any,
  mesh: Any,
  hardware: train_lib.Hardware,
) -> list[str]:
  """Describes what lies on each device.

  Raises:
    ValueError: A parameter does not divide over the mesh.
  """
  axes = t5.logical_axes(network.model)

  def shardings(params):
    return mesh_lib.param_shardings(
      params, axes, mesh=mesh, rules=hardware.axis_rules
    )

  of_state = mesh_lib.state_shardings(
    state, shardings(state.trainable), mesh=mesh
  )
  on_each = _num_bytes(frozen, shardings(frozen)) + _num_bytes(state, of_state)
  lines = [
    f"on each of {mesh.size} devices ({mesh_lib.describe(mesh)}): {on_each:,} "
    "bytes of parameters and optimizer state"
  ]
  if mesh.size > jax.device_count():
    lines.append(
      f"this machine has only {jax.device_count()} of the {mesh.size} devices: "
      "here the run would be refused"
    )
  return lines


def _key() -> Any:
  return jax.eval_shape(lambda: jax.random.key(0))


def _keys(rows: int) -> Any:
  return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))


def _shape(leaf: Any) -> str:
  return f"{leaf.dtype}{list(leaf.shape)}"


def _count(tree: Any) -> int:
  return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def _num_bytes(tree: Any, shardings: Any = None) -> int:
  """Returns the bytes of all leaves, or of what one device holds of them."""
  leaves = jax.tree.leaves(tree)
  shapes = [leaf.shape for leaf in leaves]
  if shardings is not None:
    shapes = [
      sharding.shard_shape(shape)
      for sharding, shape in zip(
        jax.tree.leaves(shardings), shapes, strict=True
      )
    ]
  return sum(
    int(np.prod(shape)) * np.dtype(leaf.dtype).itemsize
    for leaf, shape in zip(leaves, shapes, strict=True)
  )


def _bytes(tree: Any) -> str:
  return f"{_num_bytes(tree):,} bytes"
