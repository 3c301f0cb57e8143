"""The library behind *Fine-Tuning From Scratch*.

It is meant to be read, in this order; a module imports only from those above it:

1. `system`         cores, memory, whole files, their hashes: without PyTorch
2. `inputs`         what comes from outside, checked: numbers, arrays, texts, labels
3. `runtime`        device, seeds, threads, versions, where we run
4. `claims`         checked statements: the sentences a lesson may state
5. `datasets`       fetch, verify, load, split; the sealed test set
6. `reading`        what a tokenizer could not read, and what it cut
7. `batching`       tokenise, pad, bucket by length, collate
8. `models`         the embedded encoder and its heads, parameter counts
9. `labels`         do labels, head and loss agree?
10. `transformer`    BERT from scratch, and the public weights to fill it
11. `pretraining`    text that asks its own questions, and a model that answers them
12. `metrics`        typed results over scikit-learn and SciPy, bootstrap intervals
13. `optimization`   what decays, how the rate moves, in which precision
14. `recipe`         the decisions of a run, as frozen data
15. `history`        what happened during a run: records, progress bar, log
16. `checkpoints`    files from which a killed run continues
17. `training`       `training_steps`, `evaluate`, `fit`
18. `imbalance`      class weights, focal loss, sampling, thresholds
19. `regularization` early stopping, augmentation, adversarial steps, layer-wise rates
20. `plotting`       records and arrays to matplotlib axes
21. `widgets`        dials to turn: ipywidgets over the plots
22. `doctor`         is this machine ready for the lessons?
23. `colab`          make a Google Colab runtime ready
24. `grading`        checks of the exercises, and the sandboxed grader (a subpackage)
25. `__main__`       the `course` command

What a lesson teaches appears in the lesson first, in full; later lessons import it from
here, and a test holds the two copies identical. Importing the package imports none of its
modules, so it costs milliseconds and does not load torch.
"""

__version__ = "0.1.0"
