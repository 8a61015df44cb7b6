"""How fast running text becomes questions to pre-train a prompt on.

python -m benchmarks.prompt_pretraining --vocabulary=spiece.model *.jsonl.xz

Reads the files once, on all cores, and then makes questions of each format, on
one core and on all. Memory is the peak of this process, and that of its
processes together.
"""

import argparse
import os
import pathlib
import resource
import tempfile
import time

from prompt_tuning.data.prompt_pretraining import documents, parallel
from prompt_tuning.data.prompt_pretraining.stream import PretrainingInputs
from prompt_tuning.data.prompt_pretraining.wording import Format
from prompt_tuning.data.vocabularies import SentencePieceVocabulary

FORMATS = [form for form in Format if form is not Format.SENTENCE]


def peak_mebibytes() -> tuple[float, float]:
  """Returns the peak of this process, and of the largest that it started."""
  mine, theirs = (
    resource.getrusage(who).ru_maxrss / 1024
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  )
  return mine, theirs


def main() -> None:
  """Measures, and prints lines of Markdown."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("files", nargs="+")
  parser.add_argument("--vocabulary", required=True)
  parser.add_argument("--text_field", default="text")
  parser.add_argument("--num_questions", type=int, default=20_000)
  arguments = parser.parse_args()
  vocabulary = SentencePieceVocabulary(arguments.vocabulary)
  cores = os.cpu_count() or 1
  before, _ = peak_mebibytes()
  with tempfile.TemporaryDirectory() as folder:
    cache = str(pathlib.Path(folder) / "sentences")
    start = time.perf_counter()
    found = documents.read_documents(
      arguments.files, vocabulary, cache, text_field=arguments.text_field
    )
    seconds = time.perf_counter() - start
    size = found.text.size / 2**20
    mine, theirs = peak_mebibytes()
    print(
      f"read {size:.0f} MiB of text, {found.document_ends.size:,} documents, "
      f"{found.sentence_ends.size:,} sentences in {seconds:.0f} s on {cores} "
      f"cores: {size / seconds:.1f} MiB/s; peak {mine:.0f} MiB (before: "
      f"{before:.0f}) and {theirs:.0f} MiB in each of {cores} processes\n"
    )
    print(f"| format | questions/s, one core | questions/s, {cores} cores |")
    print("| --- | --- | --- |")
    for form in FORMATS:
      inputs = PretrainingInputs(
        files=arguments.files,
        cache=cache,
        form=form,
        text_field=arguments.text_field,
      )
      rates = []
      for workers in (1, cores):
        start = time.perf_counter()
        made = parallel.examples(
          inputs,
          vocabulary,
          arguments.num_questions,
          seed=0,
          num_workers=workers,
        )
        # The first ones wait for processes to start.
        next(made)
        start = time.perf_counter()
        count = sum(1 for _ in made)
        rates.append(count / (time.perf_counter() - start))
      print(f"| {form.value} | {rates[0]:,.0f} | {rates[1]:,.0f} |")
  mine, theirs = peak_mebibytes()
  print(f"\npeak {mine:.0f} MiB, and {theirs:.0f} MiB in each process")


if __name__ == "__main__":
  main()
