"""Cost of whole commands, ours and those of other tools, on models this package generates itself."""
