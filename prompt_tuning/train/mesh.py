"""Lays arrays out over devices: mesh, axis rules, shardings.

Distribution is JAX's own: parameters and batches are placed with a
`NamedSharding` and the compiler does the rest. A rule table says which logical
axis of an array is cut along which axis of the mesh; soft prompts are on every
device.
"""

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from prompt_tuning.model.sharding import (
  DATA,
  MODEL,
  SEQUENCE,
  AxisRules,
  feature_spec,
)
from prompt_tuning.model.stack import reading_order
from prompt_tuning.train import partition
from prompt_tuning.types import Params

AXES = (DATA, SEQUENCE, MODEL)

Bounds = tuple[tuple[int, int], ...]
"""Where a part of an array begins and ends along each axis."""

DEFAULT_RULES: AxisRules = (
  ("vocab", MODEL),
  ("heads", MODEL),
  ("joined_kv", MODEL),
  ("mlp", MODEL),
  ("embed", None),
  ("kv", None),
  ("relpos_buckets", None),
  ("layers", None),
  ("num_prompts", None),
  ("prompt", None),
  ("prompt_embed", None),
)


def make_mesh(
  data: int = -1,
  model: int = 1,
  devices: Sequence[Any] | None = None,
  *,
  sequence: int = 1,
) -> Mesh:
  """Returns a mesh of `data` x `sequence` x `model` devices.

  Args:
    data: Ways to cut the batch; -1 for as many as there are devices left.
    model: Ways to cut the wide axes of the parameters.
    devices: JAX devices; all of all processes by default.
    sequence: Ways to cut the inputs of an example.

  Raises:
    ValueError: If the product is not the number of devices.
  """
  count = len(jax.devices() if devices is None else devices)
  if min(model, sequence) < 1 or (data < 1 and data != -1):
    raise ValueError(
      "A mesh axis must be a positive number (data may be -1, for the rest), "
      f"got data={data}, sequence={sequence}, model={model}."
    )
  if data == -1:
    data = count // (sequence * model)
  shape = {DATA: data, SEQUENCE: sequence, MODEL: model}
  if data * sequence * model != count:
    raise ValueError(
      f"The mesh {in_words(shape)} does not use the {count} devices; choose "
      f"sequence and model axes whose product divides {count}, and data=-1."
    )
  laid_out = mesh_utils.create_device_mesh(
    tuple(shape.values()),
    devices,
    # A slice's torus may have no axis as long as one of these.
    allow_split_physical_axes=True,
  )
  # On explicit axes, which are JAX's default, linen's constraints fail.
  mesh = Mesh(laid_out, AXES, axis_types=(AxisType.Auto,) * len(AXES))
  # Devices that are only compiled for belong to several processes, too.
  if jax.process_count() > 1:
    _introduce(mesh)
  return mesh


def _introduce(mesh: Mesh) -> None:
  """Lets devices exchange a number along every axis, and along several.

  Processes that meet for the first time connect, for which Gloo grants half a
  minute. Here they come at the same time; not after a long compilation.
  """
  ones = np.ones(mesh.devices.shape, np.float32)
  cut = NamedSharding(mesh, PartitionSpec(*AXES))
  spread = jax.make_array_from_callback(ones.shape, cut, lambda i: ones[i])
  long = [axis for axis, size in enumerate(ones.shape) if size > 1]
  for count in range(1, len(long) + 1):
    for axes in itertools.combinations(long, count):
      left = [None if axis in axes else AXES[axis] for axis in range(len(AXES))]
      total = jax.jit(
        lambda x, axes=axes: x.sum(axes, keepdims=True),
        out_shardings=NamedSharding(mesh, PartitionSpec(*left)),
      )
      jax.block_until_ready(total(spread))


def param_shardings(
  shapes: Params,
  axes: Params,
  *,
  mesh: Mesh,
  rules: AxisRules = DEFAULT_RULES,
) -> Params:
  """Returns a `NamedSharding` for every parameter.

  Args:
    shapes: Parameters, or only their shapes.
    axes: The tree of logical axis names, as `model.t5.logical_axes` returns it;
      it may hold more parameters than `shapes`.
    mesh: Where the parameters are to live.
    rules: Mesh axis of each logical axis. Where two axes of one parameter ask
      for the same mesh axis, the first gets it.

  Raises:
    ValueError: If a logical axis has no rule, or the size of an axis does not
      divide by the mesh axis it is cut along; the parameter is named.
  """
  names = partition.flatten(axes)
  flat = partition.flatten(shapes)
  table = dict(rules)
  specs = {
    path: NamedSharding(
      mesh, _spec(path, leaf.shape, names[path], table=table, mesh=mesh)
    )
    for path, leaf in flat.items()
  }
  return traverse_util.unflatten_dict(specs, sep="/")


