"""The same federation under several configurations: what differs, what it costs, what it leaks."""
