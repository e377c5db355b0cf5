"""pykan's models and layers. Interface and semantics: pykan 0.2.8."""
