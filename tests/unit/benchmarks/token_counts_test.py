from benchmarks import token_counts
from prompt_tuning.data.vocabularies import ByteVocabulary


def test_counts_the_tokens_of_a_field(tmp_path):
  path = tmp_path / "texts.tsv"
  path.write_text("label\tsentence\n0\tgood\n1\tnot so good\n")
  counts = token_counts.token_counts(str(path), "sentence", ByteVocabulary())
  assert list(counts) == [5, 12]
