"""What a server that breaks the rules tries on a client, and whether the client refuses."""

NAME = "malicious server"
