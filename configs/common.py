"""All settings of a run with defaults, units and choices; recipes change the values.

`jax-me settings RECIPE` prints them. The configuration is locked: a misspelt key raises an error
with the nearest key. On the command line any key can be set as `--config.<key>=<value>`, for
example `--config.optimizer.weight_decay=0.1`.
"""

from ml_collections import ConfigDict

from jax_me.training.setting_declaration import Setting, default_config

SECTIONS = {
  "": "Run",
  "model": "Model",
  "data": "Data",
  "folds": "Training of several folds; does not change their results",
  "augment": "Random augmentation of training images, on the device",
  "eval": "Resize and crop of whole images in evaluation; aligned faces are only resized",
  "mixing": "Mixing of each training image with the previous one in the batch",
  "optimizer": "Optimiser and learning rate",
  "mae": "Pre-training",
  "mesh": "Devices",
}

SETTINGS = {
  "task": Setting(
    "classify",
    '"mae": masked-autoencoder pre-training without labels',
    choices=("classify", "mae"),
  ),
  "seed": Setting(0, "of initial weights, data order, augmentation, masks and dropout"),
  "batch_size": Setting(
    64,
    "global: images per step over all devices; a multiple of their number",
    unit="images",
    interval="(0, inf)",
  ),
  "epochs": Setting(30.0, "passes over the training examples", unit="epochs"),
  "steps": Setting(0, "optimiser steps; when > 0, instead of epochs", unit="steps"),
  "accum_steps": Setting(
    1,
    "gradient accumulation: microbatches per step; divides batch_size",
    interval="(0, inf)",
    free=True,
  ),
  "precision": Setting(
    "float32", "compute type; parameters stay float32", choices=("float32", "bfloat16")
  ),
  "remat": Setting(
    False, "recompute each block in the backward pass: less memory, about a third slower", free=True
  ),
  "scan_layers": Setting(
    False, "blocks as one loop: faster compilation, more memory; for deep models"
  ),
  "select": Setting(
    "final",
    'tested weights: "final" = of the last step; "train" = of the evaluation with the best UF1 on '
    "training subjects held out from training. Never selected by the score of test subjects",
    choices=("final", "train"),
  ),
  "select_holdout": Setting(
    0.2, 'with select="train": held-out fraction of each fold\'s training subjects, in (0, 1)'
  ),
  "final": Setting(
    "none",
    'model after the folds: "all" trains one on everybody, with their settings, in final/',
    choices=("none", "all"),
    free=True,
  ),
  "init_from": Setting(
    "",
    "initial weights: model folder, workdir, checkpoint file, or hf://OWNER/NAME; empty = random",
  ),
  "head_std": Setting(
    0.0, "with init_from: std of a new head's weights, e.g. 2e-5; 0 = that of the model"
  ),
  "freeze": Setting(
    "",
    '"backbone" trains only the head, on fixed features without dropout: linear probing; '
    '"token_and_norm" keeps the class token and the last norm',
    choices=("", "backbone", "token_and_norm"),
  ),
  "head_init": Setting(
    "",
    "with init_from: weights of a new head, if head_std is 0; empty = those of the model",
    choices=("", "xavier_uniform"),
  ),
  "label_smoothing": Setting(
    0.0, "fraction of the target distributed over all classes", interval="[0, 1)"
  ),
  "class_weights": Setting(
    (),
    'factor of each class in the loss, in the order of the labels, e.g. "(1.0, 0.5, 2.0)"; '
    '"balanced" = inversely proportional to the class frequencies; "conservative" = likewise, but '
    "at most 3 times that of the most frequent class; empty = 1",
    any_type=True,
  ),
  "affect_weight": Setting(
    0.0,
    "weight of the loss of valence and arousal (1 - CCC), two outputs beside the classes; 0 = none",
    interval="[0, inf)",
  ),
  "ema_decay": Setting(
    0.0,
    "moving average of the weights, e.g. 0.9999, used for evaluation; 0 = none",
    interval="[0, 1)",
  ),
  "trackers": Setting(
    ("tensorboard",),
    'any of "tensorboard", "wandb", "trackio"; metrics.jsonl is always written',
    free=True,
  ),
  "log_steps": Setting(
    10, "interval between rows of metrics.jsonl", unit="steps", interval="(0, inf)", free=True
  ),
  "evaluate_epochs": Setting(
    5.0,
    "interval between evaluations (pre-training: sheets of faces); 0 = at the end only",
    unit="epochs",
    free=True,
  ),
  "checkpoint_steps": Setting(
    200, "interval between checkpoints", unit="steps", interval="(0, inf)", free=True
  ),
  "checkpoint_dir": Setting(
    "", "location of checkpoints, e.g. gs://bucket/run; empty = the workdir"
  ),
  "keep_checkpoints": Setting(
    2, "number of newest checkpoints to keep", interval="[1, inf)", free=True
  ),
  "model.name": Setting("vit_tiny_patch16", "name of the model; `jax-me models` lists them"),
  "model.image_size": Setting(224, "side of the model's input", unit="pixels"),
  "model.arguments": Setting(
    {},
    "other keywords of the model's constructor, e.g. model.arguments.drop_path_rate=0.1; "
    "`jax-me models NAME` lists them",
  ),
  "data.name": Setting("demo_clips", "name of the dataset; `jax-me data list` lists them"),
  "data.manual_dir": Setting(
    "", "folder with your copy of the dataset, if it needs one", free=True
  ),
  "data.follow_links": Setting(
    False,
    "whether links in data.manual_dir that leave it are followed; else they are left out",
    free=True,
  ),
  "data.data_dir": Setting("data", "folder of built datasets", free=True),
  "data.options": Setting(
    {},
    "options of the dataset's builder, e.g. data.options.size=224; `jax-me data build NAME --help` "
    "lists them",
  ),
  "data.allow_rare_labels": Setting(
    False,
    "of your own images: keep a label that occurs once beside a similar one (hapy, happy)",
    free=True,
  ),
  "data.split": Setting(
    "holdout",
    'split into training and test: "kfold" and "holdout" by subject, "step" tests every nth '
    'subject, "loso" leaves one subject out, "lodo" one database, "official" uses the dataset\'s '
    'own splits, "none" trains on all examples',
    choices=("kfold", "step", "loso", "lodo", "holdout", "official", "none"),
  ),
  "data.train_splits": Setting(("train",), 'the dataset\'s own splits that "official" trains on'),
  "data.test_splits": Setting(
    (),
    'the splits that "official" tests; empty = the first of test, validation and val that exists '
    "and is not trained on",
  ),
  "data.folds": Setting(5, 'number of folds of "kfold" and "step"', unit="folds"),
  "data.holdout": Setting(0.25, 'fraction of the subjects that "holdout" tests, in (0, 1)'),
  "data.fold": Setting(-1, "index of the only fold to run, from 0; -1 = all folds", free=True),
  "data.read_size": Setting(
    0, "side of training images before cropping; 0 = model.image_size", unit="pixels"
  ),
  "data.balanced": Setting(False, "sample every class equally often, with repetition of rare ones"),
  "data.resident": Setting(
    "auto",
    'decoded images in device memory for the whole run; "auto": on for GPU and TPU, if all images '
    "fit, in a single process",
    choices=("auto", "on", "off"),
    free=True,
  ),
  "data.resident_mib": Setting(2048, "memory of each device for them", unit="MiB", free=True),
  "data.workers": Setting(0, "processes that decode images; 0 = in this process", free=True),
  "data.mean": Setting((), "per RGB channel, in [0, 1]; empty = measured on the training examples"),
  "data.std": Setting((), "likewise"),
  "data.std_of": Setting(
    "pixels",
    'measured data.std: of all "pixels", or the mean of the standard deviations of the "images"',
    choices=("pixels", "images"),
  ),
  "folds.parallel": Setting(
    "auto",
    'all folds in one program: "vmap" = in parallel, "map" = one after the other, bit-identical to '
    'single runs; "off" = single runs. "auto": vmap on GPU and TPU, map on CPU, off if the images '
    "do not fit into device memory (data.resident_mib), with several processes, and with mesh.fsdp",
    choices=("auto", "vmap", "map", "off"),
    free=True,
  ),
  "folds.chunk": Setting(
    0,
    "maximum number of folds in one program; 0 = as many as fit into memory, and with "
    'folds.parallel="map" as many as have a checkpoint of at most 256 MiB',
    unit="folds",
    interval="[0, inf)",
    free=True,
  ),
  "folds.checkpoints": Setting(
    "auto",
    "keep the last checkpoint of every finished fold, with the optimiser state, from which more "
    'epochs extend the run: "on", "off", or "auto": if those of all folds take at most 256 MiB',
    choices=("auto", "on", "off"),
    free=True,
  ),
  "folds.weights": Setting(
    True,
    "save the tested weights of every fold as a model folder, for jax_me.load and --mode=eval. "
    "Otherwise folds of one program have only predictions; 68 folds of a ViT-Base take 23 GB",
    free=True,
  ),
  "augment.crop_scale": Setting(
    (1.0, 1.0), "area of the random crop as a fraction of the image: least, most"
  ),
  "augment.crop_ratio": Setting((1.0, 1.0), "width / height of the crop: least, most"),
  "augment.crop_source": Setting(
    "read",
    'image that the random crop is drawn from: "read" = resized to data.read_size, on the device; '
    '"stored" = with the resolution and aspect ratio of the dataset, while images are decoded',
    choices=("read", "stored"),
  ),
  "augment.crop_interpolation": Setting(
    "bicubic",
    'of the crop\'s resize; with crop_source "stored" also "random": bilinear or bicubic',
    choices=("bicubic", "random"),
  ),
  "augment.flip": Setting(0.0, "probability of a horizontal flip"),
  "augment.rand_augment": Setting(
    "",
    'RandAugment of timm (arXiv:1909.13719), e.g. "rand-m9-mstd0.5-inc1": two of 15 operations, '
    "each with probability 0.5, after crop and flip; empty = none",
  ),
  "augment.rand_interpolation": Setting(
    "bicubic",
    'of the geometric operations of RandAugment; "random" = bilinear or bicubic',
    choices=("bicubic", "random"),
  ),
  "augment.jitter_prob": Setting(1.0, "probability of all colour and affine changes together"),
  "augment.brightness": Setting(0.0, "maximum change of the factor, in [0, 1]"),
  "augment.contrast": Setting(0.0, "likewise"),
  "augment.saturation": Setting(0.0, "likewise"),
  "augment.hue": Setting(0.0, "maximum hue shift, in [0, 0.5] of the colour circle"),
  "augment.rotation": Setting(0.0, "maximum rotation in both directions", unit="degrees"),
  "augment.translate": Setting(0.0, "maximum shift in each direction, as a fraction of the side"),
  "augment.zoom": Setting((1.0, 1.0), "scale factor about the centre: least, most"),
  "augment.fill": Setting(0.0, "value in [0, 1] of pixels outside the image; 0 = black"),
  "augment.erase_prob": Setting(0.0, "probability of erasing a random box, after normalisation"),
  "augment.erase_area": Setting(
    (0.02, 1 / 3), "area of the box as a fraction of the image: least, most"
  ),
  "augment.erase_ratio": Setting((0.3, 1 / 0.3), "height / width of the box: least, most"),
  "augment.erase_mode": Setting(
    "pixel",
    'fill of the box: "pixel" = normal noise, "colour" = one random colour per box, "zero" = the '
    'mean colour, "red" = one random level of red per box, without green and blue',
  ),
  "augment.cutout": Setting(
    0.0, "side of a square hole as a fraction of the image's side; 0 = none"
  ),
  "augment.flow": Setting(False, "images are optical flow (u, v, strain), not RGB"),
  "eval.resize": Setting(
    "stretch",
    '"stretch" to the model\'s input, or "shortest_edge", which keeps the aspect ratio, before the '
    "central crop",
    choices=("stretch", "shortest_edge"),
  ),
  "eval.crop": Setting(
    1.0,
    'of "shortest_edge": side of the central crop, which is the model\'s input, as a fraction of '
    "the resized shorter side; 0.875 resizes to 256 pixels for an input of 224",
    interval="(0, 1]",
  ),
  "eval.interpolation": Setting(
    "area",
    'of the resize: "bilinear" and "bicubic" are Pillow\'s, with antialiasing; "area" stretches '
    "like training images (area average, bilinear near the same size)",
    choices=("area", "bilinear", "bicubic"),
  ),
  "mixing.mixup_alpha": Setting(0.0, "of mixup's Beta distribution, e.g. 0.8; 0 = no mixup"),
  "mixing.cutmix_alpha": Setting(0.0, "of cutmix's, e.g. 1.0; 0 = no cutmix"),
  "mixing.mode": Setting(
    "image",
    'ratio, box and choice of mixup or cutmix are drawn for each "image", or once for the "batch" '
    "of a forward pass (timm's default)",
    choices=("image", "batch"),
  ),
  "mixing.prob": Setting(1.0, "probability that an image, or the batch, is mixed"),
  "mixing.switch_prob": Setting(0.5, "probability of cutmix instead of mixup, if both are on"),
  "optimizer.name": Setting("adamw", "optimiser", choices=("adamw", "adam", "sgd")),
  "optimizer.learning_rate": Setting(
    0.0, "peak, absolute. Set either this or optimizer.base_learning_rate"
  ),
  "optimizer.base_learning_rate": Setting(1e-3, "peak for 256 images; scaled by batch_size / 256"),
  "optimizer.schedule": Setting(
    "cosine", "learning rate after the warm-up", choices=("cosine", "step", "constant")
  ),
  "optimizer.min_learning_rate": Setting(0.0, "at the end of the cosine"),
  "optimizer.cosine_epochs": Setting(
    0.0, "epoch at which the cosine ends; 0 = at the end of the run", unit="epochs"
  ),
  "optimizer.cosine_start": Setting(
    "warmup",
    'start of the cosine: "warmup" = at the end of the warm-up, "run" = at step 0, so that it has '
    "decreased when the warm-up ends (timm)",
    choices=("warmup", "run"),
  ),
  "optimizer.interval": Setting(
    "step",
    'the learning rate changes at every "step", or at the start of every "epoch"',
    choices=("step", "epoch"),
  ),
  "optimizer.milestones": Setting(
    (), 'of "step": epochs at which the rate is multiplied by optimizer.gamma', unit="epochs"
  ),
  "optimizer.gamma": Setting(0.1, 'of "step": factor of the learning rate at a milestone'),
  "optimizer.warmup_epochs": Setting(5.0, "linear warm-up", unit="epochs", interval="[0, inf)"),
  "optimizer.warmup_learning_rate": Setting(0.0, "at the start of the warm-up"),
  "optimizer.weight_decay": Setting(
    0.05, "decay of the weights, not of biases; decoupled in adamw, else added to the gradient"
  ),
  "optimizer.decay_all": Setting(
    False, "weight decay also of biases, norms, tokens and tables, as torch's optimisers do"
  ),
  "optimizer.b1": Setting(0.9, "of AdamW and Adam: decay of the mean gradient"),
  "optimizer.b2": Setting(0.999, "of AdamW and Adam: decay of the mean squared gradient"),
  "optimizer.eps": Setting(1e-8, "of AdamW and Adam: added to the denominator"),
  "optimizer.momentum": Setting(0.9, "of SGD"),
  "optimizer.clip_norm": Setting(0.0, "maximum global gradient norm; 0 = no clipping"),
  "optimizer.layer_decay": Setting(
    1.0, "learning-rate factor from a layer to the previous one; 1 = off"
  ),
  "optimizer.layer_decay_type": Setting(
    "vit",
    '"vit" also for T2T-ViT; "single" and "group" for ConvNeXt V2; "backbone" = one factor for all '
    "layers but the head",
    choices=("vit", "single", "group", "backbone"),
  ),
  "optimizer.scale_minimum": Setting(
    True,
    "layers with a lower peak also have a lower minimum; False: all have the same, as in torch's "
    "CosineAnnealingLR",
  ),
  "mae.mask_ratio": Setting(0.75, "fraction of patches removed in pre-training", interval="(0, 1)"),
  "mesh.fsdp": Setting(1, "devices over which parameters are split; divides their number"),
  "mesh.split_update": Setting(
    1,
    "devices over which the optimiser's state and the update of the parameters are split; "
    "parameters stay whole. Divides the number of devices; without mesh.fsdp",
    interval="[1, inf)",
  ),
  "mesh.gradient_sum": Setting(
    "precision",
    'gradients are summed over the devices in the type of "precision", or in "float32" after each '
    "device has computed its loss, batch statistics and mixing by itself, as torch's "
    "DistributedDataParallel does",
    choices=("precision", "float32"),
  ),
}


def common() -> ConfigDict:
  """Default settings of all recipes: training of a small ViT on the demo clips."""
  return default_config(SETTINGS)
