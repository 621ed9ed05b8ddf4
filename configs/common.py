"""All settings of a run with units and defaults; recipes change the values.

The result is locked: a misspelt key raises an error with the nearest key. On the command line any
key can be set as `--config.<key>=<value>`, for example `--config.optimizer.weight_decay=0.1`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference


def common() -> ConfigDict:
  """Default settings of all recipes: training of a small ViT on the demo clips."""
  c = ConfigDict()

  c.task = "classify"  # "classify", or "mae": masked-autoencoder pre-training without labels.
  c.seed = 0  # Of initial weights, data order, augmentation, masks and dropout.
  c.batch_size = 64  # Global: images per step over all devices; a multiple of their number.
  c.epochs = 30.0  # Passes over the training examples.
  c.steps = 0  # Optimiser steps; when > 0, instead of epochs.
  c.accum_steps = 1  # Gradient accumulation: microbatches per step; divides batch_size.
  c.precision = "float32"  # Compute type, "float32" or "bfloat16"; parameters stay float32.
  c.remat = False  # Recompute each block in the backward pass: less memory, about a third slower.
  c.scan_layers = False  # Blocks as one loop: faster compilation, more memory; for deep models.
  # Tested weights: "final" = of the last step; "train" = of the evaluation with the best UF1 on
  # training subjects held out from training. Never selected by the score of test subjects.
  c.select = "final"
  c.select_holdout = 0.2  # Of "train": held-out fraction of each fold's training subjects.
  c.init_from = ""  # Initial weights: model folder, workdir, checkpoint file, or hf://OWNER/NAME.
  c.head_std = 0.0  # With init_from: std of a new head's weights, e.g. 2e-5; 0 = that of the model.
  c.label_smoothing = 0.0  # In [0, 1): fraction of the target distributed over all classes.
  # Factor of each class in the loss, in the order of the labels; "balanced" = inversely
  # proportional to the class frequencies; empty = 1. On the command line: "(1.0, 0.5, 2.0)".
  c.class_weights = FieldReference((), field_type=object)
  c.ema_decay = 0.0  # Moving average of the weights, e.g. 0.9999, used for evaluation; 0 = none.

  c.model = ConfigDict()
  c.model.name = "vit_tiny_patch16"  # One of jax_me.models.MODELS.
  c.model.image_size = 224  # Side of the model's input, pixels.
  c.model.arguments = ConfigDict()  # Other constructor keywords, e.g. {"drop_path_rate": 0.1}.

  c.data = ConfigDict()
  c.data.name = "demo_clips"  # One of jax_me.datasets.catalog.BUILDERS.
  c.data.manual_dir = ""  # Folder with your copy of the dataset, if it needs one.
  c.data.data_dir = "data"  # Folder of built datasets.
  c.data.options = ConfigDict()  # Options of the dataset's builder, e.g. {"size": 224}.
  # Split into training and test: "kfold" and "holdout" by subject, "step" tests every nth subject,
  # "loso" leaves one subject out, "lodo" one database, "official" uses the dataset's own splits,
  # "none" trains on all examples.
  c.data.split = "holdout"
  c.data.train_splits = ("train",)  # The dataset's own splits that "official" trains on.
  # The splits that "official" tests; empty = the first existing of "test", "validation" and "val".
  c.data.test_splits = ()
  c.data.folds = 5  # Number of folds of "kfold" and "step".
  c.data.holdout = 0.25  # Fraction of the subjects that "holdout" tests.
  c.data.fold = -1  # Index of the only fold to run, from 0; -1 = all folds.
  c.data.read_size = 0  # Side of training images before cropping, pixels; 0 = model.image_size.
  c.data.balanced = False  # Sample every class equally often, with repetition of rare ones.
  # Decoded images in device memory for the whole run: "on", "off", or "auto": on for GPU and TPU,
  # if all images fit, in a single process.
  c.data.resident = "auto"
  c.data.resident_mib = 2048  # Memory of each device for them, MiB.
  c.data.workers = 0  # Processes that decode images; 0 = in this process.
  c.data.mean = ()  # Per RGB channel in [0, 1]; empty = measured on the training examples.
  c.data.std = ()  # Likewise.

  c.folds = ConfigDict()  # Training of several folds; does not change their results.
  # All folds in one program: "vmap" = in parallel, "map" = one after the other, bit-identical to
  # single runs; "off" = single runs. "auto": vmap on GPU and TPU, map on CPU, off if the images do
  # not fit into device memory (data.resident_mib), with several processes, and with mesh.fsdp.
  c.folds.parallel = "auto"
  c.folds.chunk = 0  # Maximum number of folds in one program; 0 = as many as fit into memory.
  # Save the tested weights of every fold as a model folder, for jax_me.load and --mode=eval.
  # Otherwise folds of one program have only predictions; 68 folds of a ViT-Base take 23 GB.
  c.folds.weights = True

  c.augment = ConfigDict()  # Random augmentation of training images, on the device.
  c.augment.crop_scale = (1.0, 1.0)  # Area of the random crop as a fraction of the image.
  c.augment.crop_ratio = (1.0, 1.0)  # Width / height of the crop.
  c.augment.flip = 0.0  # Probability of a horizontal flip.
  c.augment.jitter_prob = 1.0  # Probability of all colour and affine changes together.
  c.augment.brightness = 0.0  # Maximum change of the factor, in [0, 1].
  c.augment.contrast = 0.0  # Likewise.
  c.augment.saturation = 0.0  # Likewise.
  c.augment.hue = 0.0  # Maximum hue shift, in [0, 0.5] of the colour circle.
  c.augment.rotation = 0.0  # Maximum rotation in both directions, degrees.
  c.augment.translate = 0.0  # Maximum shift in each direction, as a fraction of the side.
  c.augment.zoom = (1.0, 1.0)  # Scale factor about the centre.
  c.augment.fill = 0.0  # Value in [0, 1] of pixels outside the image; 0 = black.
  c.augment.erase_prob = 0.0  # Probability of erasing a random box, after normalisation.
  c.augment.erase_area = (0.02, 1 / 3)  # Area of the box as a fraction of the image.
  c.augment.erase_ratio = (0.3, 1 / 0.3)  # Height / width of the box.
  # Fill: "pixel" (normal noise), "colour" (one random colour per box) or "zero" (the mean colour).
  c.augment.erase_mode = "pixel"
  c.augment.cutout = 0.0  # Side of a square hole as a fraction of the image's side; 0 = none.
  c.augment.flow = False  # Images are optical flow (u, v, strain), not RGB.

  c.mixing = ConfigDict()  # Of each training image with the previous one in the batch.
  c.mixing.mixup_alpha = 0.0  # Of mixup's Beta distribution, e.g. 0.8; 0 = no mixup.
  c.mixing.cutmix_alpha = 0.0  # Of cutmix's, e.g. 1.0; 0 = no cutmix.
  c.mixing.prob = 1.0  # Probability that an image is mixed.
  c.mixing.switch_prob = 0.5  # Probability of cutmix instead of mixup, if both are on.

  c.optimizer = ConfigDict()
  c.optimizer.name = "adamw"  # "adamw", "adam" or "sgd".
  c.optimizer.learning_rate = 0.0  # Peak, absolute. Set either this or base_learning_rate.
  c.optimizer.base_learning_rate = 1e-3  # Peak for 256 images; scaled by batch_size / 256.
  c.optimizer.schedule = "cosine"  # After the warm-up: "cosine", "step" or "constant".
  c.optimizer.min_learning_rate = 0.0  # At the end of the cosine.
  c.optimizer.cosine_epochs = 0.0  # Epoch at which the cosine ends; 0 = at the end of the run.
  c.optimizer.milestones = ()  # Of "step": epochs at which the rate is multiplied by gamma.
  c.optimizer.gamma = 0.1
  c.optimizer.warmup_epochs = 5.0  # Linear warm-up from 0; at most a quarter of the run.
  c.optimizer.weight_decay = 0.05
  c.optimizer.b1 = 0.9
  c.optimizer.b2 = 0.999
  c.optimizer.eps = 1e-8
  c.optimizer.momentum = 0.9  # Of "sgd".
  c.optimizer.clip_norm = 0.0  # Maximum global gradient norm; 0 = no clipping.
  c.optimizer.layer_decay = 1.0  # Learning-rate factor from a layer to the previous one; 1 = off.
  c.optimizer.layer_decay_type = "vit"  # "vit"; "single", "group" (ConvNeXt V2); "backbone".

  c.mae = ConfigDict()
  c.mae.mask_ratio = 0.75  # Fraction of patches removed in pre-training.

  c.trackers = ("tensorboard",)  # Also "wandb", "trackio"; metrics.jsonl is always written.
  c.log_steps = 10  # Steps between rows of metrics.jsonl.
  c.evaluate_epochs = (
    5.0  # Epochs between evaluations (pre-training: sheets of faces); 0 = at the end.
  )
  c.checkpoint_steps = 200  # Steps between checkpoints.
  c.checkpoint_dir = ""  # Location of checkpoints, e.g. gs://bucket/run; empty = workdir.
  c.keep_checkpoints = 2  # Number of newest checkpoints to keep.

  c.mesh = ConfigDict()
  c.mesh.fsdp = 1  # Devices over which parameters are split; divides their number.

  return c.lock()
