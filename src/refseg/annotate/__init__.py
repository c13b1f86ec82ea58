"""Rows of images and expressions in, rows of masks out: for lists, folders, tars and tables of any length.

`rows` says what a row is; `lists`, `folders`, `tars` and `tables` read them in chunks, `opening` finds which of them;
`answering` answers them; `job` writes what is missing, in this process or by Ray's workers (`workers`).
"""
