"""Download of an image or a video from a web address into memory, with limits."""

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request

MAX_BYTES = 200 * 2**20
# Seconds without data, and for the whole download.
STALL_SECONDS = 10.0
TOTAL_SECONDS = 60.0
SCHEMES = ("http", "https")
_CHUNK = 2**16


class DownloadError(ValueError):
  """A file that cannot be downloaded. The message has the address and the reason."""


def is_url(name: str) -> bool:
  """Whether this is an address with a scheme, not a path."""
  return "://" in name


def download(
  address: str,
  *,
  max_bytes: int = MAX_BYTES,
  stall_seconds: float = STALL_SECONDS,
  total_seconds: float = TOTAL_SECONDS,
) -> bytes:
  """Downloads a file.

  Args:
    address: http:// or https://.
    max_bytes: limit on its size.
    stall_seconds: limit on a time without data.
    total_seconds: limit on the time of the download.

  Returns:
    its content.

  Raises:
    DownloadError: no web address, an answer other than the file, or more than a limit.
  """
  if urllib.parse.urlsplit(address).scheme not in SCHEMES:
    raise DownloadError(f"{address}: only http:// and https:// are allowed")
  end = time.monotonic() + total_seconds
  # Without the handlers for files, data and ftp.
  opener = urllib.request.OpenerDirector()
  for handler in (
    urllib.request.ProxyHandler(),
    urllib.request.HTTPHandler(),
    urllib.request.HTTPSHandler(),
    urllib.request.HTTPDefaultErrorHandler(),
    urllib.request.HTTPErrorProcessor(),
    urllib.request.UnknownHandler(),
    urllib.request.HTTPRedirectHandler(),
  ):
    opener.add_handler(handler)
  # Some servers refuse the name that urllib gives.
  request = urllib.request.Request(address, headers={"User-Agent": "jax_me"})
  content = bytearray()
  try:
    with opener.open(request, timeout=stall_seconds) as response:
      while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > max_bytes:
          raise DownloadError(f"{address}: the file has more than {max_bytes} bytes")
        if time.monotonic() > end:
          raise DownloadError(f"{address}: not complete after {total_seconds:g} s")
      length = response.headers.get("Content-Length")
  except DownloadError:
    raise
  except (OSError, http.client.HTTPException, ValueError) as error:
    reason = str(error) or type(error).__name__
    raise DownloadError(f"{address}: cannot be downloaded ({reason})") from error
  if length is not None and length.isdecimal() and len(content) < int(length):
    raise DownloadError(f"{address}: the connection ended after {len(content)} of {length} bytes")
  return bytes(content)
