"""What is a hospital's case mix? Shares of its training patients, from what rounds released."""

NAME = "property inference"
