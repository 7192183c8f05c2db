"""A whole federation in one process: the only room that knows hospitals and server."""
