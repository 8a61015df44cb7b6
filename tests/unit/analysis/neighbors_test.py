"""Nearest pieces of soft tokens, against scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from prompt_tuning import config
from prompt_tuning.analysis import neighbors
from prompt_tuning.prompts.artifact import PromptCard, SavedPrompt, save_prompt
from prompt_tuning.runs import evaluate
from prompt_tuning.runs import neighbors as runs_neighbors

IDS = np.arange(3, 40)


@pytest.fixture
def table():
  return np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)


@pytest.fixture
def prompt():
  return 7 * np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)


def test_they_are_scikit_learn_s(prompt, table):
  model = NearestNeighbors(n_neighbors=4, metric="cosine").fit(table[IDS])
  distances, order = model.kneighbors(prompt)
  found = neighbors.find_neighbors(prompt, table, count=4, ids=IDS)
  np.testing.assert_array_equal(found.ids, IDS[order])
  np.testing.assert_allclose(found.similarities, 1 - distances, atol=1e-5)


def test_what_is_no_word_is_nobody_s_neighbor(prompt, table):
  prompt[0] = table[45]
  prompt[1] = table[1]
  found = neighbors.find_neighbors(prompt, table, count=3, ids=IDS)
  assert set(found.ids.ravel().tolist()) <= set(IDS.tolist())


def test_the_norm_does_not_matter(prompt, table):
  near = [
    neighbors.find_neighbors(scale * prompt, table, count=2, ids=IDS).ids
    for scale in (1.0, 1e-3)
  ]
  np.testing.assert_array_equal(*near)


def test_ranks_of_labels(prompt, table):
  prompt[4] = table[9] + 0.01 * table[10]
  order = neighbors.find_neighbors(prompt, table, count=37, ids=IDS).ids
  labels = {"one": [9], "two": [20, 21], "three": [2, 30]}
  ranks = neighbors.label_ranks(prompt, table, labels, ids=IDS)
  assert (ranks["one"].rank, ranks["one"].position) == (1, 4)
  assert ranks["one"].similarity == pytest.approx(1.0, abs=1e-3)
  for label, found in ranks.items():
    places = [
      row.index(piece) + 1
      for row in order.tolist()
      for piece in labels[label]
      if piece in row
    ]
    assert found.rank == min(places)


def test_a_label_without_a_piece(prompt, table):
  with pytest.raises(ValueError, match="'odd' has no piece"):
    neighbors.label_ranks(prompt, table, {"odd": [2]}, ids=IDS)


def test_clusters_share_their_nearest_piece(prompt, table):
  prompt[2] = 3 * table[11]
  prompt[5] = table[11] / 3
  clusters = neighbors.find_neighbors(
    prompt, table, count=2, ids=IDS
  ).clusters()
  assert {2, 5} <= set(clusters[11])
  assert next(iter(clusters)) == 11
  together = [each for positions in clusters.values() for each in positions]
  assert sorted(together) == list(range(6))


def test_norms():
  found = neighbors.norms(np.asarray([[3.0, 4.0], [0.0, 1.0], [0.0, 2.0]]))
  assert found == neighbors.Norms(1.0, 2.0, 5.0)


def test_a_table_row_of_zeros_is_near_to_nothing(prompt, table):
  table[5] = 0
  found = neighbors.find_neighbors(prompt, table, count=37, ids=IDS)
  assert np.all(np.isfinite(found.similarities))


@pytest.fixture(scope="module")
def embedded():
  config.parse(
    ["models/embedded.gin", "runs/eval.gin", "tasks/small_world_topic.gin"],
    ["EVAL_OUTPUT_DIR='x'"],
    entry=evaluate.evaluate,
  )
  return config.arguments(evaluate.evaluate)["backbone"]


class TestRun:
  @pytest.fixture
  def saved(self, embedded, tmp_path):
    loaded = embedded.load()
    table = np.asarray(loaded.params["token_embedder"]["embedding"])
    words = [embedded.vocabulary.encode(w)[0] for w in ("music", "travel")]
    bank = np.stack([4 * table[words], table[words[::-1]]])
    path = tmp_path / "bank.npy"
    width = table.shape[1]
    save_prompt(
      path,
      bank,
      PromptCard(
        length=2,
        width=width,
        num_prompts=2,
        backbone=loaded.fingerprint,
        step=1,
      ),
    )
    return str(path)

  def test_words_are_found(self, embedded, saved, tmp_path):
    text = runs_neighbors.neighbors(
      backbone=embedded,
      prompt_file=saved,
      prompt_index=1,
      labels=("music", "travel"),
      output_file=str(tmp_path / "out.md"),
    )
    assert "| music | 1 | 1 | 1.00 |" in text
    assert "| travel | 1 | 0 | 1.00 |" in text
    assert "| 0 | `\u2581travel` 1.00, " in text
    assert (tmp_path / "out.md").read_text() == text

  @pytest.mark.parametrize("count", [0, 10_000])
  def test_there_are_not_so_many_pieces(self, embedded, saved, count):
    with pytest.raises(ValueError, match="NEIGHBORS must be from 1 to"):
      runs_neighbors.neighbors(
        backbone=embedded, prompt_file=saved, count=count
      )

  def test_there_is_no_such_prompt(self, embedded, saved):
    with pytest.raises(ValueError, match="holds 2 prompts, counted from 0"):
      runs_neighbors.neighbors(
        backbone=embedded, prompt_file=saved, prompt_index=2
      )

  def test_another_backbone(self, embedded, saved, monkeypatch):
    card = PromptCard(
      length=2, width=64, num_prompts=2, backbone="other", step=1
    )
    monkeypatch.setattr(
      "prompt_tuning.prompts.artifact.load_prompt",
      lambda *args, **kwargs: SavedPrompt(array=np.load(saved), card=card),
    )
    with pytest.raises(ValueError, match="tuned on the backbone other"):
      runs_neighbors.neighbors(backbone=embedded, prompt_file=saved)
