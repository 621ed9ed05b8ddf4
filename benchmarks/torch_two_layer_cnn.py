"""Two-layer CNN in torch on small flow images, fold after fold: the peer of `leaderboard.py`."""

from collections.abc import Sequence

import numpy as np
import torch

EPOCHS, BATCH, RATE = 40, 32, 1e-3


def make_model(side: int, classes: int) -> torch.nn.Sequential:
  """3x3 convolutions with 32 and 64 filters, each with ReLU and 2x2 max-pooling; a linear layer."""
  nn = torch.nn
  return nn.Sequential(
    nn.Conv2d(3, 32, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Dropout(0.5),
    nn.Linear(64 * (side // 4) ** 2, classes),
  )


def parameters(side: int = 28, classes: int = 3) -> int:
  """Trained values of the model."""
  return sum(value.numel() for value in make_model(side, classes).parameters())


def train_folds(
  images: np.ndarray,
  labels: np.ndarray,
  folds: Sequence[tuple[np.ndarray, np.ndarray]],
  *,
  seed: int,
  epochs: int = EPOCHS,
) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
  """Trains a network for each fold, with random flips that negate u.

  Args:
    images: uint8 [N, S, S, 3]: u, v, strain, zero motion at 127.5.
    labels: [N] classes.
    folds: (training positions, test positions) of each.
    seed: of initial weights, order and flips.
    epochs: passes over the training examples.

  Returns:
    probabilities [test, C] of each fold after the last epoch, and its predicted classes after every
    epoch.
  """
  x = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
  x[:, :2] -= 127.5 / 255
  y = torch.tensor(labels.astype(np.int64))
  probabilities, tried = [], []
  for number, (train, test) in enumerate(folds):
    torch.manual_seed(1000 * seed + number)
    model = make_model(x.shape[-1], int(y.max()) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    positions = torch.tensor(train)
    tried.append([])
    for _ in range(epochs):
      model.train()
      for batch in positions[torch.randperm(len(positions))].split(BATCH):
        drawn = x[batch]
        flip = torch.rand(len(batch)) < 0.5
        drawn[flip] = drawn[flip].flip(-1)
        drawn[flip, 0] *= -1
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(drawn), y[batch]).backward()
        optimizer.step()
      model.eval()
      with torch.no_grad():
        scores = model(x[test]).softmax(1).numpy()
      tried[-1].append(scores.argmax(1))
    probabilities.append(scores)
  return probabilities, tried