def state_shardings(state: Any, trainable: Params, *, mesh: Mesh) -> Any:
  """Returns shardings of a train state that follow those of its parameters.

  A leaf whose path ends in a parameter's path belongs to that parameter: it is
  cut like the parameter where it has its shape, and along the axes that are
  left where a factored moment lacks one. Every other leaf is on all devices.

  Args:
    state: The train state, or only its shapes.
    trainable: Trainable parameters' shardings, as `param_shardings` returns.
    mesh: Where leaves that belong to no parameter live.
  """
  by_path = partition.flatten(trainable)
  shapes = _param_shapes(state, by_path)

  def sharding(path, leaf):
    owner = _owner(partition.path_name(path), by_path)
    if owner is None:
      return replicated(mesh)
    spec = _inherited(leaf.shape, shapes[owner], by_path[owner].spec)
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree_util.tree_map_with_path(sharding, state)


def place(params: Params, shardings: Params) -> Params:
  """Returns parameters on the devices.

  Args:
    params: Arrays on the host, the same in every process, or what reads one's
      parts when it is sliced: then no more is read than is placed here, an
      array at a time, once.
    shardings: A sharding for each.
  """
  flat, where = partition.flatten(params), partition.flatten(shardings)
  placed = {path: _put(flat[path], where[path]) for path in reading_order(flat)}
  return traverse_util.unflatten_dict(placed, sep="/")


def _put(value: Any, sharding: NamedSharding) -> jax.Array:
  if isinstance(value, np.ndarray | np.generic | jax.Array):
    if jax.process_count() == 1:
      return jax.device_put(value, sharding)
    # `device_put` would send the whole array to all processes, to compare it.
    value = np.asarray(value)
  shape = value.shape
  indices = sharding.addressable_devices_indices_map(shape).values()
  part = read_parts(value, {_bounds(index, shape) for index in indices})
  return jax.make_array_from_callback(
    shape, sharding, lambda index: part(_bounds(index, shape))
  )


def read_parts(
  value: Any, bounds: Collection[Bounds]
) -> Callable[[Bounds], np.ndarray]:
  """Reads parts of an array, each once; returns what gives one of them.

  Parts that fill a block are read as that block: what is stored in chunks would
  be unpacked for each of them again.

  Args:
    value: What reads a part of the array when it is sliced.
    bounds: Of each part.
  """
  block = tuple(
    (min(low for low, _ in axis), max(high for _, high in axis))
    for axis in zip(*bounds, strict=True)
  )
  is_filled = sum(map(_volume, bounds)) == _volume(block)
  held = {
    each: value[tuple(slice(*axis) for axis in each)]
    for each in ([block] if is_filled else bounds)
  }

  def part(of: Bounds) -> np.ndarray:
    source = block if is_filled else of
    cut = (
      slice(low - first, high - first)
      for (low, high), (first, _) in zip(of, source, strict=True)
    )
    return held[source][tuple(cut)]

  return part


def _bounds(index: Any, shape: tuple[int, ...]) -> Bounds:
  """Returns where slices begin and end, which can be compared."""
  return tuple(
    axis.indices(size)[:2] for axis, size in zip(index, shape, strict=True)
  )


