"""Short articles on five topics."""

from prompt_tuning.tasks.small_world import lexicon
from prompt_tuning.tasks.small_world.draw import Draw
from prompt_tuning.tasks.small_world.instance import Instance

LABELS = tuple(lexicon.TOPICS)
INSTRUCTIONS = (
  "which topic is this ?",
  "what is it about ?",
  "topic of the text :",
)

_ENDINGS = (
  "everybody was happy .",
  "it was a long day .",
  "the news came {time} .",
  "{name} told us about it .",
)


def _sentence(draw: Draw, topic: str) -> str:
  words = lexicon.TOPICS[topic]
  did = draw.one(words["did"])
  who = draw.one(words["who"])
  if draw.chance(0.25):
    name = draw.one(lexicon.NAMES)
    return f"{name} {did} the {draw.beside(name, words['what'])} ."
  return f"the {who} {did} the {draw.beside(who, words['what'])} ."


def _filler(draw: Draw) -> str:
  return draw.one(_ENDINGS).format(
    time=draw.one(lexicon.TIMES), name=draw.one(lexicon.NAMES)
  )


def article(draw: Draw) -> Instance:
  """Writes one or two sentences on a topic among sentences on none."""
  topic = draw.one(LABELS)
  sentences = [_sentence(draw, topic)]
  if draw.chance(0.4):
    sentences.append(_sentence(draw, topic))
  if draw.chance(0.6):
    sentences.append(_filler(draw))
  draw.rng.shuffle(sentences)
  other = draw.one([name for name in LABELS if name != topic])
  sequels = (
    f"this text is about {topic} .",
    f"this text is not about {other} .",
    f"is this about {topic} ? yes .",
    f"is this about {other} ? no .",
  )
  return Instance(" ".join(sentences), topic, sequels)


def episode(draw: Draw, topic: str) -> list[str]:
  """Writes two or three sentences about somebody of a topic."""
  words = lexicon.TOPICS[topic]
  who = draw.one(words["who"])
  did = draw.some(words["did"], draw.rng.randint(2, 3))
  return [
    f"the {who} {each} the {draw.beside(who, words['what'])} ." for each in did
  ]
