"""Makes the shared helpers beside this folder importable (golden_cases, trajectory)."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
