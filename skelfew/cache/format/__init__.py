"""The stored form of a teacher cache: the only room that knows Zarr."""
