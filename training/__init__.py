"""Fine-tune, evaluate, export: run from a checkout as ``python -m training.<step>``.

corpus → dataset → checkpoint → bundle → prediction
"""
