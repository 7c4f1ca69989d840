"""The kinds of data there are: a module each, found by its name. See `specs.Scheme` for what it offers."""
