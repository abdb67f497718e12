"""The parts of the network: VAE, positions, transformer, latents, prompt conditioning, adapters and profiles."""
