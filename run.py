"""Training and evaluation with a recipe: `python run.py --config configs/quickstart.py`.

The same as `jax-me train`; the flags are described in `jax_me/experiment/cli.py`.
"""

import sys

from jax_me.command_errors import install_interrupts

if __name__ == "__main__":
  install_interrupts()
  from jax_me.experiment import cli

  cli.main(sys.argv)
