"""Training and evaluation with a recipe: `python run.py --config configs/quickstart.py`.

The same as `jax-me train`; the flags are described in `jax_me/experiment/cli.py`.
"""

import sys

from jax_me.command_errors import install_interrupts
from jax_me.freed_memory import use_one_heap

if __name__ == "__main__":
  install_interrupts()
  use_one_heap()
  from jax_me.experiment import cli

  cli.main(sys.argv)
