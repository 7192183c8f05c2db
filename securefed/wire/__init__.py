"""What travels between hospitals and server: messages, contributions, transports."""
