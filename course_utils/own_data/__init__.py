"""From a table of one's own to a model that can be defended: ``course finetune``.

It is meant to be read, in this order; a module imports only from those above it:

1. `encodings`   which letters a file's bytes mean
2. `textfiles`   CSV, TSV, JSON lines; a broken line is named
3. `tables`      any file that holds a table, its columns as texts
"""
