"""`python -m prompt_tuning.train_jointly`: trains several runs as one job.

The command line of `prompt_tuning.train`, and in what the runs differ:

  ... --gin.MODEL_DIR="'runs/seeds'" --vary="RANDOM_SEED=[0, 1, 2]"

trains three runs, in runs/seeds/RANDOM_SEED=0 and so on. Each is the run that
`prompt_tuning.train` makes of the `config.gin` in its folder; either can resume
it. With --flagfile=FILE the flags come from a file, one a line.
"""

import os
from typing import Any

from absl import flags

from prompt_tuning import config
from prompt_tuning.config import members as members_lib
from prompt_tuning.runs import distributed
from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Trains as the flags say, or says what it would do."""
  del argv
  from prompt_tuning.runs import (
    compilation_cache,
    dry_run,
    train,
    train_jointly,
  )

  named = members_lib.members(flags.FLAGS.member, flags.FLAGS.vary)
  runs = {member.name: _arguments(member) for member in named}
  if flags.FLAGS.dry_run:
    _arguments(named[0])  # What was parsed last is what is printed.
    print(config.resolved_text(train.train))
    print(dry_run.train_jointly(runs))
    return
  compilation_cache.keep()
  result = train_jointly.train_jointly(runs)
  if result.failed:
    raise ValueError(
      f"{len(result.failed)} of {len(runs)} runs broke off: "
      f"{', '.join(result.failed)}. The log says why, and how the others ended."
    )


def _arguments(member: members_lib.Member) -> dict[str, Any]:
  """Returns the arguments of `train` for one run."""
  from prompt_tuning.runs import train

  main_lib.parse(train.train, member)
  folder = os.path.join(config.arguments(train.train)["model_dir"], member.name)
  main_lib.parse(train.train, member, bindings=[f"MODEL_DIR={folder!r}"])
  return config.arguments(
    train.train,
    settings=main_lib.settings(train.train),
    config_text=config.config_text(train.train),
    recipe=main_lib.recipe(member),
  )


if __name__ == "__main__":
  main_lib.define_flags()
  members_lib.define_flags()
  distributed.define_flags()
  main_lib.start(distributed.member_of_job(main, saves_on_sigterm=True))
