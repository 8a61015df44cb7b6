"""Whether a generated text names a given referent, as T5 judges WSC."""

# They say which one is meant, not what it is.
# fmt: off
_DETERMINERS = frozenset({
  "a", "an", "the", "this", "that", "these", "those", "each", "every", "few",
  "many", "much", "some", "which", "whose",
  "my", "your", "her", "his", "our", "their",
})
# fmt: on


def names_referent(prediction: str, referent: str) -> bool | None:
  """Returns whether a prediction names a referent, None if it names nothing.

  Case and determiners do not count. The words of one must all be among the
  words of the other, so that "fuzzy bunny" names "the bunny"; but not where one
  alone has an apostrophe, as "Bob" is not "Bob's hat".

  Args:
    prediction: What the model said.
    referent: What it is compared with.
  """
  said, meant = _words(prediction), _words(referent)
  if not said:
    return None
  if any("'" in word for word in said) != any("'" in word for word in meant):
    return False
  return bool(meant) and (said <= meant or meant <= said)


def _words(text: str) -> set[str]:
  return set(text.lower().split()) - _DETERMINERS
