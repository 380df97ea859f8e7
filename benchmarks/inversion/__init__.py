"""Parts of `benchmarks/gradient_inversion.py`: an attacker's pictures, what he sees, how he solves for them, and how near he came."""
