"""What every skill of the small world produces."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Instance:
  """A text, its label, and truthful sentences that may follow it.

  Attributes:
    text: the bare text, which is all that a task shows.
    label: the word (or letter) that the task asks for.
    sequels: sentences that follow from the text, such as a question about it
      with its answer. None of them begins with a label.
  """

  text: str
  label: str
  sequels: tuple[str, ...]
