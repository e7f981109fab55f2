"""The process that a program starts: the supervisor, which dies with that program, however that ends."""

import gc
import sys

from mcm.runtime import die_with_parent

if __name__ == "__main__":
    die_with_parent()  # before anything that takes time to import
    from mcm.supervisor import main

    gc.enable()  # die_with_parent has stopped it for the time of the imports
    sys.exit(main())
