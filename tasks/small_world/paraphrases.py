"""Pairs of sentences that say the same thing, or nearly the same words."""

from prompt_tuning.tasks.small_world import lexicon
from prompt_tuning.tasks.small_world.draw import Draw
from prompt_tuning.tasks.small_world.instance import Instance

LABELS = ("same", "different")
INSTRUCTIONS = (
  "same or different ?",
  "compare the two sentences :",
  "do both mean the same ?",
)

# How the different pairs differ; the rest of them swap roles.
_UNRELATED_SHARE = 0.5
_STRANGER_SHARE = 0.35


def _deed(draw: Draw) -> tuple[str, ...]:
  """Ways to say that one actor did something to another."""
  verb = draw.one(tuple(lexicon.TRANSITIVE))
  synonym = lexicon.TRANSITIVE[verb]
  done = lexicon.PARTICIPLES.get(verb, verb)
  return (
    f"the {{a}} {verb} the {{b}}",
    f"the {{a}} {synonym} the {{b}}",
    f"the {{b}} was {done} by the {{a}}",
    f"the {{b}} was {synonym} by the {{a}}",
  )


def _comparison(draw: Draw) -> tuple[str, ...]:
  more = draw.one(tuple(lexicon.COMPARATIVES))
  less = lexicon.COMPARATIVES[more]
  return (
    f"the {{a}} is {more} than the {{b}}",
    f"the {{b}} is {less} than the {{a}}",
    f"the {{b}} is not so much {more} as the {{a}}",
  )


def _gift(draw: Draw) -> tuple[str, ...]:
  thing = draw.one(lexicon.OBJECTS)
  return (
    f"the {{a}} gave the {thing} to the {{b}}",
    f"the {{b}} got the {thing} from the {{a}}",
    f"the {{a}} handed the {{b}} the {thing}",
  )


def _actors(draw: Draw) -> tuple[str, str]:
  first = draw.one(lexicon.ACTORS)
  others = [actor for actor in lexicon.ACTORS if actor != first]
  return first, draw.beside(first, others)


def _swapped(form: str) -> str:
  return form.replace("{a}", "{x}").replace("{b}", "{a}").replace("{x}", "{b}")


def _pair(draw: Draw, same: bool) -> tuple[str, str]:
  """Two sentences that say the same thing, or not.

  The different ones are about something else or someone else, or swap the roles
  of the same words.
  """
  make = draw.one((_deed, _comparison, _gift))
  forms = make(draw)
  first, second = draw.some(forms, 2)
  one, other = _actors(draw)
  pair = {"a": one, "b": other}
  kind = draw.rng.random()
  if same:
    changed = pair
  elif kind < _UNRELATED_SHARE:
    second = draw.one(make(draw))
    changed = dict(zip("ab", _strangers(draw, one, other), strict=True))
  elif kind < _UNRELATED_SHARE + _STRANGER_SHARE:
    changed = pair | {draw.one("ab"): _strangers(draw, one, other)[0]}
  else:
    changed = {"a": other, "b": one}
  if draw.chance(0.5):
    first, second = _swapped(first), _swapped(second)
  return first.format(**pair), second.format(**changed)


def _strangers(draw: Draw, one: str, other: str) -> tuple[str, str]:
  """Two actors that are not in the first sentence."""
  others = [actor for actor in lexicon.ACTORS if actor not in (one, other)]
  first = draw.beside(one, others)
  return first, draw.beside(
    first, [actor for actor in others if actor != first]
  )


def _habits(draw: Draw, same: bool) -> tuple[str, str]:
  """Word order: a time and a place may stand in front or behind."""
  name = draw.one(lexicon.NAMES)
  place = draw.beside(name, lexicon.PLACES)
  time, late = draw.some(lexicon.TIMES, 2)
  habit, rare = draw.some(lexicon.HABITS, 2)
  forms = (
    "{time} , {name} {habit} in the {place}",
    "{name} {habit} in the {place} {time}",
    "in the {place} , {name} {habit} {time}",
  )
  first, second = draw.some(forms, 2)
  facts = {"name": name, "place": place, "time": time, "habit": habit}
  changed = dict(facts)
  if not same:
    changed |= {"time": late} if draw.chance(0.5) else {"habit": rare}
  return first.format(**facts), second.format(**changed)


def pair(draw: Draw) -> Instance:
  """Writes two sentences that say the same or not, with equal chance."""
  same = draw.chance(0.5)
  make = _habits if draw.chance(0.3) else _pair
  first, second = make(draw, same)
  verdict = (
    "so they say the same thing ." if same else "so they tell other things ."
  )
  text = f"first : {first} . second : {second} ."
  return Instance(text, LABELS[0] if same else LABELS[1], (verdict,))


def restatement(draw: Draw) -> str:
  """Writes a sentence and the same thing in other words."""
  make = _habits if draw.chance(0.3) else _pair
  first, second = make(draw, True)
  return f"{first} . in other words , {second} ."


def retelling(draw: Draw) -> list[str]:
  """Writes what happened, and the same in other words."""
  return [f"{sentence} ." for sentence in _pair(draw, same=True)]
