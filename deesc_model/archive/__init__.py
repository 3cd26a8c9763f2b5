"""Scoring of files, one or an archive of them: what `deesc score` does.

    sources     the files, the fields that their folders name       → windows of rows
    windows     rows that are labelled together, and their parts    → labelling
    labelling   the model, in this process or in several            → outputs
    outputs     one file, or a folder of parts that can be resumed: manifest, ledger

`scoring` joins them. Windows are cut by the input alone, so neither processes nor parts nor an
interruption change a score.
"""
