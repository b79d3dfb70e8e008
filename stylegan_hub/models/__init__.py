"""The networks: generator, discriminator, CLIP and the ones that judge and encode."""
