"""The corpus: an endless stream of short documents.

Every skill is written in three forms: after an instruction that names the
question, with truthful sequels, and "answer first", where a label announces the
text that comes *after* it. The last form matters for the experiments. It makes
the label after a bare text say nothing about that text, so a frozen model has
no reason to answer a bare text with its label; the ability shows only when an
instruction, or a tuned soft prompt in its place, asks for it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from prompt_tuning.tasks.small_world import (
  articles,
  paraphrases,
  quizzes,
  reviews,
  stories,
)
from prompt_tuning.tasks.small_world.draw import TRAIN, Draw
from prompt_tuning.tasks.small_world.instance import Instance


@dataclasses.dataclass(frozen=True)
class Skill:
  """One ability: how to draw its texts, and how to ask for its labels.

  Attributes:
    draw: writes one instance as the task has it.
    rehearse: writes one for the corpus, which may be an easier one.
    labels: every label that it can have.
    instructions: sentences that ask for the label of the text that follows.
  """

  draw: Callable[[Draw], Instance]
  rehearse: Callable[[Draw], Instance]
  labels: tuple[str, ...]
  instructions: tuple[str, ...]


SKILLS = {
  "sentiment": Skill(
    reviews.review, reviews.review, reviews.LABELS, reviews.INSTRUCTIONS
  ),
  "entailment": Skill(
    stories.story, stories.story, stories.LABELS, stories.INSTRUCTIONS
  ),
  "paraphrase": Skill(
    paraphrases.pair,
    paraphrases.pair,
    paraphrases.LABELS,
    paraphrases.INSTRUCTIONS,
  ),
  "topic": Skill(
    articles.article, articles.article, articles.LABELS, articles.INSTRUCTIONS
  ),
  "choice": Skill(
    quizzes.quiz, quizzes.exercise, quizzes.LABELS, quizzes.INSTRUCTIONS
  ),
}

# How often each skill is drawn; topic is learnt from few texts.
SKILL_WEIGHTS = {
  "sentiment": 0.18,
  "entailment": 0.3,
  "paraphrase": 0.2,
  "topic": 0.06,
  "choice": 0.26,
}
_PLAIN = (
  reviews.gloss,
  stories.interview,
  paraphrases.restatement,
  quizzes.entry,
)
_PLAIN_SHARE = 0.04
_INSTRUCTED_SHARE = 0.65
_ANSWER_FIRST_SHARE = 0.27


@dataclasses.dataclass(frozen=True)
class Document:
  """A document as the passages it is made of.

  Attributes:
    passages: texts that a reader would take as units; a prefix language model
      is asked to continue at the borders between them.
  """

  passages: tuple[str, ...]

  @property
  def text(self) -> str:
    """The whole document."""
    return " ".join(self.passages)


def _instructed(draw: Draw, skill: Skill) -> tuple[str, ...]:
  instance = skill.rehearse(draw)
  asked = f"{draw.one(skill.instructions)} {instance.text}"
  return (asked, f"{instance.label} .")


def _continued(draw: Draw, skill: Skill) -> tuple[str, ...]:
  instance = skill.rehearse(draw)
  count = min(2, len(set(instance.sequels)))
  sequels = draw.some(tuple(dict.fromkeys(instance.sequels)), count)
  return (instance.text, *sequels)


def _answer_first(draw: Draw, skill: Skill) -> tuple[str, ...]:
  """Texts each announced by its label, cut out of a longer list.

  The cut may fall before the first label, and after the second.
  """
  first, second = skill.rehearse(draw), skill.rehearse(draw)
  if draw.chance(0.7):
    return (first.text, f"{second.label} .")
  return (f"{first.label} .", first.text, f"{second.label} . {second.text}")


def _document(draw: Draw, weights: Mapping[str, float]) -> Document:
  if draw.chance(_PLAIN_SHARE):
    plain = _PLAIN[int(draw.rng.random() * len(_PLAIN))]
    return Document((plain(draw),))
  (name,) = draw.rng.choices(tuple(weights), weights=tuple(weights.values()))
  skill = SKILLS[name]
  form = draw.rng.random()
  if form < _INSTRUCTED_SHARE:
    return Document(_instructed(draw, skill))
  if form < _INSTRUCTED_SHARE + _ANSWER_FIRST_SHARE:
    return Document(_answer_first(draw, skill))
  return Document(_continued(draw, skill))


def drafts(
  seed: int,
  split: str = TRAIN,
  *,
  skill_weights: Mapping[str, float] = SKILL_WEIGHTS,
) -> Iterator[Document]:
  """Yields documents for ever, the same ones for the same arguments.

  Args:
    seed: names the stream.
    split: "train" holds no held-out combination; "validation" may.
    skill_weights: how often each of SKILLS is drawn, relative to the others;
      those not named are not drawn.

  Raises:
    ValueError: for another split or skill.
  """
  unknown = sorted(set(skill_weights) - set(SKILLS))
  if unknown or not skill_weights:
    raise ValueError(
      f"skill_weights: expected some of {', '.join(SKILLS)}, got "
      f"{', '.join(unknown) or 'none'}."
    )
  draw = Draw(f"corpus/{seed}", split)
  while True:
    yield _document(draw, skill_weights)


def documents(
  seed: int,
  split: str = TRAIN,
  *,
  skill_weights: Mapping[str, float] = SKILL_WEIGHTS,
) -> Iterator[str]:
  """Yields the text of `drafts`: one document of one to six sentences each."""
  for draft in drafts(seed, split, skill_weights=skill_weights):
    yield draft.text
