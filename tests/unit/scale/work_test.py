"""Counting in programs as the TPU compiler writes them, cut short."""

import pathlib

import jax
import pytest
from jax import numpy as jnp

from prompt_tuning.scale import hlo
from prompt_tuning.scale.work import Collectives, count_work

# A scan over six layers' weights. The matrix product reads one layer at a time,
# and hands its result to the next through memory on the core, S(1).
LOOP = pathlib.Path(__file__).with_name("scanned_layers.hlo").read_text()


def entry(line, *parameters):
  """A program of one instruction."""
  lines = [
    f"  %p{i} = {shape} parameter({i})" for i, shape in enumerate(parameters)
  ]
  return "\n".join(["ENTRY %main () -> f32[] {", *lines, f"  {line}", "}"])


def work_of(text):
  return count_work(hlo.parse(text))


def test_a_loop_counts_as_often_as_it_runs():
  work = work_of(LOOP)
  assert work.flops == 6 * 2 * 16 * 64 * 32
  assert work.collectives["all-reduce"].count == 6
  assert work.unknown_loops == 0


def test_a_slice_of_stacked_weights_is_read_and_not_the_stack():
  layer = 64 * 32 * 2
  on_the_way_in = 16 * 64 * 2
  assert work_of(LOOP).hbm_bytes == 6 * layer + on_the_way_in


def test_a_loop_of_unknown_length_is_told():
  work = work_of(LOOP.replace("direction=LT", "direction=NE"))
  assert work.unknown_loops == 1
  assert work.flops == 2 * 16 * 64 * 32


@pytest.mark.parametrize(
  "groups",
  [
    "{{0,1,2,3},{4,5,6,7}}",
    "[2,4]<=[8]",
    "mesh['a'=2,'b'=1,'c'=4] {'c'}",
    "mesh['a'=2,'b'=2,'c'=2], device_ids=([2,4]T(1,0)) {'a','b'}",
  ],
)
def test_groups_in_every_form(groups):
  text = entry(
    f"ROOT %r = f32[10] all-reduce(%p0), replica_groups={groups}", "f32[10]"
  )
  sent = 2 * 3 / 4 * 40
  assert work_of(text).collectives == {"all-reduce": Collectives(1, 40, sent)}


@pytest.mark.parametrize(
  ("line", "kind", "whole", "sent"),
  [
    (
      "ROOT %r = f32[40] all-gather(%p0), replica_groups=[2,4]<=[8]",
      "all-gather",
      160,
      120,
    ),
    (
      "%r = (f32[10], f32[40]) all-gather-start(%p0), "
      "replica_groups=[2,4]<=[8]",
      "all-gather",
      160,
      120,
    ),
    (
      "ROOT %r = f32[5] reduce-scatter(%p0), replica_groups=[4,2]<=[8]",
      "reduce-scatter",
      40,
      20,
    ),
    (
      "ROOT %r = f32[10] collective-permute(%p0), "
      "source_target_pairs={{0,1},{1,0}}",
      "collective-permute",
      40,
      40,
    ),
  ],
)
def test_bytes_of_collectives(line, kind, whole, sent):
  work = work_of(entry(line, "f32[10]"))
  assert work.collectives == {kind: Collectives(1, whole, sent)}


def test_a_group_of_one_says_nothing():
  text = entry(
    "ROOT %r = f32[10] all-reduce(%p0), replica_groups={{0},{1}}", "f32[10]"
  )
  assert work_of(text).collectives == {}


def test_groups_of_unknown_form_are_refused():
  text = entry(
    "ROOT %r = f32[10] all-reduce(%p0), replica_groups=what", "f32[10]"
  )
  with pytest.raises(ValueError, match="groups of unknown form"):
    work_of(text)


def test_a_batch_of_products_is_counted_without_its_empty_places():
  # Six products of [16, 64] and [64, 32], as one convolution whose window meets
  # one real input at each place.
  text = entry(
    "ROOT %r = f32[6,16,32] convolution(%p0, %p1), window={size=6 stride=5 "
    "pad=0_0 lhs_dilate=6}, dim_labels=0bf_0io->0bf",
    "f32[6,16,64]",
    "f32[6,64,32]",
  )
  assert work_of(text).flops == 6 * 2 * 16 * 64 * 32


def test_the_text_of_another_compiler_is_counted_too():
  def scan(weights, x):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

  shapes = jnp.zeros((5, 8, 8)), jnp.zeros((4, 8))
  text = jax.jit(scan).lower(*shapes).compile().as_text()
  assert work_of(text).flops == 5 * 2 * 4 * 8 * 8


def test_what_is_no_program_is_refused():
  with pytest.raises(ValueError, match="no ENTRY"):
    hlo.parse("HloModule empty")
