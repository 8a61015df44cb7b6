"""Imports run one way, and the core needs no data or configuration library."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TASKS = sorted((ROOT / "tasks").rglob("*.py"))

_BASE = {"types", "paths", "hub"}
_CORE = _BASE | {"prompts", "model"}
# What a room may import besides itself. Data is a bridge: what the network sees
# of it are arrays.
ALLOWED = {
  "types": set(),
  "paths": set(),
  "hub": set(),
  "metrics": _BASE,
  "prompts": _BASE,
  "model": _BASE | {"prompts"},
  # A recipe names one; a run writes it down, and other libraries' formats too.
  "methods": _CORE,
  "checkpoints": _CORE | {"methods"},
  # A task names its metrics.
  "data": _BASE | {"prompts", "metrics"},
  "config": _BASE,
  "backbone": _CORE | {"checkpoints", "data"},
  "train": _CORE | {"data"},
  "evaluate": _CORE | {"data", "metrics"},
  "analysis": _CORE | {"data", "metrics", "evaluate"},
  "serving": _CORE | {"backbone", "checkpoints", "evaluate"},
  "runs": _CORE
  | {"backbone", "checkpoints", "config", "data", "evaluate", "metrics"}
  | {"analysis", "methods", "train"},
  # What a run would cost elsewhere; it describes runs.
  "scale": _CORE | {"backbone", "data", "evaluate", "runs", "train"},
  # Experiments are told by the command lines of runs, and by their files.
  "sweeps": _BASE | {"config"},
  # The public face imports when it is used.
  "__init__": _CORE,
}
# Programs and test helpers may import anything; nothing may import them.
ENDS = {
  "cache_task",
  "convert",
  "demo",
  "eval",
  "export",
  "infer",
  "inspect",
  "neighbors",
  "plan",
  "report",
  "sweep",
  # Another's trainer imports it, out of a recipe.
  "t5x_bridge",
  "testing",
}
ENDS |= {"train.__main__", "train_jointly"}
TASKS_MAY_SEE = _BASE | {"data", "metrics", "tasks"}

HEAVY = ("gin", "seqio", "tensorflow", "tensorflow_datasets")
HEAVY_PLACES = {
  "gin": ("prompt_tuning/config/",),
  "seqio": ("prompt_tuning/data/", "tasks/"),
  "tensorflow": ("prompt_tuning/data/", "tasks/"),
  "tensorflow_datasets": ("prompt_tuning/data/", "tasks/"),
}


def room_of(parts):
  """The room that a dotted name below the package belongs to."""
  joined = ".".join(parts[:2])
  return joined if joined in ENDS else parts[0]


def own_room(path):
  return room_of(path.relative_to(ROOT / "prompt_tuning").with_suffix("").parts)


ALL_FILES = sorted((ROOT / "prompt_tuning").rglob("*.py"))
LIBRARY = [path for path in ALL_FILES if own_room(path) not in ENDS]


def imported(path):
  """Full names of what a file imports, inside functions too."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}: relative import"
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path):
  for name in imported(path):
    parts = name.split(".")
    if parts[0] == "prompt_tuning" and len(parts) > 1:
      yield room_of(parts[1:]), name


@pytest.mark.parametrize(
  "path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT))
)
def test_library_imports_run_one_way(path):
  room = own_room(path)
  assert room in ALLOWED, f"say in this test what {room} may import"
  wrong = [
    name
    for other, name in rooms_imported(path)
    if other not in ALLOWED[room] | {room}
  ]
  assert not wrong, f"{room} may import {sorted(ALLOWED[room])}, not {wrong}"


@pytest.mark.parametrize("path", TASKS, ids=lambda p: str(p.relative_to(ROOT)))
def test_tasks_see_data_and_metrics_alone(path):
  wrong = [n for room, n in rooms_imported(path) if room not in TASKS_MAY_SEE]
  assert not wrong


def test_t5x_is_imported_by_its_bridge_alone():
  importing = [
    str(path.relative_to(ROOT))
    for path in [*ALL_FILES, *TASKS]
    if any(name.split(".")[0] == "t5x" for name in imported(path))
  ]
  assert importing == ["prompt_tuning/t5x_bridge.py"]


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_libraries_stay_in_their_places(library):
  wrong = [
    str(path.relative_to(ROOT))
    for path in [*ALL_FILES, *TASKS]
    if not str(path.relative_to(ROOT)).startswith(HEAVY_PLACES[library])
    and any(name.split(".")[0] == library for name in imported(path))
  ]
  assert not wrong, f"{library} may be imported in {HEAVY_PLACES[library]}"


_PROBE = """
import sys, time
for name in {blocked!r}:
  sys.modules[name] = None  # Makes its import fail.
start = time.process_time()
for name in {modules!r}:
  __import__(name)
print(time.process_time() - start)
"""


def seconds_to_import(modules, *, blocked=()):
  """Imports in a new process; returns its processor time for that.

  Processor time, because other tests share the cores. Libraries start threads
  when imported, but these do nothing yet.
  """
  script = _PROBE.format(modules=list(modules), blocked=list(blocked))
  result = subprocess.run(
    [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
  )
  assert result.returncode == 0, result.stderr
  return float(result.stdout)


def modules_of(*rooms):
  for room in rooms:
    for path in sorted((ROOT / "prompt_tuning" / room).rglob("*.py")):
      dotted = path.relative_to(ROOT).with_suffix("").parts
      yield ".".join(part for part in dotted if part != "__init__")


CORE = [
  *modules_of("prompts", "model"),
  "prompt_tuning.train.step",
  "prompt_tuning.train.optimizers",
]


def test_core_imports_without_data_libraries_within_two_seconds():
  assert seconds_to_import(CORE, blocked=HEAVY) < 2.0


def test_core_leaves_data_libraries_alone_where_they_are_installed():
  script = "import sys\n" + "".join(f"import {name}\n" for name in CORE)
  script += f"print([n for n in {HEAVY!r} if n in sys.modules])"
  result = subprocess.run(
    [sys.executable, "-c", script],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert result.stdout.strip() == "[]"


def test_metrics_import_without_jax_or_tensorflow():
  blocked = (*HEAVY, "jax", "flax", "sklearn", "scipy")
  assert seconds_to_import(modules_of("metrics"), blocked=blocked) < 0.5


def test_the_package_itself_imports_at_once():
  blocked = (*HEAVY, "jax", "flax", "numpy")
  assert seconds_to_import(["prompt_tuning"], blocked=blocked) < 0.1


def test_no_module_is_called_utils():
  assert not list((ROOT / "prompt_tuning").rglob("*utils.py"))


def test_the_recipes_do_not_hide_the_gin_library():
  assert not (ROOT / "gin" / "__init__.py").exists()


def test_no_assertion_is_commented_out():
  wrong = [
    f"{path.relative_to(ROOT)}:{number}"
    for path in [*(ROOT / "tests").rglob("*.py"), *ALL_FILES]
    for number, line in enumerate(path.read_text().splitlines(), 1)
    if line.strip().startswith(("# assert ", "#assert ", "# self.assert"))
  ]
  assert not wrong
