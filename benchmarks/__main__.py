"""Run every benchmark: python -m benchmarks."""

from benchmarks import evaluation_speed, influence_speed, leakage_speed, training_speed

if __name__ == "__main__":
    influence_speed.main()
    training_speed.main()
    evaluation_speed.main()
    leakage_speed.main()
