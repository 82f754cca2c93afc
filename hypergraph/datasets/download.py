"""Fetching a file: in one piece or not at all."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

Report = Callable[[int, int | None], None]

_CHUNK = 1 << 16
_LIMIT = 200 << 20


def fetch(
    url: str,
    path: str | Path,
    report: Report | None = None,
    timeout: float = 30.0,
    keeps: bool = True,
) -> Path:
    """Download ``url`` to ``path``.

    The bytes go to ``path`` + ``.part`` and take their name when all are there; a ``.part`` file
    left by an interrupt is continued where the server allows it, and begun anew where not.

    Args:
        url: https, http or file.
        path: where to; an existing file is replaced.
        report: called with the bytes so far and the total, None where the server does not tell.
        timeout: seconds without an answer.
        keeps: whether the folder outlives an error, so that the message may say what is continued.

    Raises:
        ConnectionError: the server cannot be reached, breaks off, or has no such file.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    try:
        _transfer(url, part, have, report, timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: nothing is left to fetch, or another file
            raise ConnectionError(f"{url}: the server answers {error.code}") from error
        part.unlink()
        return fetch(url, path, report, timeout, keeps)
    except OSError as error:
        raise ConnectionError(
            f"{url} could not be fetched ({error}); try again"
            + (f", {part} is continued" if keeps else "")
        ) from error
    os.replace(part, path)
    return path


def _transfer(url: str, part: Path, have: int, report: Report | None, timeout: float) -> None:
    request = urllib.request.Request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        continued = have > 0 and answer.status == 206
        done = have if continued else 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        with part.open("ab" if continued else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if done > _LIMIT:
                    raise OSError(f"more than {_LIMIT >> 20} MiB arrived")
                if report is not None:
                    report(done, total)
    if total is not None and done != total:
        raise OSError(f"{done} of {total} bytes arrived")
