import pytest

from benchmarks import systems, variants
from benchmarks.jobs import Job

JOB = Job(kind="train_step", sizes={"vocab_size": 8})


def test_a_system_has_settings_of_its_own():
  variant = variants.find("ours:packed_length=248:remat=layer")
  assert variant.entry is systems.find("ours")
  job = variant.job(JOB)
  assert (job.packed_length, job.remat) == (248, "layer")
  assert job.batch_size == JOB.batch_size


def test_a_bare_name_is_the_job_as_it_is():
  assert variants.find("peft").job(JOB) == JOB


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("theirs:remat=layer", "unknown system 'theirs'"),
    ("peft:packed_length=8", "no setting 'packed_length' .* has length_mult"),
    ("matrix_xla:remat=layer", "it has none"),
    ("ours:batch_size=8", "no setting 'batch_size'"),
    ("ours:packed_length=many", "a whole number, got 'many'"),
    ("ours:remat=all", "remat must be one of"),
    ("ours_joint", "ours_joint does no train_step; it does many_prompts"),
  ],
)
def test_refuses_what_a_system_cannot(name, message):
  with pytest.raises(ValueError, match=message):
    variants.find(name).job(JOB)


def test_many_prompts_are_no_job_of_the_others():
  job = Job(kind="many_prompts", sizes={"vocab_size": 8})
  with pytest.raises(ValueError, match="peft does no many_prompts"):
    variants.find("peft").job(job)
