"""LoRA, IA3 and prefix tuning to and from PEFT, and PEFT itself beside them."""

import json
import warnings

import jax
import numpy as np
import pytest

from prompt_tuning.checkpoints import huggingface
from prompt_tuning.checkpoints.peft import files, methods
from prompt_tuning.evaluate.generation import BeamSearch, Generator, Greedy
from prompt_tuning.methods.adapters import Adapters
from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.methods.merging import merge
from prompt_tuning.methods.prefix_tuning import PrefixTuning
from prompt_tuning.model import t5
from prompt_tuning.testing import fakes, oracles
from prompt_tuning.train import partition

pytest.importorskip(
  "safetensors", reason="the format needs the package safetensors"
)

CONFIG = fakes.tiny_config()
CARD = {"backbone": "b", "step": 7}
ODD, EVEN = {"num_decoder_layers": 3}, {"num_decoder_layers": 4}
AHEAD = {"stacks": ("past",), "has_positions": True}
METHODS = {
  "lora": LoRA(rank=3, alpha=6.0),
  "lora of some sites": LoRA(
    rank=2, alpha=3.0, targets=r".*(self_attention/out|mlp/w[io].*)"
  ),
  "ia3": IA3(),
  "ia3 of outputs": IA3(targets=r"decoder/(.*/query|mlp/wo)"),
  "prefix": PrefixTuning(length=3, hidden=None, **AHEAD),
  "folded prefix": PrefixTuning(length=3, hidden=5, **AHEAD),
}


def layers(name):
  """PEFT can give every layer its own prefix only if their number is odd."""
  return ODD if "prefix" in name else {}


def tuned(method, **overrides):
  """A model with a method, its backbone, and numbers that change something."""
  model = fakes.tiny_model(**overrides)
  bare = fakes.tiny_params(model)
  model = model.clone(method=method)
  rng = np.random.default_rng(2)
  own = jax.tree.map(
    lambda leaf: (leaf + rng.normal(0, 0.3, leaf.shape)).astype(np.float32),
    t5.method_params(model, jax.random.key(0)),
  )
  return model, bare, own


def write(folder, method, own, config, **changes):
  methods.write(
    folder, method, own, config=config, base_model="some/t5", card=CARD
  )
  path = folder / files.CONFIG
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))
  return folder


def logits(model, bare, own, batch):
  return jax.jit(model.apply)(
    {"params": partition.merge(own, bare)},
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
  )


@pytest.mark.parametrize("name", METHODS)
def test_a_round_trip_is_equal_bit_by_bit(name, tmp_path):
  model, bare, own = tuned(METHODS[name], **layers(name))
  read = methods.read(
    write(tmp_path / "a", METHODS[name], own, model.config), model.config
  )
  assert (read.base_model, read.card) == ("some/t5", CARD)
  again = write(tmp_path / "b", read.method, read.params, model.config)
  weights = [x / "adapter_model.safetensors" for x in (tmp_path / "a", again)]
  assert weights[0].read_bytes() == weights[1].read_bytes()
  batch = fakes.tiny_batch(np.random.default_rng(0))
  found = logits(model.clone(method=read.method), bare, read.params, batch)
  wanted = logits(model, bare, own, batch)
  if name == "folded prefix":
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
  else:
    np.testing.assert_array_equal(found, wanted)
    assert partition.flatten(read.params).keys() == (
      partition.flatten(own).keys()
    )
  if name in ("lora", "ia3"):
    assert read.method == METHODS[name]  # In its usual words.


def test_what_peft_has_left_alone_changes_nothing(tmp_path):
  """Layers that are not among the targets of an adapter."""
  model, bare, own = tuned(METHODS["lora"])
  first = {"encoder": {"layers_0": own["encoder"]["layers_0"]}}
  read = methods.read(
    write(tmp_path / "a", METHODS["lora"], first, model.config), model.config
  )
  assert (
    read.method.targets == "encoder/attention/query|encoder/attention/value"
  )
  up = read.params["encoder"]["layers_1"]["attention"]["query"]["lora"]["up"]
  np.testing.assert_array_equal(up, 0)
  batch = fakes.tiny_batch(np.random.default_rng(0))
  alone = jax.tree.map(np.asarray, own)
  for stack, layer in (("encoder", "layers_1"), ("decoder", "layers_0")):
    alone[stack][layer] = jax.tree.map(np.zeros_like, alone[stack][layer])
  alone["decoder"]["layers_1"] = jax.tree.map(
    np.zeros_like, alone["decoder"]["layers_1"]
  )
  np.testing.assert_array_equal(
    logits(model.clone(method=read.method), bare, read.params, batch),
    logits(model, bare, alone, batch),
  )


