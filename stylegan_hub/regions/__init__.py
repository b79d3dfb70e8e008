"""Where an edit acts: find a region, mask it, join what is inside with what is outside."""
