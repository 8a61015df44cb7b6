import jax
import numpy as np
import pytest

from prompt_tuning.checkpoints import tree


def _shapes(**leaves):
  return tree.unflatten(
    {
      name.replace("__", "/"): jax.ShapeDtypeStruct(shape, np.float32)
      for name, shape in leaves.items()
    }
  )


def test_flatten_and_back():
  nested = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
  flat = tree.flatten(nested)
  assert flat == {"a/b": 1, "a/c/d": 2, "e": 3}
  assert tree.unflatten(flat) == nested


def test_flatten_stops_at_leaves():
  nested = {"a": {"driver": "zarr"}, "b": {"c": 1}}
  flat = tree.flatten(nested, is_leaf=lambda node: "driver" in node)
  assert flat == {"a": {"driver": "zarr"}, "b/c": 1}


def test_equal_trees_pass():
  expected = _shapes(a__b=(2, 3), c=())
  loaded = {"a": {"b": np.zeros((2, 3))}, "c": np.zeros(())}
  tree.check_tree(loaded, expected, source="x")


def test_everything_that_differs_is_listed():
  loaded = _shapes(a__same=(2,), a__wrong=(2, 3), extra=(4,))
  expected = _shapes(a__same=(2,), a__wrong=(3, 2), missing__one=(5,))
  with pytest.raises(ValueError, match="not those of the model") as caught:
    tree.check_tree(loaded, expected, source="/models/base")
  message = str(caught.value)
  assert "/models/base" in message
  assert "missing (1):\n    missing/one [5]" in message
  assert "extra (1):\n    extra [4]" in message
  assert "a/wrong is [2, 3], the model has [3, 2]" in message
  assert "a/same" not in message


def test_long_lists_are_cut_and_counted():
  expected = _shapes(**{f"w{index:02}": (1,) for index in range(25)})
  with pytest.raises(ValueError, match=r"\.\.\. and 15 more") as caught:
    tree.check_tree({}, expected, source="x")
  assert "w09 [1]" in str(caught.value)
  assert "w10" not in str(caught.value)


def test_untied_logits_point_to_the_setting():
  loaded = _shapes(decoder__logits_dense__kernel=(2, 3))
  with pytest.raises(ValueError, match="tie_embeddings = False"):
    tree.check_tree(loaded, {}, source="x")


def test_gated_layers_point_to_the_setting():
  expected = _shapes(encoder__layers_0__mlp__wi_0__kernel=(2, 3))
  loaded = _shapes(encoder__layers_0__mlp__wi__kernel=(2, 3))
  with pytest.raises(ValueError, match=r"mlp_activations = \('relu',\)"):
    tree.check_tree(loaded, expected, source="x")
