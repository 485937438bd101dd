"""Files of raw documents: found, cut into units of work, decompressed, read, decoded."""
