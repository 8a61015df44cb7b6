"""What XManager runs to submit a job; `launch.xm` calls it.

  xmanager launch launch/xm_experiment.py -- --title=... --image=... \
    --image_folder=... --accelerator=a100:8 -- python -m prompt_tuning.train ...

The only file that needs XManager, and absl's flags, which XManager parses.
"""

from absl import app, flags
from xmanager import xm, xm_local  # pyright: ignore[reportMissingImports]

_TITLE = flags.DEFINE_string("title", "", "Name of the experiment.")
_IMAGE = flags.DEFINE_string("image", "", "Where the image is pushed.")
_FOLDER = flags.DEFINE_string("image_folder", "", "What it is built from.")
_ACCELERATOR = flags.DEFINE_string("accelerator", "", "KIND:NUMBER of GPUs.")


def main(argv: list[str]) -> None:
  """Builds the image and submits one job.

  Args:
    argv: This file, then the run command.
  """
  kind, number = _ACCELERATOR.value.split(":")
  with xm_local.create_experiment(experiment_title=_TITLE.value) as experiment:
    [executable] = experiment.package(
      [
        xm.Packageable(
          executable_spec=xm.Dockerfile(path=_FOLDER.value),
          executor_spec=xm_local.Vertex.Spec(push_image_tag=_IMAGE.value),
        )
      ]
    )
    experiment.add(
      xm.Job(
        executable=executable,
        executor=xm_local.Vertex(
          requirements=xm.JobRequirements(**{kind: int(number)})
        ),
        # No shell reads them, so the quotes that XManager would add stayed.
        args=[xm.ShellSafeArg(word) for word in argv[1:]],
      )
    )


if __name__ == "__main__":
  app.run(main)
