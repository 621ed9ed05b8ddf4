"""Rows of the comparison with other implementations: work, model, peer and floors."""

import dataclasses
from collections.abc import Mapping

# Sides beside ours.
EAGER = "eager"
COMPILED = "compiled"
CHANNELS_LAST = "eager, channels last"
ONNX_RUNTIME = "ONNX Runtime"
PEER_FORMS = (EAGER, COMPILED, CHANNELS_LAST, ONNX_RUNTIME)


@dataclasses.dataclass(frozen=True)
class Row:
  """One kind of work, measured on both sides.

  Attributes:
    name: of the row, for `--only` and in the JSON file.
    title: in the table.
    work: "inference", or "step": forward and backward pass and AdamW.
    model: key of `jax_me.models.registry.MODELS`.
    peer: key of `peers.PEERS`.
    mask_ratio: of masked pre-training; None is classification.
    channels_last: also measure the peer with its images and kernels in that memory format.
    cpu: smallest acceptable ratio by form of the peer, in float32 on two cores.
    gpu: the same in bfloat16 on an H100 or H200.
    mfu: smallest acceptable model FLOPs utilisation there.
  """

  name: str
  title: str
  work: str
  model: str
  peer: str
  mask_ratio: float | None = None
  channels_last: bool = False
  cpu: Mapping[str, float] = dataclasses.field(default_factory=dict)
  gpu: Mapping[str, float] = dataclasses.field(default_factory=dict)
  mfu: float | None = None

  def floors(self, platform: str) -> Mapping[str, float]:
    """The smallest acceptable ratios on a platform of JAX ("cpu", "gpu")."""
    return {"cpu": self.cpu, "gpu": self.gpu}.get(platform, {})


ROWS = {
  row.name: row
  for row in (
    Row(
      name="vit_b_inference",
      title="ViT-B inference",
      work="inference",
      model="vit_base_patch16",
      peer="timm ViT-B",
      cpu={EAGER: 1.15, COMPILED: 1.0},
      gpu={EAGER: 1.2, COMPILED: 1.0},
    ),
    Row(
      name="convnextv2_b_inference",
      title="ConvNeXt V2-B inference",
      work="inference",
      model="convnextv2_base",
      peer="timm ConvNeXt V2-B",
      channels_last=True,
      cpu={EAGER: 1.4, COMPILED: 0.95},
      gpu={EAGER: 1.2, COMPILED: 1.0},
    ),
    Row(
      name="convnextv2_atto_inference",
      title="ConvNeXt V2-atto inference",
      work="inference",
      model="convnextv2_atto",
      peer="timm ConvNeXt V2-atto",
      channels_last=True,
      cpu={EAGER: 1.4, COMPILED: 0.95},
      gpu={EAGER: 1.2, COMPILED: 1.0},
    ),
    Row(
      name="t2t_vit_14_inference",
      title="T2T-ViT-14 inference",
      work="inference",
      model="t2t_vit_14",
      peer="original T2T-ViT-14",
      cpu={EAGER: 1.15, COMPILED: 1.0},
      gpu={EAGER: 1.2, COMPILED: 1.0},
    ),
    Row(
      name="vit_b_step",
      title="ViT-B training step",
      work="step",
      model="vit_base_patch16",
      peer="timm ViT-B",
      cpu={EAGER: 1.0, COMPILED: 0.95},
      gpu={COMPILED: 1.2},
    ),
    Row(
      name="mae_vit_b_step",
      title="MAE ViT-B training step",
      work="step",
      model="mae_vit_base_patch16",
      peer="transformers ViTMAE-B",
      mask_ratio=0.75,
      cpu={EAGER: 1.0, COMPILED: 0.95},
      gpu={COMPILED: 1.2},
      mfu=0.45,
    ),
    Row(
      name="t2t_vit_14_step",
      title="T2T-ViT-14 training step",
      work="step",
      model="t2t_vit_14",
      peer="original T2T-ViT-14",
      cpu={EAGER: 1.0, COMPILED: 0.95},
      gpu={COMPILED: 1.2},
    ),
    Row(
      name="convnextv2_b_step",
      title="ConvNeXt V2-B training step",
      work="step",
      model="convnextv2_base",
      peer="timm ConvNeXt V2-B",
      channels_last=True,
      cpu={EAGER: 1.0, COMPILED: 0.9},
      gpu={COMPILED: 1.1},
    ),
    Row(
      name="convnextv2_atto_step",
      title="ConvNeXt V2-atto training step",
      work="step",
      model="convnextv2_atto",
      peer="timm ConvNeXt V2-atto",
      channels_last=True,
    ),
    Row(
      name="fcmae_b_step",
      title="FCMAE ConvNeXt V2-B training step",
      work="step",
      model="fcmae_convnextv2_base",
      peer="masked dense FCMAE-B",
      mask_ratio=0.6,
      channels_last=True,
      cpu={EAGER: 2.5},
      gpu={EAGER: 2.0},
    ),
  )
}
