"""Which process of a run this is, as the environment tells."""

import os

import pytest
from absl import flags

from prompt_tuning.runs import distributed
from prompt_tuning.runs.distributed import Member, from_environment

FIRST = {
  "JAX_COORDINATOR_ADDRESS": "10.0.0.1:8476",
  "JAX_NUM_PROCESSES": "4",
  "JAX_PROCESS_ID": "0",
}


def test_all_three_variables_make_a_member():
  assert from_environment(FIRST | {"JAX_PROCESS_ID": "3"}) == Member(
    coordinator="10.0.0.1:8476", num_processes=4, process_id=3
  )


@pytest.mark.parametrize("environment", [{}, dict.fromkeys(FIRST, "")])
def test_without_them_it_is_the_only_process(environment):
  assert from_environment(environment) is None


@pytest.mark.parametrize("name", FIRST)
def test_a_missing_variable_is_named(name):
  some = {key: value for key, value in FIRST.items() if key != name}
  with pytest.raises(ValueError, match=f"set, {name} missing: set all three"):
    from_environment(some)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"JAX_NUM_PROCESSES": "four"}, "JAX_NUM_PROCESSES must be an integer"),
    ({"JAX_NUM_PROCESSES": "0"}, "at least 1, got 0"),
    ({"JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID must be from 0 to .*3, got 4"),
    ({"JAX_PROCESS_ID": "-1"}, "got -1"),
    ({"JAX_COORDINATOR_ADDRESS": "10.0.0.1"}, "host and port of process 0"),
    ({"JAX_COORDINATOR_ADDRESS": "http://a:1"}, "host and port of process 0"),
  ],
)
def test_what_makes_no_sense_is_explained(change, message):
  with pytest.raises(ValueError, match=message):
    from_environment(FIRST | change)


@pytest.mark.parametrize("address", ["localhost:1", "t1v-n-0:84", "[::1]:9"])
def test_hosts_have_names_and_addresses(address):
  member = from_environment(FIRST | {"JAX_COORDINATOR_ADDRESS": address})
  assert member is not None
  assert member.coordinator == address


@pytest.fixture
def parsed(monkeypatch):
  values = flags.FlagValues()
  flags.DEFINE_bool("distributed", False, "", flag_values=values)
  flags.DEFINE_bool("dry_run", False, "", flag_values=values)
  values.mark_as_parsed()
  monkeypatch.setattr(distributed.flags, "FLAGS", values)
  for name in FIRST:
    monkeypatch.delenv(name, raising=False)
  return values


def _connects(*_, **__):
  pytest.fail("connected to other processes")


@pytest.mark.parametrize("asked", [False, True])
def test_a_dry_run_and_a_plain_run_are_one_process(parsed, monkeypatch, asked):
  monkeypatch.setattr("jax.distributed.initialize", _connects)
  parsed.distributed = asked
  parsed.dry_run = asked
  if asked:
    for name, value in FIRST.items():
      monkeypatch.setitem(os.environ, name, value)
  ran = distributed.member_of_job(lambda argv: argv)
  assert ran(["program"]) == ["program"]
