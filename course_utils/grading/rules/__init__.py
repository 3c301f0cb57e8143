"""The lessons' own rules: is a result right where many are, and which mistake it shows.

A module ``lesson_NN`` holds functions over results, for `Exercise` and `Symptom`: ``agree(case,
expected, value)``, ``observe(value)``, and predicates over all trials. They check properties.
Students' installations have them, so no rule may compute an answer.
"""
