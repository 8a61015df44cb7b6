"""The likeliest token of an answer slot, among the whole vocabulary.

What the released code of PPT measures (Gu et al., 2022): a word that is no
verbalizer is a wrong answer, where rank classification would not consider it.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import cast

import jax
from jax import numpy as jnp

from prompt_tuning.data import patterns
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.evaluate.generation import encoder_inputs
from prompt_tuning.evaluate.predictors import Predict
from prompt_tuning.evaluate.prompt_compiler import PromptCompiler, of_rows
from prompt_tuning.model.scoring import shift_right
from prompt_tuning.model.t5 import T5


@dataclasses.dataclass(frozen=True)
class AnswerToken:
  """Shows the decoder the sentinel of the slot and takes what it says next.

  Attributes:
    answers: The words, each behind its sentinel, see `PVP.answers`.
  """

  answers: Sequence[str]

  def build(
    self, model: T5, *, vocabulary: Vocabulary, lengths: FeatureLengths
  ) -> Predict:
    """Returns the function; answers are the sentinel and a token.

    Raises:
      ValueError: The vocabulary has no sentinels, or writes a word as several
        tokens, which are never taken.
    """
    del lengths
    slot = patterns.sentinel(vocabulary, patterns.ANSWER)
    for answer in self.answers:
      ids = vocabulary.encode(answer)
      if ids[:1] != [slot] or len(ids) != 2 or ids[1] == vocabulary.unk_id:
        raise ValueError(
          "AnswerToken takes a sentinel and a single token for an answer, and "
          f"the vocabulary {vocabulary} writes {answer!r} as {ids}; "
          "choose another word, or rank the answers: leave out "
          "decoding/answer_token.gin"
        )
    compile_prompt = PromptCompiler(model)

    def predict(params, batch, rngs):
      del rngs
      return _answers(
        params,
        compile_prompt(params),
        encoder_inputs(batch),
        batch.get("prompt_index"),
        model=model,
        slot=slot,
      )

    return predict


@functools.partial(jax.jit, static_argnames=("model", "slot"))
def _answers(params, prompt, tokens, prompt_index, *, model: T5, slot: int):
  prompt = of_rows(prompt, prompt_index)
  variables = {"params": params}
  encoded = model.apply(variables, tokens, prompt=prompt, method="encode")
  # The second token is what is asked for: the input does not hold it.
  targets = jnp.full((tokens.shape[0], 2), slot, jnp.int32)
  logits = cast(
    jax.Array,
    model.apply(
      variables,
      shift_right(targets),
      encoded,
      tokens,
      prompt=prompt,
      method="decode",
    ),
  )
  return targets.at[:, 1].set(jnp.argmax(logits[:, 1], axis=-1))
