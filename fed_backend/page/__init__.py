"""The operator's page: what the federation did, read-only, from the server's state folder. No torch, no Flower."""
