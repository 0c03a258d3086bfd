"""`python -m isogrow`."""

from __future__ import annotations

from isogrow.cli import main

if __name__ == "__main__":
    main()
