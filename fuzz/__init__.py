"""Fuzzing: any input is served or refused, and nothing else. C{make fuzz}; CONTRIBUTING.md, "Fuzzing"."""
