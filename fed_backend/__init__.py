"""The federation: SGCA on Flower, and the `fedsca` command."""