def _volume(bounds: Bounds) -> int:
  return math.prod(high - low for low, high in bounds)


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array that is whole on every device."""
  return NamedSharding(mesh, PartitionSpec())


def replicate_key(key: jax.Array, mesh: Mesh) -> jax.Array:
  """Returns a random key that is whole on every device of the mesh."""
  # With several processes, only the numbers of a key can be put on devices.
  data = jax.device_put(jax.random.key_data(key), replicated(mesh))
  return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
  """Raises a ValueError unless the batch divides over the mesh."""
  ways = mesh.shape[DATA]
  if batch_size % ways:
    below = batch_size - batch_size % ways
    near = " or ".join(str(n) for n in (below, below + ways) if n)
    raise ValueError(
      f"A batch of {batch_size} examples does not divide over the {ways} "
      f"devices of the mesh's data axis (mesh: {describe(mesh)}). Use a batch "
      f"size of {near}, or another mesh."
    )


def check_length(
  tokens: int,
  mesh: Any,
  *,
  num_added: int = 0,
  name: str = "TASK_FEATURE_LENGTHS['inputs']",
) -> None:
  """Checks that rows of the encoder divide over the mesh's sequence axis.

  Args:
    tokens: The length that a setting gives.
    mesh: Where the batch is to live.
    num_added: Slots and words of a template on top of it.
    name: The setting.

  Raises:
    ValueError: If they do not; names the nearest values of the setting.
  """
  ways = mesh.shape[SEQUENCE]
  excess = (tokens + num_added) % ways
  if excess:
    near = [n for n in (tokens - excess, tokens - excess + ways) if n > 0]
    added = f" and {num_added} of slots and template" if num_added else ""
    raise ValueError(
      f"{name} is {tokens}: rows of {tokens} tokens{added} do not divide over "
      f"the {ways} devices of the mesh's sequence axis (mesh: "
      f"{describe(mesh)}). Use {' or '.join(map(str, near))}, or another mesh."
    )


def local_rows(batch_size: int, mesh: Mesh) -> list[int]:
  """Returns which rows of a batch lie on this process's devices, ascending.

  Processes that share a row of the mesh read the same examples, whole; of a
  sequence that is cut across them each holds its part.

  Args:
    batch_size: B of all processes together; it divides over the mesh.
    mesh: Where the batch is to live.
  """
  cut = NamedSharding(mesh, PartitionSpec(DATA))
  parts = cut.addressable_devices_indices_map((batch_size,)).values()
  rows: set[int] = set()
  for part in parts:
    assert part is not None  # These devices do hold some of it.
    rows |= set(range(*part[0].indices(batch_size)))
  return sorted(rows)


def shard_batch(
  batch: Mapping[str, np.ndarray], mesh: Mesh, *, axis: int = 0
) -> dict[str, jax.Array]:
  """Returns the global batch, cut as `model.sharding.feature_spec` says.

  Args:
    batch: Features of the examples that this process has read: the whole batch
      with one process, its `local_rows` with several.
    mesh: Where the batch is to live.
    axis: Which axis the examples are along; those before it are not cut.

  Raises:
    ValueError: If the batch, or its encoder length, does not divide over the
      mesh.
  """
  rows = {np.shape(value)[axis] for value in batch.values()}
  if len(rows) != 1:
    shapes = {name: np.shape(value) for name, value in batch.items()}
    raise ValueError(f"The features of a batch differ in length: {shapes}.")
  size = whole_size(rows.pop(), mesh)
  check_batch_size(size, mesh)

  def spread(name: str, value: np.ndarray) -> jax.Array:
    spec = feature_spec(name, value.ndim - axis)
    if SEQUENCE in spec:
      check_length(value.shape[axis + 1], mesh, name=name)
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, *spec))
    whole = (*value.shape[:axis], size, *value.shape[axis + 1 :])
    return jax.make_array_from_process_local_data(sharding, value, whole)

  return {name: spread(name, np.asarray(x)) for name, x in batch.items()}


def whole_size(rows: int, mesh: Mesh) -> int:
  """Returns the size of the batch of which this process has some rows."""
  if jax.process_count() == 1:
    return rows
  ways = mesh.shape[DATA]
  return rows * ways // len(local_rows(ways, mesh))


def describe(mesh: Mesh) -> str:
  """Returns the mesh in words, such as `data=4 x model=2`."""
  return in_words(mesh.shape)


def in_words(shape: Mapping[str, int]) -> str:
  """Returns sizes of mesh axes in words; a whole sequence is not mentioned."""
  return " x ".join(
    f"{name}={size}"
    for name, size in shape.items()
    if size > 1 or name != SEQUENCE
  )


def _spec(path, shape, names, *, table, mesh):
  if len(names) != len(shape):
    raise ValueError(
      f"Parameter {path!r} has the shape {tuple(shape)} and the logical axes "
      f"{names}; there must be one name for every axis."
    )
  spec: list[str | None] = []
  for name, size in zip(names, shape, strict=True):
    if name is not None and name not in table:
      raise ValueError(
        f"Parameter {path!r} has the logical axis {name!r}, for which there is "
        f"no rule; known are {', '.join(table)}. Add a rule."
      )
    axis = table.get(name)
    if axis in spec:
      axis = None
    if axis is not None and size % mesh.shape[axis]:
      raise ValueError(
        f"Parameter {path!r} {tuple(shape)}: its axis {name!r} of size {size} "
        f"does not divide by the {mesh.shape[axis]} devices of the mesh axis "
        f"{axis!r} (mesh: {describe(mesh)}). Use a smaller {axis} axis, or the "
        f"rule ({name!r}, None)."
      )
    spec.append(axis)
  return PartitionSpec(*spec)


def _owner(name: str, paths: Mapping[str, Any]) -> str | None:
  parts = name.split("/")
  for start in range(len(parts)):
    if "/".join(parts[start:]) in paths:
      return "/".join(parts[start:])
  return None


def _param_shapes(state, paths):
  """Shapes of the parameters themselves: their largest leaf in the state."""
  shapes: dict[str, tuple[int, ...]] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    owner = _owner(partition.path_name(path), paths)
    if owner is not None and len(leaf.shape) >= len(shapes.get(owner, ())):
      shapes[owner] = leaf.shape
  return shapes


def _inherited(shape, param_shape, spec):
  full = tuple(spec) + (None,) * (len(param_shape) - len(spec))
  if shape == param_shape:
    return full
  for gone in range(len(param_shape)):
    if shape == param_shape[:gone] + param_shape[gone + 1 :]:
      return full[:gone] + full[gone + 1 :]
  return ()
