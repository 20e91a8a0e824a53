"""The parts of benchmarks/gpu_check.py: functions (Setting, figures of earlier parts) -> Found."""
