"""The library behind *Fine-Tuning From Scratch*.

It is meant to be read, in this order; a module imports only from those above it:

1. `inputs`         what comes from outside, checked: numbers, arrays, texts, labels
2. `runtime`        device, seeds, threads, versions, where we run
3. `claims`         checked statements: the sentences a lesson may state
4. `datasets`       fetch, verify, load, split; the sealed test set
5. `reading`        what a tokenizer could not read, and what it cut
6. `batching`       tokenise, pad, bucket by length, collate
7. `models`         the embedded encoder and its heads, parameter counts
8. `labels`         do labels, head and loss agree?
9. `transformer`    BERT from scratch, and the public weights to fill it
10. `pretraining`    text that asks its own questions, and a model that answers them
11. `metrics`        typed results over scikit-learn and SciPy, bootstrap intervals
12. `optimization`   what decays, how the rate moves, in which precision
13. `recipe`         the decisions of a run, as frozen data
14. `history`        what happened during a run: records, progress bar, log
15. `checkpoints`    files from which a killed run continues
16. `training`       `training_steps`, `evaluate`, `fit`
17. `imbalance`      class weights, focal loss, sampling, thresholds
18. `regularization` early stopping, augmentation, adversarial steps, layer-wise rates
19. `plotting`       records and arrays to matplotlib axes
20. `widgets`        dials to turn: ipywidgets over the plots
21. `doctor`         is this machine ready for the lessons?
22. `colab`          make a Google Colab runtime ready
23. `grading`        checks of the exercises, and the sandboxed grader (a subpackage)
24. `__main__`       the `course` command

What a lesson teaches appears in the lesson first, in full; later lessons import it from
here, and a test holds the two copies identical. Importing the package imports none of its
modules, so it costs milliseconds and does not load torch.
"""

__version__ = "0.1.0"
