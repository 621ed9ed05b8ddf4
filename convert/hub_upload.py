"""Upload of a model folder to the Hugging Face hub."""

import os
import types

from .errors import FailedUpload
from .hub_download import first_line, import_hub

MESSAGE = "Upload of a model of jax_me"
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def upload_folder(
  folder: str | os.PathLike, repository: str, *, private: bool = True, token: str | None = None
) -> str:
  """Uploads the files of a folder as one commit.

  Args:
    folder: with a finished model folder and its card.
    repository: "OWNER/NAME"; created if it does not exist.
    private: whether a new repository is private.
    token: of the hub; None takes the stored one.

  Returns:
    the address of the repository.

  Raises:
    FailedUpload: no permission, no network, or huggingface_hub is not installed.
  """
  hub = import_hub()
  try:
    api = hub.HfApi(token=token, library_name="jax_me")
    address = api.create_repo(repository, private=private, exist_ok=True)
    api.upload_folder(repo_id=repository, folder_path=os.fspath(folder), commit_message=MESSAGE)
  except Exception as error:  # many types, of huggingface_hub and of its HTTP library
    raise FailedUpload(_reason(hub, error, repository)) from error
  return str(address)


def _reason(hub: types.ModuleType, error: Exception, repository: str) -> str:
  errors = hub.errors
  page = f"{hub.constants.ENDPOINT}/{repository}"
  status = getattr(getattr(error, "response", None), "status_code", None)
  if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
    return f"{page} needs a login: {_LOGIN}"
  if status == 403:
    return f"this account may not write to {page}: {_LOGIN}"
  return f"{page} cannot be written ({type(error).__name__}: {first_line(error)})"
