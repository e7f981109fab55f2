"""``python -m mcm`` is the ``mcm`` command."""

from mcm.cli import main

if __name__ == "__main__":
    main()
