"""Text: corpora, vocabularies, and the windows that language models train on."""
