"""Which mesh is taken, with a compiler that answers at once."""

import jax
import pytest

from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.scale import report, search
from prompt_tuning.scale.chips import CHIPS
from prompt_tuning.scale.compilation import Cost, DoesNotFit
from prompt_tuning.scale.programs import Program
from prompt_tuning.scale.slices import Slice
from prompt_tuning.scale.work import Collectives, Work
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train.mesh_choice import Need

GIB = 2**30
V5E = CHIPS["v5e"]


class FakeRun:
  """Names its programs by their mesh; 20 GiB of parameters, all cut."""

  num_parameters = 10 * GIB
  encoder_length = 612
  batch_size = 2
  sequence_ways = 1

  @property
  def rows(self):
    return self.batch_size

  lengths = FeatureLengths(inputs=512, targets=16)

  def check_mesh(self, mesh):
    mesh_lib.check_batch_size(self.batch_size, mesh)

  def weight_bytes(self, mesh):
    return 20 * GIB // mesh.shape["model"]

  def need(self, shape):
    return Need(parameters=20 * GIB // shape.model, activations=0)

  def __getattr__(self, name):
    return lambda mesh: Program(
      name=name, function=print, arguments=(mesh.shape["model"],)
    )


def cost(name="train", *, flops=0, hbm_bytes=0, sent_bytes=0.0):
  kinds = {"all-reduce": Collectives(1, 10, sent_bytes)} if sent_bytes else {}
  return Cost(
    name=name,
    argument_bytes=GIB,
    temporary_bytes=2 * GIB,
    code_bytes=GIB,
    work=Work(flops=flops, hbm_bytes=hbm_bytes, collectives=kinds),
    chip=V5E,
    compile_seconds=1.0,
  )


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch):
  monkeypatch.setattr(Slice, "devices", lambda self: jax.devices()[:4])
  monkeypatch.setattr(
    search,
    "compile_for",
    lambda chip, program: _ANSWERS[program.name, *program.arguments](),
  )


def _refuse():
  raise DoesNotFit("needs 20GiB of the 16GiB that a program may use")


_ANSWERS = {
  ("train", 2): lambda: cost(flops=10**12),
  ("train", 4): lambda: cost(flops=10**9),
  ("score", 4): lambda: cost("score", flops=10**9),
  ("decode", 4): _refuse,
}


@pytest.mark.multidevice
def test_the_fastest_mesh_that_fits_is_taken():
  plan = search.make_plan(FakeRun(), Slice.parse("v5e:2x2"))  # pyright: ignore
  outcome = {trial.shape.model: trial.refusal or "" for trial in plan.trials}
  assert "batch of 2 examples" in outcome[1]
  assert not outcome[2]
  assert plan.best is not None
  assert plan.best.shape.model == 4
  assert [each.name for each in plan.costs] == ["train", "score"]
  assert "20GiB" in plan.failures["decode"]


@pytest.mark.multidevice
def test_parameters_that_cannot_fit_are_not_compiled():
  run = FakeRun()
  run.batch_size = 4
  plan = search.make_plan(run, Slice.parse("v5e:2x2"), model_ways=[1])  # pyright: ignore
  assert plan.best is None
  assert "parameters alone" in (plan.trials[0].refusal or "")
  assert "does not fit v5e:2x2" in report.describe(run, plan)  # pyright: ignore
  assert "does not fit" in report.table([(run, plan)])  # pyright: ignore


@pytest.mark.multidevice
def test_the_report_says_all():
  run = FakeRun()
  plan = search.make_plan(run, Slice.parse("v5e:2x2"))  # pyright: ignore
  text = report.describe(run, plan)  # pyright: ignore
  for part in ("data=1 x model=4", "5.00 GiB", "2.00 GiB", "25 %", "compute"):
    assert part in text
  assert "decode     no: needs 20GiB" in text
  assert "MODEL_PARTITIONS 'auto' takes data=2 x model=2" in text


@pytest.mark.parametrize(
  ("work", "bound", "seconds"),
  [
    ({"flops": 197 * 10**12}, "compute", 1.0),
    ({"hbm_bytes": 819 * 10**9, "flops": 10}, "memory", 1.0),
    ({"sent_bytes": 200e9, "flops": 10}, "links", 2.0),
  ],
)
def test_the_slowest_part_is_the_bound(work, bound, seconds):
  step = cost(**work)
  assert step.bound == bound
  assert step.seconds == pytest.approx(seconds)
