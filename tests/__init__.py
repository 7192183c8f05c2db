"""Named here so that no dependency that installs a package `tests` can stand in for this one."""
