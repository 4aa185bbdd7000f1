"""Getting the bytes: a product on a server becomes a verified file in a directory."""
