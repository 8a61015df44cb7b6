import pytest

from benchmarks import comparisons, jobs, token_counts
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.testing import shared


def test_counts_the_tokens_of_a_field(tmp_path):
  path = tmp_path / "texts.tsv"
  path.write_text("label\tsentence\n0\tgood\n1\tnot so good\n")
  counts = token_counts.token_counts(str(path), "sentence", ByteVocabulary())
  assert list(counts) == [5, 12]


def test_prints_what_lengths_are_read_from(tmp_path, monkeypatch, capsys):
  for name in ("one", "two"):
    text = "sentence\ngood\nfine\nnot so good\n"
    (tmp_path / f"{name}.tsv").write_text(text)
  monkeypatch.setattr(
    token_counts, "SentencePieceVocabulary", lambda path: ByteVocabulary()
  )
  files = [str(tmp_path / "one.tsv"), str(tmp_path / "two.tsv")]
  token_counts.main(
    ["--vocabulary=model", "--field=sentence", "--input", *files]
  )
  (tmp_path / "lengths.txt").write_text(capsys.readouterr().out)
  assert jobs.read_lengths(tmp_path / "lengths.txt") == ((5, 4), (12, 2))


@pytest.mark.slow
def test_lengths_of_sst2_are_those_of_its_texts(capsys):
  vocabulary = shared.data_path("t5_vocab/spiece.model")
  files = [
    str(shared.data_path(f"classification/sst2/{part}.jsonl.gz"))
    for part in ("train", "train_heldout")
  ]
  token_counts.main(
    [f"--vocabulary={vocabulary}", "--field=sentence", "--input", *files]
  )
  kept = comparisons.SST2_LENGTHS.read_text()
  assert capsys.readouterr().out == kept
