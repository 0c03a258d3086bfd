"""`python -m isogrow`, and the command `isogrow`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; stopped before it has begun, it ends as shells have it, without a traceback."""
    try:
        from isogrow.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
