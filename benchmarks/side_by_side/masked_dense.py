"""FCMAE of ConvNeXt V2 (arXiv:2301.00808) in torch as masked dense convolutions.

The original needs a sparse convolution library that has no current release. Without it the encoder
computes every site and sets the removed ones to zero. The layers are timm's.
"""

import timm
import torch
from timm.models.convnext import ConvNeXtBlock
from torch import nn

PATCH_SIZE = 32


class MaskedDenseFCMAE(nn.Module):
  """FCMAE whose encoder is a ConvNeXt V2 of timm; `forward` is the loss.

  Args:
    encoder: name of the model in timm.
    mask_ratio: fraction of patches to remove.
    width: channels of the decoder, which has one block.
  """

  def __init__(self, encoder: str, mask_ratio: float, width: int = 512):
    super().__init__()
    self.mask_ratio = mask_ratio
    model = timm.create_model(encoder, num_classes=0, conv_mlp=False)
    self.stem, self.stages = model.stem, model.stages
    self.proj = nn.Conv2d(model.num_features, width, 1)
    self.mask_token = nn.Parameter(torch.zeros(1, width, 1, 1))
    self.decoder = ConvNeXtBlock(width, use_grn=True, ls_init_value=None)
    self.pred = nn.Conv2d(width, 3 * PATCH_SIZE**2, 1)

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    side = images.shape[-1] // PATCH_SIZE
    noise = torch.rand(len(images), side * side, device=images.device)
    ranks = noise.argsort(1).argsort(1)
    visible = (ranks < int(side * side * (1 - self.mask_ratio))).to(images.dtype)
    grid = visible.reshape(-1, 1, side, side)

    x = self.stem(images)
    for stage in self.stages:
      x = stage.downsample(x)
      scale = x.shape[-1] // side
      mask = grid.to(x.dtype).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
      x = x * mask
      for block in stage.blocks:
        x = x + mask * masked_branch(block, x, mask)

    x = self.proj(x)
    x = torch.where(grid > 0, x, self.mask_token.to(x.dtype))
    pred = self.pred(self.decoder(x)).flatten(2).transpose(1, 2)
    error = (pred.float() - normalized_patches(images, side)).square().mean(-1)
    removed = 1 - visible
    return (error * removed).sum() / removed.sum()


def masked_branch(block: ConvNeXtBlock, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
  """The residual branch of a block, with the removed sites left out of the norms of its GRN.

  Args:
    block: of timm, with GRN.
    x: [B, C, H, W].
    mask: [B, 1, H, W], 1 = visible.

  Returns:
    [B, C, H, W].
  """
  y = block.norm(block.conv_dw(x).permute(0, 2, 3, 1))
  y = block.mlp.act(block.mlp.fc1(y)) * mask.permute(0, 2, 3, 1)
  return block.mlp.fc2(block.mlp.grn(y)).permute(0, 3, 1, 2)


def normalized_patches(images: torch.Tensor, side: int) -> torch.Tensor:
  """[B, 3, H, H] -> [B, side * side, pixels of a patch], each with mean 0 and variance 1."""
  x = images.float().reshape(len(images), 3, side, PATCH_SIZE, side, PATCH_SIZE)
  x = x.permute(0, 2, 4, 3, 5, 1).reshape(len(images), side * side, -1)
  return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-6).sqrt()
