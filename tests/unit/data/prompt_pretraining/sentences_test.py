"""Where sentences end, and where they do not."""

import pytest

from prompt_tuning.data.prompt_pretraining.sentences import split


@pytest.mark.parametrize(
  ("text", "sentences"),
  [
    ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
    ("Mr. Smith met Dr. J. Jones. They ate.", None),
    ("It cost 3.50 in the U.S. market. No more.", None),
    (
      "\u201cStop!\u201d She ran. (He did not.) Why?",
      ["\u201cStop!\u201d", "She ran.", "(He did not.)", "Why?"],
    ),
    ("Well... Then it rained.", ["Well...", "Then it rained."]),
    ("no capital. but on it goes", ["no capital. but on it goes"]),
    ("A line\n\nand another.\n", ["A line", "and another."]),
    ("In 1990. 20 came.", ["In 1990.", "20 came."]),
    (
      "\u4f60\u597d\u3002\u518d\u89c1\uff01",
      ["\u4f60\u597d\u3002", "\u518d\u89c1\uff01"],
    ),
    ("\u201c\u597d\u3002\u201d\u4ed6", ["\u201c\u597d\u3002\u201d", "\u4ed6"]),
    ("", []),
    ("  \n ", []),
  ],
)
def test_sentences(text, sentences):
  if sentences is None:
    first, second = text.rsplit(". ", 1)
    sentences = [f"{first}.", second]
  assert split(text) == sentences


def test_nothing_is_lost():
  text = 'Here. "Is" it? Yes... e.g. this! OK. 3.5 And 7.'
  assert "".join("".join(split(text)).split()) == "".join(text.split())
