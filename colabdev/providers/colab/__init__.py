"""The `colab` provider: Google Colab's runtimes, over the protocol that Google's own clients speak."""
