"""What a file or a folder is: a prompt, an adapter, a backbone, a run."""

import json
import os
import re
from collections.abc import Iterator, Mapping

import numpy as np

from prompt_tuning import hub, paths
from prompt_tuning.checkpoints import architecture, load
from prompt_tuning.checkpoints.locate import Format
from prompt_tuning.checkpoints.peft import files, methods, soft_prompts
from prompt_tuning.prompts import artifact

_SWEEP, _RUN = "sweep.json", "run.json"
_TABLE = "token_embedder/embedding"
_SIZE = re.compile(r"^([A-Z_]+) = (\d+)$", re.MULTILINE)


def describe(path: str) -> str:
  """Returns lines that say what a path is.

  Args:
    path: A prompt, a folder of PEFT, a checkpoint of a T5 in any form that can
      be loaded, either by `hf://org/name` too, or a folder that this project
      wrote.

  Raises:
    ValueError: It is none of these, or broken.
    OSError: There is nothing, or it cannot be read.
  """
  path = hub.any_folder(path)
  place = paths.as_path(path)
  if not paths.exists(place):
    raise FileNotFoundError(f"there is nothing at {path}")
  if files.is_adapter(place):
    lines = _adapter(path)
  elif paths.exists(place / _SWEEP):
    lines = _sweep(place)
  elif os.path.isfile(path) and place.name != "checkpoint":
    lines = _prompt(path)
  else:
    lines = _run(place) if paths.exists(place / _RUN) else iter(())
    lines = [*lines, *_checkpoint(path)]
  return "\n".join(lines)


def _prompt(path: str) -> Iterator[str]:
  saved = artifact.load_prompt(path, allow_missing_card=True)
  yield f"a soft prompt, float32 {list(saved.array.shape)}"
  norms = np.linalg.norm(saved.array, axis=-1)
  yield (
    f"norms of its tokens: {norms.mean():.3g} on average, "
    f"{norms.min():.3g} to {norms.max():.3g}"
  )
  if saved.card is None:
    yield "no card: nothing says which backbone it was tuned on"
    return
  for name in saved.card.__dataclass_fields__:
    value = getattr(saved.card, name)
    if value not in ("", None):
      yield f"{name}: {value}"


def _adapter(path: str) -> Iterator[str]:
  settings = files.read_config(path)
  kind, task = settings.get("peft_type"), settings.get("task_type")
  yield f"a PEFT adapter, {kind} for {task}"
  yield f"base model: {settings.get('base_model_name_or_path')}"
  if (kind, task) == (soft_prompts.KIND, files.SEQ2SEQ):
    saved, _ = soft_prompts.read(path)
    yield f"a soft prompt, float32 {list(saved.array.shape)}; convert reads it"
  elif methods.is_method(settings):
    yield "evaluation and inference read it as TUNED_DIR"
  else:
    yield "of no kind that is read here, or of no T5"
  for name, value in (files.read_card(path) or {}).items():
    if value not in ("", None):
      yield f"{name}: {value}"


def _sweep(place) -> Iterator[str]:
  record = json.loads(paths.read_text(place / _SWEEP))
  runs = sum(len(job["runs"]) for job in record["jobs"])
  yield f"an experiment: {record['about']}"
  jobs, metric = len(record["jobs"]), record["metric"]
  yield f"{jobs} jobs, {runs} runs, compared by {metric}"
  yield "`python -m prompt_tuning.report` tells what came out"


def _run(place) -> Iterator[str]:
  run = json.loads(paths.read_text(place / _RUN))
  yield f"the MODEL_DIR of a run on {run['config'].get('inputs')}"
  yield f"trained: {', '.join(run['trainable'])}"
  yield f"backbone: {run['backbone']}"
  best = place / "prompts" / "best.npy"
  if paths.exists(best):
    yield f"its best prompt is {best}"


def _checkpoint(path: str) -> Iterator[str]:
  found = load.open_weights(path)
  if found is None:
    return
  kind, shapes, types = found
  count = sum(int(np.prod(shape)) for shape in shapes.values())
  yield (
    f"{kind.value}: {len(shapes)} weights, {count:,} parameters, "
    f"{', '.join(sorted(types))}"
  )
  if kind is Format.RUN and _TABLE not in shapes:
    yield "no backbone: what was trained beside a frozen one, for TUNED_DIR"
    return
  made = architecture.of_shapes(shapes)
  yield (
    f"a T5 {'1.1' if made.is_gated else '1.0'}, logits "
    f"{'tied' if made.is_tied else 'of their own'}, {made.num_embeddings} "
    "embeddings"
  )
  yield ", ".join(f"{name} = {size}" for name, size in made.sizes.items())
  names = recipes_of(made.sizes)
  yield f"size recipe: {', '.join(names) or 'none; set these macros'}"


def recipes_of(sizes: Mapping[str, int]) -> list[str]:
  """Returns the recipes of gin/sizes that have just these sizes."""
  folder = paths.recipe_roots()[0] / "sizes"
  found = []
  for file in sorted(folder.glob("*.gin")):
    given = dict(_SIZE.findall(file.read_text()))
    if {n: int(given.get(n, -1)) for n in sizes} == dict(sizes):
      found.append(f"sizes/{file.name}")
  return found
