"""The scoped database: every operation of the drivers, filtered, stamped or refused."""
