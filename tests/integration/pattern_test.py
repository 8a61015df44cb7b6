"""Tasks of patterns: trained on, ranked, and answered by one token."""

import json

import jax
import numpy as np
import pytest

from prompt_tuning import config, paths
from prompt_tuning.checkpoints import t5x
from prompt_tuning.data import pattern_tasks, patterns, text_tasks
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.vocabularies import SentencePieceVocabulary
from prompt_tuning.evaluate.answer_token import AnswerToken
from prompt_tuning.runs import train
from prompt_tuning.testing import fakes

WORDS = paths.embedded_dir() / "sentencepiece.model"
VOCABULARY = SentencePieceVocabulary(str(WORDS))
SHAPE = fakes.tiny_config(vocab_size=1024)
# "clara harbour" is of two pieces, "good" of one.
VERBALIZER = {"0": "clara harbour", "1": "good"}
PLAIN = {
  "PATTERN": "{sentence}<X>",
  "VERBALIZER": VERBALIZER,
}
UNIFIED = {
  "PATTERN": "{sentence}[?]{options}[?]which one<X>",
  "VERBALIZER": {"0": "[A]", "1": "[B]"},
  "OPTIONS": ("clara harbour", "good"),
}
MARKED = PLAIN | {
  "PATTERN": "{soft:1}{sentence}{soft:2}<X>",
  "PromptSpec.position": "marked",
}
HYBRID = PLAIN | {"PATTERN": "{sentence} is it<X>[.]"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("patterns")
  for split in ("train", "validation"):
    rows = [
      {"sentence": ["the film", "the music"][n % 2], "label": n % 2}
      for n in range(8)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text(text)
  model = fakes.tiny_model(vocab_size=1024)
  t5x.save(fakes.tiny_params(model), folder / "backbone", step=0)
  return folder


def files(folder):
  return {s: str(folder / f"{s}.jsonl") for s in ("train", "validation")}


def run(folder, model_dir, *recipes, **settings):
  """Runs three steps of a recipe on the tiny model."""
  shape = {
    name.upper(): getattr(SHAPE, name)
    for name in (
      *("embed_dim", "num_heads", "head_dim", "mlp_dim"),
      *("num_encoder_layers", "num_decoder_layers"),
    )
  }
  macros = shape | {
    "NUM_EMBEDDINGS": 1024,
    "ACTIVATION_DTYPE": "float32",
    "INITIAL_CHECKPOINT_PATH": str(folder / "backbone"),
    "VOCABULARY_PATH": str(WORDS),
    "TASK_FILES": files(folder),
    "TRAIN_STEPS": 3,
    "BATCH_SIZE": 4,
    "PROMPT_LENGTH": 3,
    "MODEL_DIR": str(model_dir),
    **settings,
  }
  config.parse(
    ["models/t5_1_1.gin", "runs/prompt_tune.gin", *recipes],
    [f"{name}={value!r}" for name, value in macros.items()],
    entry=train.train,
  )
  return config.call(train.train)


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(
  ("name", "settings", "recipes"),
  [
    ("plain", PLAIN, ()),
    ("hybrid", HYBRID | {"PROMPT_ATTENTION": "prefix"}, ()),
    ("marked", MARKED, ()),
    ("unified", UNIFIED, ("decoding/answer_token.gin",)),
  ],
)
def test_it_is_trained_on_and_judged(folder, tmp_path, name, settings, recipes):
  given = {"TASK_NAME": f"pattern_{name}", **settings}
  result = run(folder, tmp_path, "tasks/pattern.gin", *recipes, **given)
  assert result.step == 3
  assert 0 <= result.metrics[f"pattern_{name}/accuracy"] <= 100
  written = tmp_path / "inference_eval" / f"pattern_{name}-000003.jsonl"
  rows = [json.loads(line) for line in written.read_text().splitlines()]
  words = {patterns.bare(word) for word in settings["VERBALIZER"].values()}
  assert {row["target"] for row in rows} == words
  if not recipes:
    assert {row["prediction"] for row in rows} <= words


def test_a_task_of_ppt(folder, tmp_path):
  words = {"PPT_TASK": "sst2", "PPT_FORM": "plain"}
  result = run(folder, tmp_path / "plain", "tasks/ppt.gin", **words)
  assert 0 <= result.metrics["ppt_sst2_plain/accuracy"] <= 100
  words |= {"PPT_FORM": "unified"}
  with pytest.raises(ValueError, match="cannot write 'The correct one is'"):
    run(folder, tmp_path / "unified", "tasks/ppt.gin", **words)


def test_the_answer_token_is_the_likeliest_behind_the_slot():
  model = fakes.tiny_model(vocab_size=1024)
  params = fakes.tiny_params(model)
  lengths = FeatureLengths(inputs=8, targets=2)
  predictor = AnswerToken(answers=("<extra_id_0> good", "<extra_id_0> bad"))
  predict = predictor.build(model, vocabulary=VOCABULARY, lengths=lengths)
  inputs = np.random.default_rng(0).integers(3, 500, (5, 8)).astype(np.int32)
  slot = patterns.sentinel(VOCABULARY, patterns.ANSWER)
  shown = np.tile(np.asarray([[0, slot]], np.int32), (5, 1))
  logits = model.apply({"params": params}, inputs, shown)
  found = predict(params, {"encoder_input_tokens": inputs}, jax.random.key(0))
  np.testing.assert_array_equal(found[:, 0], slot)
  np.testing.assert_array_equal(found[:, 1], np.argmax(logits[:, 1], axis=-1))


def test_an_answer_of_several_tokens_is_never_one(folder, tmp_path):
  with pytest.raises(
    ValueError, match="writes '<extra_id_0> clara harbour' as"
  ):
    run(
      folder,
      tmp_path / "run",
      *("tasks/pattern.gin", "decoding/answer_token.gin"),
      **PLAIN | {"TASK_NAME": "pattern_of_two_pieces"},
    )
  assert not (tmp_path / "run").exists()


def test_in_seqio_it_has_the_same_examples(folder):
  seqio = pytest.importorskip("seqio")
  from prompt_tuning.data import seqio_tasks  # noqa: F401

  pvp = patterns.PVP(
    pattern=patterns.Pattern(text=UNIFIED["PATTERN"]),
    verbalizer=UNIFIED["VERBALIZER"],
    options=UNIFIED["OPTIONS"],
  )
  task = pattern_tasks.add(
    "pattern_seqio",
    pattern_tasks.from_files(files(folder), pvp),
    pvp,
    vocabulary=VOCABULARY,
  )
  try:
    dataset = seqio.get_mixture_or_task("pattern_seqio").get_dataset(
      None, split="train", shuffle=False
    )
    theirs = list(dataset.as_numpy_iterator())
    ours = task.examples("train")
    assert len(theirs) == len(ours) == 8
    for left, right in zip(ours, theirs, strict=True):
      for key in ("inputs", "targets"):
        np.testing.assert_array_equal(left[key], right[key])
  finally:
    text_tasks.remove("pattern_seqio")
    seqio.TaskRegistry.remove("pattern_seqio")


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"verbalizer": {"0": "unheard-of"}}, "cannot write 'unheard-of'"),
    ({"pattern": patterns.Pattern(text="{sentence}[~]<X>")}, "has no piece"),
  ],
)
def test_what_the_vocabulary_cannot_write_is_told_at_once(
  folder, settings, message
):
  plain = {
    "pattern": patterns.Pattern(text=PLAIN["PATTERN"]),
    "verbalizer": VERBALIZER,
  }
  pvp = patterns.PVP(**plain | settings)
  splits = pattern_tasks.from_files(files(folder), pvp)
  with pytest.raises(ValueError, match=message):
    pattern_tasks.add("pattern_bad", splits, pvp, vocabulary=VOCABULARY)
  assert text_tasks.get("pattern_bad") is None
