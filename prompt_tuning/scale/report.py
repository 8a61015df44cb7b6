"""A plan as text."""

from collections.abc import Iterator, Sequence

from prompt_tuning.scale.compilation import Cost
from prompt_tuning.scale.programs import Run
from prompt_tuning.scale.search import Plan, Trial

_GIB = 2**30
_TRIAL = "{:<32}{:>9}{:>11}{:>8}{:>10}{:>10}{:>10}{:>10}{:>9}"
_COST = "{:<9}{:>11}{:>11}{:>8}{:>10}{:>10}{:>9}{:>10}{:>10}{:>9}"
_ROW = (
  "parameters",
  "slice",
  "chips",
  "batch",
  "mesh",
  "weights GiB",
  "activations and temporaries GiB",
  "TFLOP",
  "GB moved",
  "MB sent",
  "train step ms",
  "bound",
  "score ms",
  "decode ms",
)


def describe(run: Run, plan: Plan) -> str:
  """Returns all that is known of a plan."""
  lines = [*_head(run, plan), "", *_trials(plan)]
  if plan.best is None:
    lines += ["", f"does not fit {plan.slice.name} with this batch"]
  else:
    lines += ["", *_steps(plan)]
  return "\n".join(lines) + "\n"


def table(rows: Sequence[tuple[Run, Plan]]) -> str:
  """Returns a Markdown table, one row a plan."""
  lines = [_line(_ROW), _line(["---"] * len(_ROW))]
  lines += [_line(_row(run, plan)) for run, plan in rows]
  return "\n".join(lines) + "\n"


def _head(run: Run, plan: Plan) -> Iterator[str]:
  chip, slice_ = plan.slice.chip, plan.slice
  yield (
    f"{run.num_parameters:,} parameters; batch {run.batch_size}, encoder "
    f"{run.encoder_length} tokens, decoder {run.lengths.targets}"
  )
  yield (
    f"{slice_.name}: {slice_.num_chips} chips, each "
    f"{chip.flops_per_second / 1e12:.0f} TFLOP/s in bfloat16, "
    f"{chip.hbm_bytes / _GIB:.0f} GiB at "
    f"{chip.hbm_bytes_per_second / 1e9:.0f} GB/s, "
    f"{chip.ring_bytes_per_second / 1e9:.0f} GB/s sent in a ring"
  )


def _trials(plan: Plan) -> Iterator[str]:
  yield "Training step on each chip, by mesh (times are lower bounds)"
  yield _TRIAL.format(
    "mesh",
    "weights",
    "temporary",
    "of HBM",
    "compute",
    "memory",
    "links",
    "step",
    "bound",
  )
  for trial in plan.trials:
    yield _trial(trial)
  auto = "none, by its estimate" if plan.auto is None else plan.auto.name
  yield f"MODEL_PARTITIONS 'auto' takes {auto}"


def _trial(trial: Trial) -> str:
  cost = trial.cost
  if cost is None or trial.weight_bytes is None:
    return f"{trial.name:<32}  no: {trial.refusal}"
  return _TRIAL.format(
    trial.name,
    _gib(trial.weight_bytes),
    _gib(cost.temporary_bytes),
    _share(cost),
    *(_ms(seconds) for seconds in cost.bounds.values()),
    _ms(cost.seconds),
    cost.bound,
  )


def _steps(plan: Plan) -> Iterator[str]:
  assert plan.best is not None
  yield f"Best mesh: {plan.best.name}. Its steps, on each chip:"
  yield _COST.format(
    "step",
    "arguments",
    "temporary",
    "of HBM",
    "TFLOP",
    "GB moved",
    "MB sent",
    "at least",
    "bound",
    "compiled",
  )
  for cost in plan.costs:
    yield _COST.format(
      cost.name,
      _gib(cost.argument_bytes),
      _gib(cost.temporary_bytes),
      _share(cost),
      f"{cost.work.flops / 1e12:.3f}",
      f"{cost.work.hbm_bytes / 1e9:.2f}",
      f"{cost.work.sent_bytes / 1e6:.1f}",
      _ms(cost.seconds),
      cost.bound,
      f"{cost.compile_seconds:.0f} s",
    )
  for name, reason in plan.failures.items():
    yield f"{name:<9}  no: {reason}"
  for cost in plan.costs:
    yield from _collectives(cost)


def _collectives(cost: Cost) -> Iterator[str]:
  for kind, each in cost.work.collectives.items():
    yield (
      f"{cost.name}: {each.count} {kind} of {each.num_bytes / 1e6:.2f} MB "
      f"together, {each.sent_bytes / 1e6:.2f} MB sent"
    )
  if cost.work.unknown_loops:
    yield (
      f"{cost.name}: {cost.work.unknown_loops} loops of unknown length are "
      "counted as running once"
    )


def _row(run: Run, plan: Plan) -> list[str]:
  first = [
    f"{run.num_parameters / 1e6:,.0f} M",
    plan.slice.name,
    str(plan.slice.num_chips),
    str(run.batch_size),
  ]
  best = plan.best
  if best is None or best.cost is None or best.weight_bytes is None:
    return [*first, "does not fit", *[""] * (len(_ROW) - 5)]
  work = best.cost.work
  times = {cost.name: f"{1e3 * cost.seconds:.2f}" for cost in plan.costs}
  return [
    *first,
    best.shape.name,
    f"{best.weight_bytes / _GIB:.2f}",
    f"{best.cost.temporary_bytes / _GIB:.2f}",
    f"{work.flops / 1e12:.3f}",
    f"{work.hbm_bytes / 1e9:.2f}",
    f"{work.sent_bytes / 1e6:.1f}",
    times["train"],
    best.cost.bound,
    times.get("score", "does not fit"),
    times.get("decode", "does not fit"),
  ]


def _line(cells: Sequence[str]) -> str:
  return f"| {' | '.join(cells)} |"


def _gib(num_bytes: int) -> str:
  return f"{num_bytes / _GIB:.2f} GiB"


def _share(cost: Cost) -> str:
  return f"{100 * cost.memory_bytes / cost.chip.hbm_bytes:.0f} %"


def _ms(seconds: float) -> str:
  return f"{1e3 * seconds:.2f} ms"
