"""Everything that can be decided without I/O: no sockets, files, clocks, environment or logging in here."""
