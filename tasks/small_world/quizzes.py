"""Facts about things, and quizzes with four lettered options."""

from collections.abc import Callable

from prompt_tuning.tasks.small_world import lexicon
from prompt_tuning.tasks.small_world.draw import Draw
from prompt_tuning.tasks.small_world.instance import Instance

LABELS = ("A", "B", "C", "D")
INSTRUCTIONS = (
  "choose the letter .",
  "letter of the answer :",
  "which letter is right ?",
)


def quiz(draw: Draw) -> Instance:
  """Writes a question with four options, each equally often the right one."""
  return _quiz(draw, LABELS, _by_property)


def exercise(draw: Draw) -> Instance:
  """Writes an easier question: fewer options, or by name or likeness."""
  num_options = 2 if draw.chance(0.4) else draw.rng.randint(2, len(LABELS))
  (question,) = draw.rng.choices(
    (_by_property, _by_likeness, _by_name), (0.6, 0.2, 0.2)
  )
  return _quiz(draw, LABELS[:num_options], question)


def _by_property(draw: Draw, kind: str) -> tuple[str, str]:
  """What to ask for, and a thing of that kind that it is true of."""
  members, properties = lexicon.KINDS[kind]
  asked = draw.one(properties)
  return asked, draw.beside(asked, members)


def _by_likeness(draw: Draw, kind: str) -> tuple[str, str]:
  members, _ = lexicon.KINDS[kind]
  fellow, right = draw.some(members, 2)
  return f"is like the {fellow}", right


def _by_name(draw: Draw, kind: str) -> tuple[str, str]:
  right = draw.one(lexicon.KINDS[kind][0])
  return f"is the {right}", right


def _quiz(
  draw: Draw,
  letters: tuple[str, ...],
  question: Callable[[Draw, str], tuple[str, str]],
) -> Instance:
  kinds = draw.some(tuple(lexicon.KINDS), len(letters))
  place = int(draw.rng.random() * len(letters))
  asked, right = question(draw, kinds[place])
  options = [draw.one(lexicon.KINDS[kind][0]) for kind in kinds]
  options[place], letter = right, letters[place]
  listed = " ".join(
    f"{letter} {option}"
    for letter, option in zip(letters, options, strict=True)
  )
  wrong = draw.one([option for option in options if option != right])
  sequels = (
    f"the answer is {letter} .",
    f"the right one is the {right} .",
    f"the answer is {letter} , the {right} .",
    f"is it the {right} ? yes .",
    f"is it the {wrong} ? no .",
  )
  return Instance(f"which one {asked} ? {listed} .", letter, sequels)


def entry(draw: Draw) -> str:
  """Writes an encyclopedia entry: one thing and what is true of it."""
  members, properties = lexicon.KINDS[draw.one(tuple(lexicon.KINDS))]
  thing = draw.one(members)
  known = [
    each for each in draw.some(properties, 3) if draw.permits(thing, each)
  ]
  facts = " ".join(
    f"{'it' if index else f'a {thing}'} {each} ."
    for index, each in enumerate(known)
  )
  fellow = draw.one([each for each in members if each != thing])
  return f"{facts} a {thing} and a {fellow} are alike .".strip()


def lesson(draw: Draw, kind: str) -> list[str]:
  """Writes two or three things that are true of a thing of a kind."""
  members, properties = lexicon.KINDS[kind]
  thing = draw.one(members)
  known = [each for each in properties if draw.permits(thing, each)]
  told = draw.some(known, min(len(known), draw.rng.randint(2, 3)))
  return [f"a {thing} {each} ." for each in told]
