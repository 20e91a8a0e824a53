"""The closing table of a run."""

from engine.run_summary import MAX_ROWS, describe_run


def step(epoch, **more):
    figures = {"loss": 1.0, "clips_per_second": 8.0, "wait_share": 0.1}
    return {"kind": "train", "step": epoch, "epoch": epoch, **figures, **more}


def val(epoch, top1):
    return {"kind": "val", "step": epoch, "epoch": epoch, "top1": top1, "top5": 90.0, "mean_class": top1}


def test_many_epochs_are_thinned_and_best_and_last_stay():
    records = [r for e in range(40) for r in (step(e, seconds=30.0), val(e + 1, 50.0 if e == 17 else 10.0))]
    lines = describe_run(records).splitlines()[2:]
    epochs = [int(line.split()[0]) for line in lines]
    assert len(epochs) <= MAX_ROWS and {1, 18, 40} <= set(epochs) and epochs == sorted(epochs)
    assert [line.split()[0] for line in lines if line.endswith("best")] == ["18"]
    assert "20.0 min" in lines[-1] and "10%" in lines[-1]


def test_a_run_started_by_an_earlier_version():
    lines = describe_run([step(0), val(1, 10.0), step(1, seconds=60.0), val(2, 20.0)]).splitlines()
    assert lines[2].split()[:2] == ["1", "-"] and "1.0 min" in lines[3]


def test_nothing_validated():
    assert describe_run([step(0)]) == "no validation yet"


def test_rate_and_waiting_are_of_the_same_time():
    """The speed is the epoch's clips divided by its time, not the speed of a median step."""
    fast = {"seconds": 1.0, "clips_per_second": 100.0, "wait_share": 0.0}
    slow = {"seconds": 9.0, "clips_per_second": 100.0 / 9, "wait_share": 0.9}
    row = describe_run([step(0, **fast), step(0, **fast), step(0, **slow), val(1, 50.0)]).splitlines()[2]
    assert " 27.3 " in row and " 74% " in row
