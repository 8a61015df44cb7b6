"""Reviews, whose sentiment is composed: negation, contrast, expectation."""

from prompt_tuning.tasks.small_world import lexicon
from prompt_tuning.tasks.small_world.draw import Draw
from prompt_tuning.tasks.small_world.instance import Instance

LABELS = ("positive", "negative")
INSTRUCTIONS = (
  "positive or negative ?",
  "how does the writer feel ?",
  "sentiment of the review :",
)

_OPENINGS = {
  "film": "we saw this film .",
  "book": "i read this book .",
  "restaurant": "we ate at this restaurant .",
  "hotel": "we stayed at this hotel .",
  "phone": "i bought this phone .",
  "game": "i tried this game .",
}
_CONTRASTS = (
  "although {minor} , {major} .",
  "{minor} , but {major} .",
  "{major} , even though {minor} .",
  "{minor} ; still , {major} .",
)


def _adjective(draw: Draw, part: str, good: bool) -> str:
  words = lexicon.POSITIVE if good else lexicon.NEGATIVE
  return draw.beside(part, words)


def _said_of(draw: Draw, part: str, good: bool) -> str:
  """A predicate with the wanted sense: "very good" or "not bad" alike."""
  if draw.chance(0.15):
    negation = draw.one(lexicon.NEGATIONS)
    return f"{negation} {_adjective(draw, part, not good)}"
  adjective = _adjective(draw, part, good)
  if draw.chance(0.3):
    return f"{draw.one(lexicon.INTENSIFIERS)} {adjective}"
  return adjective


def _clause(draw: Draw, part: str, good: bool) -> str:
  if draw.chance(0.75):
    return f"the {part} was {_said_of(draw, part, good)}"
  if draw.chance(0.7):
    verbs = lexicon.POSITIVE_VERBS if good else lexicon.NEGATIVE_VERBS
    return f"we {draw.beside(part, verbs)} the {part}"
  verbs = lexicon.NEGATIVE_VERBS if good else lexicon.POSITIVE_VERBS
  return f"we did not {draw.beside(part, verbs)} the {part}"


def _verdict(draw: Draw, parts: list[str], good: bool) -> str:
  """One or two sentences whose overall sense is `good`."""
  first, second = parts
  kind = draw.rng.random()
  if kind < 0.45:
    return f"{_clause(draw, first, good)} ."
  if kind < 0.72:
    both = f"{_clause(draw, first, good)} and {_clause(draw, second, good)}"
    return f"{both} ."
  if kind < 0.8:
    feared = _adjective(draw, first, not good)
    found = _said_of(draw, first, good)
    return f"i expected the {first} to be {feared} , but it was {found} ."
  if kind < 0.84:
    rumour = _said_of(draw, first, not good)
    return f"people say the {first} is {rumour} , but they are wrong ."
  return draw.one(_CONTRASTS).format(
    minor=_clause(draw, second, not good), major=_clause(draw, first, good)
  )


def review(draw: Draw) -> Instance:
  """Writes a review that is positive or negative with equal chance.

  Adjectives are now and then negated, conceded or expected, so that words alone
  do not tell the label of every review.
  """
  good = draw.chance(0.5)
  item = draw.one(tuple(lexicon.REVIEWED))
  parts = draw.some(lexicon.REVIEWED[item], 2)
  body = _verdict(draw, parts, good)
  text = f"{_OPENINGS[item]} {body}" if draw.chance(0.5) else body
  sequels = (
    f"would you recommend the {item} ? {'yes' if good else 'no'} .",
    f"verdict : a {'good' if good else 'bad'} {item} .",
    f"the writer {'liked' if good else 'did not like'} the {item} .",
    f"did the {parts[0]} please the writer ? {'yes' if good else 'no'} .",
    f"stars : {'five' if good else 'one'} .",
    f"so this review is {LABELS[0] if good else LABELS[1]} .",
  )
  return Instance(text, LABELS[0] if good else LABELS[1], sequels)


def gloss(draw: Draw) -> str:
  """Writes what a few words of praise and blame mean, as a dictionary does."""
  adjectives = draw.some((*lexicon.POSITIVE, *lexicon.NEGATIVE), 3)
  verb = draw.one((*lexicon.POSITIVE_VERBS, *lexicon.NEGATIVE_VERBS))
  meanings = [
    f"{word} means {'good' if word in lexicon.POSITIVE else 'bad'} ."
    for word in adjectives
  ]
  sense = "praise" if verb in lexicon.POSITIVE_VERBS else "blame"
  return " ".join([*meanings, f"to {verb} is to {sense} ."])


def critique(draw: Draw) -> list[str]:
  """Writes a review of two or three sentences of the same sense."""
  good = draw.chance(0.5)
  item = draw.one(tuple(lexicon.REVIEWED))
  parts = draw.some(lexicon.REVIEWED[item], draw.rng.randint(1, 2))
  said = [f"{_clause(draw, part, good)} ." for part in parts]
  return [_OPENINGS[item], *said]
