"""What every command line shares: config arguments, and the one place where a user's mistake becomes one line."""

import argparse
import os
import sys
from collections.abc import Callable

from utils.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count


def config_parser(description: str) -> argparse.ArgumentParser:
    """A parser with `--config`, `--debug` and `key=value` overrides."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, metavar="YAML", help="the recipe; docs/config.md explains its keys")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override, as solver.lr=1e-4")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def run_story(story: Callable[[argparse.Namespace], int | None], args: argparse.Namespace) -> int:
    """Run an entry script's story; a `UserError` is printed as `error: ...` and gives exit code 2.

    With `--debug` the traceback comes first. Anything else is a fault of ours and keeps its traceback.
    """
    try:
        return story(args) or 0
    except UserError as error:
        if args.debug:
            raise
        rank = os.environ.get("RANK", "0")
        print(f"error{'' if rank == '0' else f' (process {rank})'}: {error}", file=sys.stderr, flush=True)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED
