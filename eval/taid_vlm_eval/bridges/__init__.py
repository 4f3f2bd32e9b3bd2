"""Our models in other harnesses, and our answers in their files. Nothing here imports another harness before it is used."""