@pytest.mark.parametrize("name", ["lora", "lora of some sites", "ia3"])
def test_merged_weights_compute_the_same(name):
  model, bare, own = tuned(METHODS[name])
  batch = fakes.tiny_batch(np.random.default_rng(0))
  merged = merge(METHODS[name], own, bare)
  np.testing.assert_allclose(
    logits(model.clone(method=None), merged, {}, batch),
    logits(model, bare, own, batch),
    rtol=1e-4,
    atol=1e-5,
  )


def test_a_prefix_does_not_merge():
  with pytest.raises(ValueError, match="PrefixTuning cannot be merged"):
    merge(METHODS["prefix"], {}, {})


@pytest.mark.parametrize("scan_layers", [False, True])
def test_cached_steps_see_the_prefix_as_teacher_forcing_does(scan_layers):
  model, bare, own = tuned(METHODS["prefix"], scan_layers=scan_layers)
  params = partition.merge(own, bare)
  batch = fakes.tiny_batch(np.random.default_rng(0))
  answers = [
    np.asarray(
      Generator(model, max_decode_length=5, decoder=decoder).predict(
        params, batch
      )
    )
    for decoder in (Greedy(), BeamSearch(num_decodes=1))
  ]
  np.testing.assert_array_equal(*answers)
  inputs = np.pad(answers[0][:, :-1], [(0, 0), (1, 0)])
  forced = jax.jit(model.apply)(
    {"params": params}, batch["encoder_input_tokens"], inputs
  )
  for row, (ids, scores) in enumerate(zip(answers[0], forced, strict=True)):
    ends = np.flatnonzero(ids == 1)
    stop = ends[0] + 1 if len(ends) else len(ids)
    np.testing.assert_array_equal(
      ids[:stop], np.argmax(scores, axis=-1)[:stop], err_msg=str(row)
    )


