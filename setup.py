"""Puts `configs/` and `convert/` into the wheel as `jax_me.configs` and `jax_me.convert`.

A wheel must not claim top-level names as common as these; the repository keeps its two folders.
"""

from setuptools import find_packages, setup

setup(
  packages=[
    *find_packages(include=["jax_me", "jax_me.*"]),
    "jax_me.configs",
    "jax_me.convert",
    "jax_me.expression_model",  # Files only.
  ],
  package_dir={"jax_me.configs": "configs", "jax_me.convert": "convert"},
)
