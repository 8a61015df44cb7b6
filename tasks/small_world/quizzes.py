"""Facts about things, and quizzes with four lettered options."""

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
  return _quiz(draw, LABELS)


def exercise(draw: Draw) -> Instance:
  """Writes an easier question: two, three or four options, or by name."""
  num_options = 2 if draw.chance(0.4) else draw.rng.randint(2, len(LABELS))
  return _quiz(draw, LABELS[:num_options], by_name=draw.chance(0.25))


def _quiz(
  draw: Draw, letters: tuple[str, ...], *, by_name: bool = False
) -> Instance:
  kinds = draw.some(tuple(lexicon.KINDS), len(letters))
  place = int(draw.rng.random() * len(letters))
  members, properties = lexicon.KINDS[kinds[place]]
  asked = draw.one(properties)
  options = [draw.one(lexicon.KINDS[kind][0]) for kind in kinds]
  options[place] = draw.beside(asked, members)
  right, letter = options[place], letters[place]
  if by_name:
    asked = f"is the {right}"
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
  known = [each for each in properties if draw.permits(thing, each)]
  draw.rng.shuffle(known)
  facts = " ".join(
    f"{'it' if index else f'a {thing}'} {each} ."
    for index, each in enumerate(known)
  )
  others = [each for each in members if each != thing]
  fellow = draw.one(others)
  return f"{facts} a {thing} and a {fellow} are alike .".strip()
