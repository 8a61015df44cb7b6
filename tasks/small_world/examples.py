"""Task examples: bare texts with their labels."""

from prompt_tuning.tasks.small_world.documents import SKILLS
from prompt_tuning.tasks.small_world.draw import TRAIN, VALIDATION, Draw

NUM_EXAMPLES = {TRAIN: 4000, VALIDATION: 500}


def examples(
  task: str, split: str, *, seed: int = 0, num_examples: int | None = None
) -> list[dict[str, str]]:
  """Returns the examples of one split of one task.

  Labels are balanced exactly (their counts differ by one at most) and no text
  comes twice. Training examples hold no held-out combination; every validation
  example holds at least one.

  Args:
    task: "sentiment", "entailment", "paraphrase", "topic" or "choice".
    split: "train" or "validation".
    seed: names the stream that examples are drawn from.
    num_examples: how many; 4,000 for training and 500 for validation if None.

  Returns:
    Dicts with the text as "inputs" and its label as "targets".

  Raises:
    ValueError: for an unknown task or split.
  """
  if task not in SKILLS:
    raise ValueError(
      f"task: expected one of {', '.join(SKILLS)}, got {task!r}."
    )
  draw = Draw(f"task/{task}/{seed}", split)
  wanted = NUM_EXAMPLES[split] if num_examples is None else num_examples
  skill = SKILLS[task]
  found: list[dict[str, str]] = []
  seen: set[str] = set()
  while len(found) < wanted:
    # Asking for the labels in turn balances them for any number of examples.
    label = skill.labels[len(found) % len(skill.labels)]
    reserved = draw.reserved
    instance = skill.draw(draw)
    unseen = split == TRAIN or draw.reserved > reserved
    if instance.label == label and unseen and instance.text not in seen:
      seen.add(instance.text)
      found.append({"inputs": instance.text, "targets": instance.label})
  draw.rng.shuffle(found)
  return found
