import dataclasses
import json

import pytest

from prompt_tuning.methods.adapters import Adapters
from prompt_tuning.methods.description import describe, described
from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.label_head import LabelHead
from prompt_tuning.methods.layer_prompts import LayerPrompts
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.methods.prefix_tuning import PrefixTuning
from prompt_tuning.model.method import Method


@pytest.mark.parametrize(
  "method",
  [
    Adapters(width=3),
    IA3(targets=".*key"),
    LabelHead(labels=["no", "yes"]),
    LayerPrompts(num_slots=2, combination="replace"),
    LoRA(rank=2, alpha=3.0),
    PrefixTuning(length=4, hidden=None),
  ],
)
def test_a_method_is_written_down_and_read_again(method):
  assert described(json.loads(json.dumps(describe(method)))) == method


def test_an_unknown_method_is_refused():
  with pytest.raises(ValueError, match=r"'Sorcery' is not known.*Adapters"):
    described({"name": "Sorcery"})


@dataclasses.dataclass(frozen=True)
class Homemade(Method):
  """A method of a user's own."""

  width: int = 1


def test_a_method_of_an_imported_module_is_known():
  assert described(describe(Homemade(width=4))) == Homemade(width=4)
