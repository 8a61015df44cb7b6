"""Where the prompt of a format lies once it is pre-trained."""

import os

from prompt_tuning import paths
from prompt_tuning.data.prompt_pretraining.wording import Format


def of_format(
  *,
  wanted: Format,
  folder: str = "runs/ppt_pretrain",
  labelled_folder: str = "runs/ppt_pretrain_sentences",
) -> str:
  """Returns the best prompt that was pre-trained on a format.

  Args:
    wanted: The format.
    folder: Where papers/ppt2022/pretrain.gin was run.
    labelled_folder: Where pretrain_sentences.gin was.

  Raises:
    ValueError: There is no such prompt.
  """
  is_labelled = wanted is Format.SENTENCE
  recipe = "pretrain_sentences" if is_labelled else "pretrain"
  folder = labelled_folder if is_labelled else folder
  path = os.path.join(
    *(folder, f"format={wanted.value}", "RANDOM_SEED=0"),
    *("prompts", "best.npy"),
  )
  if not paths.exists(path):
    raise ValueError(
      f"there is no prompt {path}; pre-train it by papers/ppt2022/{recipe}.gin "
      f"with --sweep_dir={folder}, or name in prompts.of_format where that was "
      "done"
    )
  return path
