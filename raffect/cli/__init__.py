"""The commands; thin, and quick to import: what is heavy is imported inside them."""
