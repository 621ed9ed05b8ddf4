"""Local HTTP servers: files with ranges, ETags and broken connections; a hub of models."""

import contextlib
import dataclasses
import hashlib
import http.server
import pathlib
import threading
from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclasses.dataclass
class ServedFile:
  """A file on a server.

  Attributes:
    content: its bytes.
    etag, modified: headers; "" leaves them out.
    ranges: whether a part of it can be requested.
    cuts: after how many bytes each of the next responses closes the connection.
    status: of every response, in place of 200 and 206.
    headers: further ones.
  """

  content: bytes
  etag: str = '"1"'
  modified: str = ""
  ranges: bool = True
  cuts: list[int] = dataclasses.field(default_factory=list)
  status: int = 0
  headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class FileServer:
  """A running server.

  Attributes:
    files: {path: file}; may be changed at any time.
    requests: (method, path, range) of every request.
    missing: headers of the responses for other paths.
    address: "http://127.0.0.1:PORT".
  """

  files: dict[str, ServedFile] = dataclasses.field(default_factory=dict)
  requests: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
  missing: dict[str, str] = dataclasses.field(default_factory=dict)
  address: str = ""


class _Handler(http.server.BaseHTTPRequestHandler):
  server_files: FileServer

  def do_GET(self):  # noqa: N802
    self._answer(body=True)

  def do_HEAD(self):  # noqa: N802
    self._answer(body=False)

  def log_message(self, *arguments):
    pass

  def _answer(self, body: bool):
    served, wanted = self.server_files, self.headers.get("Range", "")
    served.requests.append((self.command, self.path, wanted))
    file = served.files.get(self.path)
    if file is None or file.status:
      self.send_response(404 if file is None else file.status)
      for name, value in (served.missing if file is None else file.headers).items():
        self.send_header(name, value)
      self.send_header("Content-Length", "0")
      self.end_headers()
      return
    start, size = 0, len(file.content)
    if wanted and file.ranges:
      start = int(wanted.removeprefix("bytes=").partition("-")[0])
      if start >= size:
        self.send_response(416)
        self.end_headers()
        return
      self.send_response(206)
      self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
    else:
      self.send_response(200)
    headers = {"ETag": file.etag, "Last-Modified": file.modified, **file.headers}
    for name, value in headers.items():
      if value:
        self.send_header(name, value)
    self.send_header("Content-Length", str(size - start))
    self.end_headers()
    if body:
      end = start + file.cuts.pop(0) if file.cuts else size
      self.wfile.write(file.content[start:end])


class _Server(http.server.ThreadingHTTPServer):
  def handle_error(self, request, client_address):
    """A client that hangs up is no error."""


@contextlib.contextmanager
def file_server(**files: ServedFile) -> Iterator[FileServer]:
  """Serves files on a free port of this computer: file_server(name=ServedFile(...))."""
  served = FileServer({f"/{name}": file for name, file in files.items()})
  handler = type("Handler", (_Handler,), {"server_files": served})
  server = _Server(("127.0.0.1", 0), handler)
  served.address = f"http://127.0.0.1:{server.server_address[1]}"
  thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
  thread.start()
  try:
    yield served
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


def serve_on_hub(
  served: FileServer,
  repository: str,
  files: dict[str, bytes],
  commit: str = COMMIT,
  branch: str = "main",
) -> None:
  """Puts a commit of a repository on a server, in the layout of the Hugging Face hub.

  Args:
    served: the server.
    repository: "OWNER/NAME".
    files: {name: content}.
    commit: 40 hexadecimal digits.
    branch: points to the commit.
  """
  served.missing = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
  for revision in (branch, commit):
    for name, content in files.items():
      # Large files have their SHA-256 as ETag, all others a git hash.
      git = hashlib.sha1(content).hexdigest()
      large = name.endswith((".safetensors", ".bin"))
      etag = hashlib.sha256(content).hexdigest() if large else git
      headers = {"X-Repo-Commit": commit}
      served.files[f"/{repository}/resolve/{revision}/{name}"] = ServedFile(
        content, etag=f'"{etag}"', headers=headers
      )


def serve_folder(served: FileServer, repository: str, folder: pathlib.Path) -> None:
  """Puts the files of a folder on a hub, as the newest commit of a repository."""
  serve_on_hub(served, repository, {path.name: path.read_bytes() for path in folder.iterdir()})
