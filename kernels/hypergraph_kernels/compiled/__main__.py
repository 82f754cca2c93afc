"""Build, inspect or remove the compiled CPU path."""

import argparse
import sys

from hypergraph_kernels import compiled
from hypergraph_kernels.compiled._build import (
    built_libraries,
    cache_folder,
    fault_of,
    find_compiler,
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hypergraph_kernels.compiled", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="compile into your cache folder; takes seconds")
    building.add_argument("--compiler", help="C11 compiler; default cc, gcc or clang on PATH")
    building.add_argument("--force", action="store_true", help="compile again")
    commands.add_parser("status", help="say what is built and used")
    commands.add_parser("remove", help="delete what was built")
    chosen = parser.parse_args(arguments)
    if chosen.command == "build":
        try:
            path = compiled.build(chosen.compiler, chosen.force)
        except compiled.BuildError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{path}\nuses {compiled.instructions()} on this processor")
    elif chosen.command == "remove":
        for path in compiled.remove():
            print(f"deleted {path}")
    else:
        _print_status()
    return 0


def _print_status() -> None:
    print(f"cache folder: {cache_folder()}")
    print(f"compiler: {find_compiler() or 'none found on PATH (cc, gcc, clang)'}")
    libraries = built_libraries()
    for path in libraries:
        print(f"built: {path.name}: {fault_of(path) or 'sound'}")
    if not libraries:
        print("built: nothing for this version and machine")
    if compiled.is_available():
        print(f"in use: yes, with {compiled.instructions()}")
    else:
        print("in use: no")


if __name__ == "__main__":
    sys.exit(main())
