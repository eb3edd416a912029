"""What commands do with a repository while no server runs. Nothing of the server imports this."""
