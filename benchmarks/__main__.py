"""Run every benchmark: python -m benchmarks."""

from benchmarks import influence_speed, leakage_speed

if __name__ == "__main__":
    influence_speed.main()
    leakage_speed.main()
