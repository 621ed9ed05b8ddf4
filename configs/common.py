"""Every setting of a run, with its unit and meaning. Recipes start from here and change values.

The result is locked: a misspelt key fails at once and names the nearest one. On the command line
any key can be set as `--config.<key>=<value>`, for example `--config.optimizer.weight_decay=0.1`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference


def common() -> ConfigDict:
  """Defaults that every recipe starts from: fine-tuning a small ViT on the demo clips."""
  c = ConfigDict()

  c.task = "classify"  # "classify", or "mae": masked-autoencoder pre-training, labels unused.
  c.seed = 0  # Of the initial weights, the order of the data, augmentation, masks and dropout.
  c.batch_size = 64  # Global: images a step over all devices. A multiple of their number.
  c.epochs = 30.0  # Passes over the training examples.
  c.steps = 0  # Optimiser steps; when > 0, instead of epochs.
  c.accum_steps = 1  # Parts in which a batch goes through the device; divides batch_size.
  c.precision = "float32"  # Compute type, "float32" or "bfloat16"; parameters stay float32.
  c.remat = False  # Recompute each block in the backward pass: less memory, about a third slower.
  c.scan_layers = False  # Blocks as one loop: a smaller program, more memory; for deep models.
  # Weights that are tested: "final" = of the last step; "train" = of the evaluation with the best
  # UF1 on some training subjects, who are kept from training. Never chosen by test subjects.
  c.select = "final"
  c.select_holdout = 0.2  # Of "train": share of each fold's training subjects kept for selection.
  c.init_from = ""  # Folder of a converted checkpoint or a workdir whose weights to start from.
  c.head_std = (
    0.0  # With init_from: deviation of a fresh head's weights, e.g. 2e-5; 0 = the model's.
  )
  c.label_smoothing = 0.0  # In [0, 1): share of the target spread over all classes.
  # Factor of each class in the loss, in the order of the labels; "balanced" = rarer classes count
  # more, so that all count alike; empty = 1. The command line takes a tuple: "(1.0, 0.5, 2.0)".
  c.class_weights = FieldReference((), field_type=object)
  c.ema_decay = 0.0  # Moving average of the weights, e.g. 0.9999, used for evaluation; 0 = none.

  c.model = ConfigDict()
  c.model.name = "vit_tiny_patch16"  # One of jax_me.models.MODELS.
  c.model.image_size = 224  # Side of the model's input, pixels.
  c.model.arguments = ConfigDict()  # Other constructor keywords, e.g. {"drop_path_rate": 0.1}.

  c.data = ConfigDict()
  c.data.name = "demo_clips"  # One of jax_me.datasets.catalog.BUILDERS.
  c.data.manual_dir = ""  # Folder with your own copy of the dataset, where it needs one.
  c.data.data_dir = "data"  # Where built datasets are kept.
  c.data.options = ConfigDict()  # Options of the dataset's builder, e.g. {"size": 224}.
  # How examples are divided: "kfold" and "holdout" by subject, "step" tests every nth subject,
  # "loso" leaves one subject out, "lodo" one database, "official" uses the dataset's own splits,
  # "none" trains on everything.
  c.data.split = "holdout"
  c.data.train_splits = ("train",)  # The dataset's own splits that "official" trains on.
  c.data.folds = 5  # Number of folds of "kfold" and "step".
  c.data.holdout = 0.25  # Share of the subjects that "holdout" keeps for the test.
  c.data.fold = -1  # Number of the one fold to run, from 0; -1 = all of them.
  c.data.read_size = 0  # Side at which training reads images, pixels; 0 = model.image_size.
  c.data.balanced = False  # Draw every class equally often, rare ones again within an epoch.
  # Decoded images on the devices for the whole run: "on", "off", or "auto": on GPU and TPU, where
  # all of them fit, in one process.
  c.data.resident = "auto"
  c.data.resident_mib = 2048  # Memory of each device that they may take.
  c.data.workers = 0  # Processes that decode images; 0 = in this process.
  c.data.mean = ()  # Per RGB channel in [0, 1]; empty = measured on the training examples.
  c.data.std = ()  # Likewise.

  c.folds = ConfigDict()  # How the folds of a division are trained; what they compute stays.
  # All folds in one program: "vmap" = side by side, "map" = one after the other, with the bits of a
  # fold alone; "off" = a run each. "auto": vmap on GPU and TPU, map on a CPU, off where the images
  # do not fit on the device (data.resident_mib), with several processes, and with mesh.fsdp.
  c.folds.parallel = "auto"
  c.folds.chunk = 0  # Folds in one program; 0 = as many as fit into memory.
  # Keep the final weights of every fold trained so, for jax_me.load and --mode=eval. Without them
  # only predictions stay: 68 folds of a ViT-Base would take 23 GB.
  c.folds.weights = True

  c.augment = ConfigDict()  # Random changes of training images, made on the device.
  c.augment.crop_scale = (1.0, 1.0)  # Area of the random crop as a share of the image.
  c.augment.crop_ratio = (1.0, 1.0)  # Width / height of the crop.
  c.augment.flip = 0.0  # Probability of mirroring left-right.
  c.augment.jitter_prob = 1.0  # Probability of all colour and affine changes (else none of them).
  c.augment.brightness = 0.0  # Largest change of the factor, in [0, 1].
  c.augment.contrast = 0.0  # Likewise.
  c.augment.saturation = 0.0  # Likewise.
  c.augment.hue = 0.0  # Largest turn of the hue, in [0, 0.5] of the colour circle.
  c.augment.rotation = 0.0  # Largest turn either way, degrees.
  c.augment.translate = 0.0  # Largest shift in each direction, as a share of the side.
  c.augment.zoom = (1.0, 1.0)  # Factor of the size about the centre.
  c.augment.fill = 0.0  # Value in [0, 1] of what rotation, shift and zoom bring in; 0 = black.
  c.augment.erase_prob = 0.0  # Probability of erasing a random box, after normalisation.
  c.augment.erase_area = (0.02, 1 / 3)  # Area of the box as a share of the image.
  c.augment.erase_ratio = (0.3, 1 / 0.3)  # Height / width of the box.
  # Fill: "pixel" (normal noise), "colour" (one random colour a box) or "zero" (the mean colour).
  c.augment.erase_mode = "pixel"
  c.augment.cutout = 0.0  # Side of a square hole as a share of the image's side; 0 = none.
  c.augment.flow = False  # Images are optical flow (u, v, strain), not RGB.

  c.mixing = ConfigDict()  # Each training image with the one before it in the batch.
  c.mixing.mixup_alpha = 0.0  # Of mixup's Beta distribution, e.g. 0.8; 0 = no mixup.
  c.mixing.cutmix_alpha = 0.0  # Of cutmix's, e.g. 1.0; 0 = no cutmix.
  c.mixing.prob = 1.0  # Probability that an image is mixed.
  c.mixing.switch_prob = 0.5  # Probability of cutmix rather than mixup, where both are on.

  c.optimizer = ConfigDict()
  c.optimizer.name = "adamw"  # "adamw", "adam" or "sgd".
  c.optimizer.learning_rate = 0.0  # Peak, absolute. Set this one or base_learning_rate.
  c.optimizer.base_learning_rate = 1e-3  # Peak for 256 images; scaled by batch_size / 256.
  c.optimizer.schedule = "cosine"  # After the warm-up: "cosine", "step" or "constant".
  c.optimizer.min_learning_rate = 0.0  # At the end of the cosine.
  c.optimizer.cosine_epochs = 0.0  # Epoch at which the cosine ends; 0 = at the end of the run.
  c.optimizer.milestones = ()  # Of "step": epochs at which the rate is multiplied by gamma.
  c.optimizer.gamma = 0.1
  c.optimizer.warmup_epochs = 5.0  # Linear growth from 0; at most a quarter of the run.
  c.optimizer.weight_decay = 0.05
  c.optimizer.b1 = 0.9
  c.optimizer.b2 = 0.999
  c.optimizer.eps = 1e-8
  c.optimizer.momentum = 0.9  # Of "sgd".
  c.optimizer.clip_norm = 0.0  # Largest global gradient norm; 0 = no clipping.
  c.optimizer.layer_decay = 1.0  # Learning-rate factor from a layer to the one before; 1 = off.
  c.optimizer.layer_decay_type = "vit"  # "vit"; "single", "group" (ConvNeXt V2); "backbone".

  c.mae = ConfigDict()
  c.mae.mask_ratio = 0.75  # Share of patches removed in pre-training.

  c.trackers = ("tensorboard",)  # Also "wandb", "trackio"; metrics.jsonl is always written.
  c.log_steps = 10  # Steps between rows of metrics.jsonl.
  c.evaluate_epochs = (
    5.0  # Epochs between evaluations (pre-training: sheets of faces); 0 = at the end.
  )
  c.checkpoint_steps = 200  # Steps between checkpoints.
  c.checkpoint_dir = ""  # Where checkpoints lie, e.g. gs://bucket/run; empty = in the workdir.
  c.keep_checkpoints = 2  # The newest ones that stay on disk.

  c.mesh = ConfigDict()
  c.mesh.fsdp = 1  # Devices over which parameters are split; divides their number.

  return c.lock()
