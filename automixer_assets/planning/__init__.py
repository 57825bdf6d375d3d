"""What a pipeline will cost before it runs: operations counted from shapes, turned into time by measured constants.

`flops.py` counts, `calibration.py` measures, `workload.py` says how much there is to do, `stages.py` brings them
together, `current.py` takes off what is there already, `recorded.py` compares with what a finished run took.
"""
