"""The parts of `benchmarks/bench.py`. docs/performance.md says what is measured, and how."""
