"""Tells what the soft tokens of a prompt are near to."""

from collections.abc import Sequence

import numpy as np

from prompt_tuning import paths
from prompt_tuning.analysis import neighbors as neighbors_lib
from prompt_tuning.analysis.neighbors import LabelRank, Neighbors, Norms
from prompt_tuning.backbone import Backbone
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.model.quantization import float_table
from prompt_tuning.prompts import artifact
from prompt_tuning.types import EOS_ID, PAD_ID, UNK_ID

_SPECIAL = (PAD_ID, EOS_ID, UNK_ID)


def neighbors(
  *,
  backbone: Backbone,
  prompt_file: str,
  count: int = 5,
  labels: Sequence[str] | None = None,
  prompt_index: int = 0,
  output_file: str | None = None,
  allow_missing_card: bool = False,
) -> str:
  """Returns Markdown: norms, neighbours, clusters, ranks of class labels.

  Args:
    backbone: The frozen model.
    prompt_file: A tuned prompt.
    count: Neighbours of each soft token.
    labels: The verbalizers, whose ranks are told; None for none.
    prompt_index: Which prompt of a bank.
    output_file: Where the text is written too; None for nowhere.
    allow_missing_card: Whether to take a prompt without a card.

  Raises:
    ValueError: If the prompt belongs to another backbone, or there is no such
      prompt in the bank.
  """
  ids = _words(backbone.vocabulary)
  if not 1 <= count <= len(ids):
    raise ValueError(
      f"NEIGHBORS must be from 1 to the {len(ids)} pieces of the vocabulary, "
      f"got {count}."
    )
  if output_file is not None:
    paths.check_writable_file(output_file)
  saved = artifact.load_prompt(
    prompt_file,
    expected_width=backbone.config.embed_dim,
    allow_missing_card=allow_missing_card,
  )
  bank = saved.array if saved.array.ndim == 3 else saved.array[None]
  if not 0 <= prompt_index < len(bank):
    raise ValueError(
      f"{prompt_file} holds {len(bank)} prompts, counted from 0; there is none "
      f"with the number {prompt_index}."
    )
  # Of the weights, the table alone is read.
  loaded = backbone.load(in_parts=True)
  artifact.check_backbone(saved, loaded.fingerprint, source=prompt_file)
  prompt = bank[prompt_index]
  table = np.asarray(float_table(loaded.params["token_embedder"]), np.float32)
  vocabulary = backbone.vocabulary
  pieces = {label: vocabulary.encode(label) for label in labels or ()}
  text = _describe(
    vocabulary,
    found=neighbors_lib.find_neighbors(prompt, table, count=count, ids=ids),
    ranks=neighbors_lib.label_ranks(prompt, table, pieces, ids=ids),
    shells={
      "soft tokens": neighbors_lib.norms(prompt),
      "embeddings": neighbors_lib.norms(table[ids]),
    },
  )
  if output_file is not None:
    paths.write_text(output_file, text)
  return text


def _words(vocabulary: Vocabulary) -> np.ndarray:
  """Returns the ids that stand for text: neither special nor sentinels."""
  first = vocabulary.vocab_size - vocabulary.extra_ids
  return np.setdiff1d(np.arange(first), _SPECIAL)


def _describe(
  vocabulary: Vocabulary,
  *,
  found: Neighbors,
  ranks: dict[str, LabelRank],
  shells: dict[str, Norms],
) -> str:
  lines = ["| norm of | least | median | most |", "| --- | --- | --- | --- |"]
  lines += [
    f"| {name} | {each.least:.2f} | {each.median:.2f} | {each.most:.2f} |"
    for name, each in shells.items()
  ]
  if ranks:
    lines += [
      "",
      "| label | rank | of soft token | cosine |",
      "| --- | --- | --- | --- |",
    ]
    lines += [
      f"| {label} | {each.rank} | {each.position} | {each.similarity:.2f} |"
      for label, each in ranks.items()
    ]
  lines += ["", "| soft token | nearest pieces |", "| --- | --- |"]
  for position, (row, near) in enumerate(
    zip(found.ids.tolist(), found.similarities.tolist(), strict=True)
  ):
    words = [
      f"{_code(vocabulary, piece)} {cosine:.2f}"
      for piece, cosine in zip(row, near, strict=True)
    ]
    lines.append(f"| {position} | {', '.join(words)} |")
  lines += ["", "| nearest piece | soft tokens |", "| --- | --- |"]
  lines += [
    f"| {_code(vocabulary, piece)} | {', '.join(map(str, positions))} |"
    for piece, positions in found.clusters().items()
  ]
  return "\n".join(lines) + "\n"


def _code(vocabulary: Vocabulary, piece: int) -> str:
  # A bar would end the cell of the table.
  return "`" + vocabulary.piece(piece).replace("|", "\\|") + "`"
