"""The library behind *Fine-Tuning From Scratch*.

It is meant to be read, in this order; a module imports only from those above it:

1. `runtime`        device, seeds, threads, versions, where we run
2. `claims`         checked statements: the sentences a lesson may state
3. `datasets`       fetch, verify, load, split; the sealed test set
4. `batching`       tokenise, pad, bucket by length, collate
5. `models`         the embedded encoder and its heads, parameter counts
6. `transformer`    BERT from scratch, and the public weights to fill it
7. `pretraining`    text that asks its own questions, and a model that answers them
8. `metrics`        typed results over scikit-learn and SciPy, bootstrap intervals
9. `optimization`   what decays, how the rate moves, in which precision
10. `recipe`         the decisions of a run, as frozen data
11. `history`        what happened during a run: records, progress bar, log
12. `checkpoints`    files from which a killed run continues
13. `training`       `training_steps`, `evaluate`, `fit`
14. `imbalance`      class weights, focal loss, sampling, thresholds
15. `regularization` early stopping, augmentation, adversarial steps, layer-wise rates
16. `plotting`       records and arrays to matplotlib axes
17. `widgets`        dials to turn: ipywidgets over the plots
18. `doctor`         is this machine ready for the lessons?
19. `colab`          make a Google Colab runtime ready
20. `grading`        checks of the exercises, and the sandboxed grader (a subpackage)
21. `__main__`       the `course` command

What a lesson teaches appears in the lesson first, in full; later lessons import it from
here, and a test holds the two copies identical. Importing the package imports none of its
modules, so it costs milliseconds and does not load torch.
"""

__version__ = "0.1.0"
