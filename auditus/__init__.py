"Audio embeddings as a chain of small transforms: a path goes in, a vector comes out."
__version__ = "0.1.0"
