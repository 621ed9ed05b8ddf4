"""Initialisation of a run from a saved model."""

import numpy as np
import pytest
from flax import nnx

from jax_me.experiment.initial_weights import initialise_state
from jax_me.models.model_folder import load_model, split_model
from jax_me.models.registry import create_model
from tests.helpers.inference_models import SAVED, save

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.slow
@pytest.mark.parametrize(
  ("labels", "same"),
  [
    (["calm", "happy, or so"], True),
    (["Calm", "happy,-or_so"], True),  # the spelling of version 0.1
    (["happy, or so", "calm"], False),
    (["calm", "sad"], False),
  ],
)
def test_head_is_taken_over_if_the_labels_are_the_same(tmp_path, labels, same):
  folder = save(tmp_path / "model")
  fresh = create_model("vit_tiny_patch16", rngs=nnx.Rngs(5), **SAVED)
  _, params, model_state = split_model(fresh)
  state = {"params": params, "model_state": model_state}
  started, _ = initialise_state(state, folder, target_name="vit_tiny_patch16", labels=labels)
  _, source, _ = split_model(load_model(folder).model)
  kernels = [np.asarray(tree["head"]["kernel"]) for tree in (started["params"], source)]
  assert np.array_equal(*kernels) == same
