"""Federated methods compared on a folder of hospitals; `docs/benchmarks.md` says how."""