@pytest.mark.parametrize(
  ("name", "changes", "message"),
  [
    ("lora", {"peft_type": "LOHA"}, "peft_type is 'LOHA'; of what PEFT tunes"),
    ("lora", {"task_type": "CAUSAL_LM"}, "task_type is 'CAUSAL_LM' where"),
    ("lora", {"use_dora": True}, "use_dora is True, which has no counterpart"),
    ("lora", {"bias": "all"}, "bias is 'all', which has no counterpart"),
    ("lora", {"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
    ("lora", {"lora_alpha": None}, "lora_alpha in adapter_config.json is None"),
    ("lora", {"r": 4}, r"lora/down \[16, 3\] and not \[16, 4\]"),
    ("ia3", {"modules_to_save": ["x"]}, r"modules_to_save is \['x'\]"),
    (
      "prefix",
      {"num_layers": 2},
      "num_layers in adapter_config.json is 2, and",
    ),
    ("prefix", {"num_transformer_submodules": 1}, "submodules in .* is 1, and"),
    ("prefix", {"num_virtual_tokens": 4}, r"\[4, 192\] alone, got"),
  ],
)
def test_what_has_no_counterpart(name, changes, message, tmp_path):
  model, _, own = tuned(METHODS[name], **layers(name))
  folder = write(tmp_path / "a", METHODS[name], own, model.config, **changes)
  with pytest.raises(ValueError, match=message):
    methods.read(folder, model.config)


def test_weights_of_another_model(tmp_path):
  model, _, own = tuned(METHODS["lora"], num_encoder_layers=3)
  folder = write(tmp_path / "a", METHODS["lora"], own, model.config)
  with pytest.raises(ValueError, match=r"block\.2\..* is no weight of"):
    methods.read(folder, CONFIG)
  safetensors = pytest.importorskip("safetensors.numpy")
  scale = {
    f"base_model.model.{name}.ia3_l": np.ones((1, 16), np.float32)
    for name in ("encoder.block.0.layer.1.DenseReluDense.wi_1",)
  }
  _, _, scales = tuned(METHODS["ia3"])
  folder = write(tmp_path / "b", METHODS["ia3"], scales, CONFIG)
  safetensors.save_file(scale, folder / "adapter_model.safetensors")
  with pytest.raises(ValueError, match="scales what a projection reads"):
    methods.read(folder, CONFIG)


def test_an_adapter_that_is_not_whole(tmp_path):
  safetensors = pytest.importorskip("safetensors.numpy")
  model, _, own = tuned(METHODS["lora"])
  folder = write(tmp_path / "a", METHODS["lora"], own, model.config)
  file = folder / "adapter_model.safetensors"
  weights = safetensors.load_file(file)
  part = next(name for name in weights if "lora_B" in name)
  safetensors.save_file(
    {name: x for name, x in weights.items() if name != part}, file
  )
  with pytest.raises(ValueError, match=r"lora_B of .* is missing"):
    methods.read(folder, CONFIG)
  safetensors.save_file({}, file)
  with pytest.raises(ValueError, match="holds no weights, so it would"):
    methods.read(folder, CONFIG)


@pytest.mark.parametrize("name", ["lora", "ia3", "prefix"])
def test_what_was_trained_besides_is_not_dropped(name, tmp_path):
  model, bare, own = tuned(METHODS[name], **layers(name))
  scale = {"encoder": {"encoder_norm": {"scale": np.full(16, 5, np.float32)}}}
  both = partition.merge(own, scale)
  with pytest.raises(ValueError, match=r"encoder_norm/scale was trained with"):
    write(tmp_path / "a", METHODS[name], both, model.config)
  if name != "prefix":
    merged = merge(METHODS[name], both, bare)
    np.testing.assert_array_equal(merged["encoder"]["encoder_norm"]["scale"], 5)
    with pytest.raises(ValueError, match="head/rows was trained with"):
      merge(METHODS[name], {**both, "head": {"rows": np.ones(2)}}, bare)


def test_a_model_of_the_hub_is_called_as_peft_calls_it(tmp_path):
  model, _, own = tuned(METHODS["ia3"])
  for number, (called, name, revision) in enumerate(
    [
      ("hf://org/t5@main", "org/t5", "main"),
      ("hf://org/t5", "org/t5", None),
      ("local/t5", "local/t5", None),
    ]
  ):
    folder = tmp_path / str(number)
    methods.write(
      folder,
      METHODS["ia3"],
      own,
      config=model.config,
      base_model=called,
      card=CARD,
    )
    settings = json.loads((folder / files.CONFIG).read_text())
    found = settings["base_model_name_or_path"], settings["revision"]
    assert found == (name, revision)


def test_one_letter_for_two_kinds_of_scale_is_written_out(tmp_path):
  method = IA3(targets="encoder/mlp/hidden|decoder/mlp/wo")
  model, _, own = tuned(method)
  folder = write(tmp_path / "a", method, own, model.config)
  settings = json.loads((folder / files.CONFIG).read_text())
  assert len(settings["target_modules"]) == 4
  assert settings["feedforward_modules"] == [
    f"encoder.block.{n}.layer.1.DenseReluDense.wo" for n in range(2)
  ]
  assert methods.read(folder, model.config).params.keys() == own.keys()


@pytest.mark.parametrize(
  ("method", "overrides", "message"),
  [
    (Adapters(width=2), {}, "PEFT has no Adapters of a T5"),
    (PrefixTuning(length=2, hidden=None), {}, "no prefixes but those in front"),
    (METHODS["prefix"], {}, "the same prefix in the layers 0 and 1 of a decod"),
    (IA3(targets="encoder/residual"), {}, "is none or a second one"),
  ],
)
def test_what_peft_has_not(method, overrides, message, tmp_path):
  model, _, own = tuned(method, **overrides)
  with pytest.raises(ValueError, match=message):
    write(tmp_path / "a", method, own, model.config)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("settings", [{"stacks": ()}, {"stacks": ("decoder",)}])
def test_unknown_stacks(settings):
  with pytest.raises(ValueError, match="some of encoder, cross, past"):
    PrefixTuning(**settings)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.oracle
class TestBesidePeft:
  """The same model in both."""

  def theirs(self, bare, config, folder):
    transformers = oracles.require("transformers")
    huggingface.write(config, bare, folder)
    return transformers.T5ForConditionalGeneration.from_pretrained(folder)

  def greedy(self, adapted, given):
    """Returns six tokens of each row, padded behind the end."""
    torch = oracles.require("torch")
    if adapted.active_peft_config.peft_type != "PREFIX_TUNING":
      return adapted.generate(
        **given, max_new_tokens=6, do_sample=False
      ).numpy()[:, 1:]
    # Of transformers 5.24 generation hands a cache of its own to the model, and
    # PEFT 0.21's prefix is not in it: what the model itself says of each step.
    ids = torch.zeros((len(given["input_ids"]), 1), dtype=torch.long)
    for _ in range(6):
      scores = adapted(**given, decoder_input_ids=ids).logits[:, -1]
      has_ended = (ids == 1).any(dim=1)
      best = torch.where(has_ended, 0, scores.argmax(-1))
      ids = torch.cat([ids, best[:, None]], dim=1)
    return ids.numpy()[:, 1:]

  def assert_same(self, model, bare, own, adapted, batch):
    """Compares logits, and greedy answers."""
    torch = oracles.require("torch")
    inputs = torch.tensor(batch["encoder_input_tokens"]).long()
    given = {"input_ids": inputs, "attention_mask": (inputs > 0).long()}
    adapted.eval()
    with torch.no_grad():
      wanted = adapted(
        **given,
        decoder_input_ids=torch.tensor(batch["decoder_input_tokens"]).long(),
      ).logits.numpy()
      answers = self.greedy(adapted, given)
    found = logits(model, bare, own, batch)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    generator = Generator(model, max_decode_length=6)
    ours = np.asarray(generator.predict(partition.merge(own, bare), batch))
    padded = np.zeros_like(ours)
    padded[:, : answers.shape[1]] = answers
    np.testing.assert_array_equal(ours, padded)

  @pytest.mark.parametrize("name", METHODS)
  @pytest.mark.parametrize("activations", [("gelu", "linear"), ("relu",)])
  def test_ours_in_peft(self, name, activations, tmp_path):
    library = oracles.require("peft")
    overrides = {"mlp_activations": activations, **layers(name)}
    model, bare, own = tuned(METHODS[name], **overrides)
    folder = write(tmp_path / "a", METHODS[name], own, model.config)
    backbone = self.theirs(bare, model.config, tmp_path / "t5")
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      adapted = library.PeftModel.from_pretrained(backbone, str(folder))
    assert not [w for w in caught if "missing adapter keys" in str(w.message)]
    batch = fakes.tiny_batch(np.random.default_rng(0))
    self.assert_same(model, bare, own, adapted, batch)

  @pytest.mark.parametrize(
    ("kind", "settings", "overrides"),
    [
      ("Lora", {"r": 3, "lora_alpha": 5}, {}),
      ("Lora", {"r": 2, "use_rslora": True}, {}),
      ("Lora", {"target_modules": ["q", "wo"], "layers_to_transform": [1]}, {}),
      ("IA3", {}, {}),
      ("PrefixTuning", {"num_virtual_tokens": 3}, ODD),
      # Where PEFT gives two layers one prefix.
      ("PrefixTuning", {"num_virtual_tokens": 3}, EVEN),
      (
        "PrefixTuning",
        {"num_virtual_tokens": 2, "prefix_projection": True},
        ODD,
      ),
    ],
  )
  def test_theirs_here(self, kind, settings, overrides, tmp_path):
    torch = oracles.require("torch")
    library = oracles.require("peft")
    model = fakes.tiny_model(**overrides)
    bare = fakes.tiny_params(model)
    config = model.config
    if kind == "PrefixTuning":
      width = config.num_heads * config.head_dim
      settings = settings | {
        "num_layers": config.num_decoder_layers,
        "token_dim": width,
      }
    adapted = library.get_peft_model(
      self.theirs(bare, config, tmp_path / "t5"),
      getattr(library, f"{kind}Config")(task_type="SEQ_2_SEQ_LM", **settings),
    )
    torch.manual_seed(0)
    with torch.no_grad():
      for weight in adapted.parameters():
        if weight.requires_grad:
          weight.add_(0.3 * torch.randn(weight.shape))
    adapted.save_pretrained(tmp_path / "a")
    read = methods.read(tmp_path / "a", config)
    assert read.card == {}
    batch = fakes.tiny_batch(np.random.default_rng(0))
    self.assert_same(
      model.clone(method=read.method), bare, read.params, adapted, batch
    )
