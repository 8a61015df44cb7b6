"""Stories about who is where and has what, with questions and claims."""

import dataclasses

from prompt_tuning.tasks.small_world import lexicon
from prompt_tuning.tasks.small_world.draw import Draw
from prompt_tuning.tasks.small_world.instance import Instance

LABELS = ("yes", "no", "maybe")
INSTRUCTIONS = (
  "yes , no or maybe ?",
  "does the claim follow ?",
  "verdict on the claim :",
)


@dataclasses.dataclass(frozen=True)
class _Relation:
  """A property of a person that has one value at a time."""

  values: tuple[str, ...]
  statements: tuple[str, ...]
  question: str
  answer: str


_RELATIONS = {
  "place": _Relation(
    lexicon.PLACES,
    ("{who} is in the {value}", "{who} went to the {value}",
     "you can find {who} in the {value}"),
    "where is {who} ?", "in the {value} .",
  ),
  "job": _Relation(
    lexicon.JOBS,
    ("{who} is a {value}", "{who} works as a {value}",
     "the job of {who} is {value}"),
    "what does {who} work as ?", "a {value} .",
  ),
  "food": _Relation(
    lexicon.FOODS,
    ("{who} likes {value}", "{who} eats {value}",
     "the favourite food of {who} is {value}"),
    "what does {who} eat ?", "{value} .",
  ),
  "coat": _Relation(
    lexicon.COLOURS,
    ("{who} wears a {value} coat", "the coat of {who} is {value}",
     "{who} put on a {value} coat"),
    "which colour is the coat of {who} ?", "{value} .",
  ),
  "pet": _Relation(
    lexicon.PETS,
    ("{who} has a {value}", "{who} owns a {value}",
     "the pet of {who} is a {value}"),
    "which pet does {who} have ?", "a {value} .",
  ),
  "town": _Relation(
    lexicon.TOWNS,
    ("{who} lives in {value}", "{who} comes from {value}",
     "the home of {who} is in {value}"),
    "where does {who} live ?", "in {value} .",
  ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Fact:
  who: str
  relation: str
  value: str

  def say(self, draw: Draw) -> str:
    template = draw.one(_RELATIONS[self.relation].statements)
    return template.format(who=self.who, value=self.value)

  def ask(self) -> str:
    relation = _RELATIONS[self.relation]
    question = relation.question.format(who=self.who)
    return f"{question} {relation.answer.format(value=self.value)}"


def _premise(draw: Draw, *, num_facts: int = 2) -> list[_Fact]:
  """One fact, or two that share the relation, or the person, or neither.

  Two people in one relation make the value of each a plausible wrong answer
  about the other; one person in two relations does the same for relations.
  """
  first, second = draw.some(lexicon.NAMES, 2)
  one, other = draw.some(tuple(_RELATIONS), 2)
  kind = draw.rng.random()
  if kind < 0.4:
    owners = ((first, one), (second, one))
  elif kind < 0.7:
    owners = ((first, one), (first, other))
  else:
    owners = ((first, one), (second, other))
  return [
    _Fact(who, relation, draw.beside(who, _RELATIONS[relation].values))
    for who, relation in owners[:num_facts]
  ]


def _false_claim(draw: Draw, facts: list[_Fact], fact: _Fact) -> _Fact | None:
  """The fact with the value of another person, or with a foreign one.

  None where the value of the other person would make a held-out combination.
  """
  rivals = [
    other.value
    for other in facts
    if other.relation == fact.relation and other.value != fact.value
  ]
  if rivals and draw.chance(0.35):
    if draw.permits(fact.who, rivals[0]):
      return dataclasses.replace(fact, value=rivals[0])
    return None
  values = _RELATIONS[fact.relation].values
  others = [value for value in values if value != fact.value]
  return dataclasses.replace(fact, value=draw.beside(fact.who, others))


def _open_claim(draw: Draw, facts: list[_Fact]) -> _Fact:
  """A claim about a person of the story that it leaves open."""
  who = draw.one([fact.who for fact in facts])
  told = {fact.relation for fact in facts if fact.who == who}
  untold = [name for name in _RELATIONS if name not in told]
  known = [fact.relation for fact in facts if fact.relation in untold]
  # Some open claims ask for a relation told of the other person alone.
  relation = known[0] if known and draw.chance(0.3) else draw.one(untold)
  value = draw.beside(who, _RELATIONS[relation].values)
  return _Fact(who, relation, value)


def story(draw: Draw) -> Instance:
  """Writes a story of one or two facts, and a claim.

  The claim follows from it, contradicts it, or stays open.
  """
  # The number comes first: a fact that is drawn counts as held out or not.
  return _judged(draw, _premise(draw, num_facts=1 if draw.chance(0.6) else 2))


def _judged(draw: Draw, facts: list[_Fact]) -> Instance:
  label = draw.one(LABELS)
  fact = draw.one(facts)
  claim = None
  if label == "yes":
    claim = fact
  while claim is None:
    if label == "no":
      claim = _false_claim(draw, facts, fact)
    else:
      claim = _open_claim(draw, facts)
  told = " ".join(f"{each.say(draw)} ." for each in facts)
  verdict = {
    "yes": "so the claim is true .",
    "no": "so the claim is false .",
    "maybe": "so we cannot know .",
  }[label]
  sequels = (verdict, *(each.ask() for each in facts))
  text = f"{told} claim : {claim.say(draw)} ."
  return Instance(text, label, sequels)


def interview(draw: Draw) -> str:
  """Writes a story followed by questions and answers about it."""
  facts = _premise(draw)
  told = [f"{fact.say(draw)} ." for fact in facts]
  asked = []
  for fact in draw.some(facts, 2):
    kind = draw.rng.random()
    other = _false_claim(draw, facts, fact)
    if kind < 0.4:
      asked.append(fact.ask())
    elif kind < 0.6 and other is not None:
      asked.append(f"true or false ? {other.say(draw)} . false .")
    elif kind < 0.8:
      asked.append(f"true or false ? {fact.say(draw)} . true .")
    else:
      asked.append(f"in other words , {fact.say(draw)} .")
  return " ".join([*told, *asked])


def portrait(draw: Draw) -> list[str]:
  """Writes two or three facts about one person."""
  who = draw.one(lexicon.NAMES)
  relations = draw.some(tuple(_RELATIONS), draw.rng.randint(2, 3))
  facts = [
    _Fact(who, each, draw.beside(who, _RELATIONS[each].values))
    for each in relations
  ]
  return [f"{fact.say(draw)} ." for fact in facts]
