"""Hugging Face's PEFT: prompt tuning of a transformers T5 in PyTorch.

What would flatter our figures is avoided: there are P soft tokens (PEFT keeps
twice as many for an encoder-decoder by itself), nothing is logged, and
verbalizers are scored with the encoder run once, which PEFT's own interface
does not offer.
"""

import importlib.metadata
import itertools
from collections.abc import Callable
from typing import Any

import peft
import torch
import transformers
from transformers.modeling_outputs import BaseModelOutput

from benchmarks import jobs
from benchmarks.jobs import EOS_ID, PAD_ID, Batch, Job, Kind
from benchmarks.systems import Facts, System
from benchmarks.systems.torch_device import find_device, use_cores, wait

Tensors = dict[str, torch.Tensor]


def prompt_tuning(job: Job) -> System:
  """Tunes or uses a soft prompt."""
  use_cores(job)
  model = make_model(job).to(find_device())
  make = {
    Kind.TRAIN_STEP: _trainer,
    Kind.EVAL: _ranker,
    Kind.DECODE: _generator,
  }
  batches = [_tensors(batch) for batch in jobs.make_batches(job)]
  return _Torch(make[Kind(job.kind)](job, model), batches)


def make_model(job: Job) -> Any:
  """Returns the network with random weights and a soft prompt."""
  if job.dtype != job.weights_dtype:
    raise ValueError(
      f"peft: dtype={job.dtype} and weights_dtype={job.weights_dtype} differ, "
      "but PyTorch computes in the type of the weights; make them equal, or "
      "leave this system out."
    )
  torch.manual_seed(job.seed)
  # Its fields are those of a dataclass that a checker cannot see.
  make_config: Any = transformers.T5Config
  config = make_config(
    vocab_size=job.sizes["vocab_size"],
    d_model=job.sizes["embed_dim"],
    num_heads=job.sizes["num_heads"],
    d_kv=job.sizes["head_dim"],
    d_ff=job.sizes["mlp_dim"],
    num_layers=job.sizes["num_encoder_layers"],
    num_decoder_layers=job.sizes["num_decoder_layers"],
    feed_forward_proj="gated-gelu",
    tie_word_embeddings=False,
    dropout_rate=job.dropout_rate,
    pad_token_id=PAD_ID,
    eos_token_id=EOS_ID,
    decoder_start_token_id=PAD_ID,
  )
  backbone = transformers.T5ForConditionalGeneration(config)
  model = peft.get_peft_model(
    backbone.to(getattr(torch, job.weights_dtype)),
    peft.PromptTuningConfig(
      task_type=peft.TaskType.SEQ_2_SEQ_LM,
      num_virtual_tokens=job.prompt_length,
      num_transformer_submodules=1,
    ),
  )
  model.train(job.kind is Kind.TRAIN_STEP)
  return model


def _tensors(batch: Batch) -> Tensors:
  inputs = torch.from_numpy(batch.inputs.astype("int64"))
  return {
    "input_ids": inputs,
    "attention_mask": (inputs != PAD_ID).long(),
    "labels": torch.from_numpy(batch.targets.astype("int64")),
  }


class _Torch:
  """Calls a function on batch after batch."""

  def __init__(
    self, step: Callable[[Tensors], torch.Tensor], batches: list[Tensors]
  ):
    self._step = step
    self._batches = batches
    self._next = itertools.cycle(batches)

  def start(self) -> None:
    """Takes a step of every shape; nothing is compiled."""
    shapes = {batch["input_ids"].shape: batch for batch in self._batches}
    for batch in shapes.values():
      self._read(self._step(self._place(batch)))

  def run(self, num_steps: int) -> None:
    """Takes steps; the loss of one is read while the next one runs."""
    pending = None
    for _ in range(num_steps):
      outcome = self._step(self._place(next(self._next)))
      if pending is not None:
        self._read(pending)
      pending = outcome
    self._read(pending)
    wait()

  def _place(self, batch: Tensors) -> Tensors:
    device = find_device()
    return {name: tensor.to(device) for name, tensor in batch.items()}

  def _read(self, outcome: torch.Tensor) -> None:
    values = outcome.detach().float().cpu()
    if not torch.isfinite(values).all():
      raise FloatingPointError(f"peft: a step's outcome is {values}.")

  def facts(self) -> Facts:
    """Returns versions and the number of threads."""
    names = ("torch", "transformers", "peft")
    facts: Facts = {
      **{name: importlib.metadata.version(name) for name in names},
      "num_threads": torch.get_num_threads(),
    }
    if find_device() == "cuda":
      facts["device"] = torch.cuda.get_device_name()
      facts["device_peak_memory"] = torch.cuda.max_memory_allocated()
    return facts


def _trainer(job: Job, model: Any) -> Callable[[Tensors], torch.Tensor]:
  """Returns a step as PEFT's examples write it; it gives the loss."""
  del job
  tuned = [p for p in model.parameters() if p.requires_grad]
  optimizer = torch.optim.AdamW(tuned, lr=1e-2)

  def step(batch: Tensors) -> torch.Tensor:
    optimizer.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    return loss

  return step


def _ranker(job: Job, model: Any) -> Callable[[Tensors], torch.Tensor]:
  """Returns what scores every verbalizer, the encoder run once."""
  device = find_device()
  rows = torch.from_numpy(jobs.make_verbalizers(job).astype("int64"))
  rows = rows.to(device)
  backbone = model.get_base_model()

  @torch.inference_mode()
  def rank(batch: Tensors) -> torch.Tensor:
    size = len(batch["input_ids"])
    words = backbone.get_input_embeddings()(batch["input_ids"])
    soft = model.get_prompt(batch_size=size)[:, : job.prompt_length]
    ones = torch.ones(size, job.prompt_length, dtype=torch.long, device=device)
    mask = torch.cat((ones, batch["attention_mask"]), dim=1)
    encoded = backbone.get_encoder()(
      inputs_embeds=torch.cat((soft.to(words.dtype), words), dim=1),
      attention_mask=mask,
    )
    outputs = BaseModelOutput(last_hidden_state=encoded.last_hidden_state)
    scores = []
    for row in rows:
      targets = row.expand(size, -1)
      logits = backbone(
        encoder_outputs=outputs,
        attention_mask=mask,
        decoder_input_ids=torch.nn.functional.pad(
          targets[:, :-1], (1, 0), value=PAD_ID
        ),
        use_cache=False,
      ).logits
      log_probs = torch.log_softmax(logits.float(), dim=-1)
      picked = log_probs.gather(-1, targets[..., None])[..., 0]
      scores.append(picked.sum(-1))
    return torch.stack(scores, dim=-1).argmax(-1)

  return rank


def _generator(job: Job, model: Any) -> Callable[[Tensors], torch.Tensor]:
  """Returns what writes `targets_length` tokens greedily."""

  @torch.inference_mode()
  def generate(batch: Tensors) -> torch.Tensor:
    return model.generate(
      input_ids=batch["input_ids"],
      attention_mask=batch["attention_mask"],
      min_new_tokens=job.targets_length,
      max_new_tokens=job.targets_length,
      num_beams=1,
      do_sample=False,
    )

  return generate
