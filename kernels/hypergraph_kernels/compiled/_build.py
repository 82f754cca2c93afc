"""Where the compiled library lies, how it is built and how it is checked before it is loaded."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_SOURCE = Path(__file__).with_name("kernels.c")
_COMPILERS = ("cc", "gcc", "clang")
# No -march: the library asks the processor at run time. No -ffast-math: sums keep their order.
_FLAGS = ("-std=c11", "-O3", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno")
_SECONDS = 300


class BuildError(RuntimeError):
    """The library could not be built."""


def cache_folder() -> Path:
    """Where built libraries lie: ``$XDG_CACHE_HOME/hypergraph-nn``, by default in ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    return base / "hypergraph-nn"


@cache
def source_digest() -> str:
    """Digest of the C source and of the flags it is built with."""
    text = _SOURCE.read_bytes() + "\0".join(_FLAGS).encode()
    return hashlib.sha256(text).hexdigest()[:16]


def library_prefix() -> str:
    """How the name of every library begins that this package and machine may load."""
    return f"kernels-{source_digest()}-{platform.system()}-{platform.machine()}-".lower()


def find_compiler() -> str | None:
    """The C compiler on PATH, or None."""
    return next(filter(None, map(shutil.which, _COMPILERS)), None)


def built_libraries() -> list[Path]:
    """Libraries built from this source for this machine, newest first; their content unchecked."""
    found = cache_folder().glob(f"{library_prefix()}*.so")
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def fault_of(library: Path) -> str | None:
    """Why a file must not be loaded, or None.

    Its name ends in the digest of its content, so that a damaged file is found out before the
    loader maps it (a truncated library can kill the process).
    """
    fault = _open_to_others(library)
    if fault is not None:
        return f"it {fault}"
    fault = _open_to_others(library.parent)
    if fault is not None:  # who may write there may exchange the file after it has been checked
        return f"its folder {fault}"
    if not library.name.startswith(library_prefix()):
        return "it was built from another source or for another machine"
    if _content_digest(library) != library.stem.rsplit("-", 1)[-1]:
        return "its content is not what was built"
    return None


def _open_to_others(path: Path) -> str | None:
    state = path.stat()
    if hasattr(os, "getuid") and state.st_uid != os.getuid():
        return "belongs to another user"
    if state.st_mode & 0o022:
        return "may be written to by other users"
    return None


def build(compiler: str | None = None, force: bool = False) -> Path:
    """Compile the library into the user's cache folder; takes seconds and needs a C compiler.

    Nothing is compiled if a sound library for this source and machine is there. Two processes may
    build at once: each writes a file of its own and moves it into place.

    Args:
        compiler: name or path of a C11 compiler; default the first of cc, gcc, clang on PATH.
        force: compile even if a sound library is there.

    Returns:
        The library's path.

    Raises:
        BuildError: no compiler was found, it failed, or the cache folder cannot be written.
    """
    folder = cache_folder()
    fault = _open_to_others(folder) if folder.exists() else None
    if fault is not None:
        raise BuildError(
            f"{folder} {fault}: make it yours alone (chmod 700), or set XDG_CACHE_HOME to "
            "another folder"
        )
    for library in built_libraries():
        if fault_of(library) is not None:
            library.unlink(missing_ok=True)
        elif not force:
            return library
    program = find_compiler() if compiler is None else shutil.which(compiler)
    if program is None:
        wanted = "cc, gcc or clang" if compiler is None else f"`compiler` {compiler!r}"
        raise BuildError(
            f"no C compiler: {wanted} was not found on PATH; install one "
            "(for example gcc), or go on without: everything works in plain PyTorch"
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="building-", dir=folder) as scratch:
            return _compile(program, Path(scratch), folder)
    except OSError as error:
        raise BuildError(f"cannot build in {folder}: {error}; set XDG_CACHE_HOME") from error


def remove() -> list[Path]:
    """Delete every built library, those of other versions too; returns what was deleted."""
    libraries = sorted(cache_folder().glob("kernels-*.so"))
    for library in libraries:
        library.unlink(missing_ok=True)
    return libraries


def _compile(program: str, scratch: Path, folder: Path) -> Path:
    output = scratch / "kernels.so"
    command = [program, *_FLAGS, f'-DHGK_DIGEST="{source_digest()}"']
    command += [str(_SOURCE), "-o", str(output), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{program} took more than {_SECONDS} seconds") from error
    if done.returncode != 0 or not output.exists():
        raise BuildError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    output.chmod(0o600)
    name = f"{library_prefix()}{_compiler_tag(program)}-{_content_digest(output)}.so"
    return output.replace(folder / name)


def _compiler_tag(program: str) -> str:
    done = subprocess.run([program, "-dumpversion"], capture_output=True, text=True)
    return re.sub(r"[^a-z0-9.]+", "", f"{Path(program).name}{done.stdout.strip()}".lower())


def _content_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
