"""Raw recordings to a manifest and a skeleton store."""
