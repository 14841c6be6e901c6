"""One reader, teacher, encoder, head and stage for skelfew."""
