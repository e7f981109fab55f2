"""One module per child process of the supervisor, started by name: ``python -P -m workers.router``.

Importing this package ties the process to its supervisor, before anything heavy is imported: a child whose parent is
killed while it is still importing would otherwise live on with nobody to stop it.
"""

from mcm.runtime import die_with_parent

die_with_parent()
