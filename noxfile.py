"""Development sessions: `nox -s test`, `test-quick`, `faults`, `lint`, `bench`, `docs`, `build`.

The sessions run in the active environment, prepared with `pip install -r requirements.txt`, and
install nothing, except `docs` and `build`, which have environments of their own. Arguments after
`--` are passed on.
"""

import pathlib
import shutil
import sys

import nox

BENCHMARKS = pathlib.Path(__file__).parent / "benchmarks"

nox.options.sessions = ["lint", "test-quick"]


@nox.session(venv_backend="none")
def test(session: nox.Session) -> None:
  """All tests, or those given: `nox -s test -- tests/models`."""
  session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(name="test-quick", venv_backend="none")
def test_quick(session: nox.Session) -> None:
  """Tests without the marker `slow`."""
  session.run("pytest", "-n", "auto", "-m", "not slow", *session.posargs)


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
  """The whole fault suite, with its table; without this session a tenth of it is tried."""
  session.run("pytest", "-n", "0", "tests/faults", *session.posargs, env={"JAX_ME_FAULTS": "1"})


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
  """Lint, format and types, without changing any file."""
  session.run("ruff", "check", ".")
  session.run("ruff", "format", "--check", ".")
  session.run("mypy")


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
  """One benchmark with its arguments: `nox -s bench -- depthwise --batch 4`."""
  helpers = ("recipe_runs", "__main__")  # The second is `python -m benchmarks`.
  names = sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem not in helpers)
  if not session.posargs or session.posargs[0] not in names:
    session.error(f"name a benchmark: {', '.join(names)}")
  name, *arguments = session.posargs
  session.run("python", str(BENCHMARKS / f"{name}.py"), *arguments)


@nox.session
def docs(session: nox.Session) -> None:
  """The documentation as a site in build/site; broken links are errors."""
  session.install("-r", "requirements-docs.txt")
  session.run("mkdocs", "build", "--strict")


@nox.session
def build(session: nox.Session) -> None:
  """Source distribution and wheel in dist/, and `jax-me doctor` with only this wheel installed."""
  session.install("build", "twine")
  shutil.rmtree("dist", ignore_errors=True)
  session.run("python", "-m", "build")
  files = sorted(pathlib.Path("dist").iterdir())
  session.run("twine", "check", "--strict", *map(str, files))
  empty = pathlib.Path(session.create_tmp()).resolve() / "empty"
  session.run("python", "-m", "venv", "--clear", str(empty))
  scripts = empty / ("Scripts" if sys.platform == "win32" else "bin")
  (wheel,) = (str(file.resolve()) for file in files if file.suffix == ".whl")
  session.run(str(scripts / "pip"), "install", "--quiet", wheel, external=True)
  with session.chdir(session.create_tmp()):  # So that the checkout is not imported.
    session.run(str(scripts / "jax-me"), "doctor", external=True)
