"""The library behind *Fine-Tuning From Scratch*.

It is meant to be read, in this order; a module imports only from those above it:

1. `system`         cores, memory, whole files, their hashes: without PyTorch
2. `inputs`         what comes from outside, checked: numbers, arrays, texts, labels
3. `runtime`        device, seeds, threads, versions, where we run
4. `claims`         checked statements: the sentences a lesson may state
5. `sources`        files of data: fetched with pip, known by their hash
6. `datasets`       load and clean the reviews; what is to be predicted
7. `splits`         splits without leaks; the sealed test set
8. `dialogues`      questions with answers by topic, copies and all
9. `vocabulary`     a WordPiece of one's own, for texts that the encoder cannot read
10. `reading`        what a tokenizer could not read, and what it cut
11. `batching`       tokenise, pad, bucket by length, collate
12. `models`         the embedded encoder and its heads, parameter counts
13. `decoders`       the embedded decoder, read once and kept ready
14. `labels`         do labels, head and loss agree?
15. `blocks`         attention, and the block of a transformer around it, from scratch
16. `transformer`    BERT from scratch, and the public weights to fill it
17. `llama_blocks`   a decoder's block as it is built today, from scratch
18. `llama`          a decoder of such blocks, and public weights in it
19. `pretraining`    text that asks its own questions, and a model that answers them
20. `generation`     how to choose the next token; a cache of what was read
21. `prompting`      label words scored after a prompt, and their calibration
22. `instructions`   dialogues as tokens, losses on answers, preferences
23. `packing`        several dialogues in one row, and none reads another
24. `metrics`        typed scores over scikit-learn and SciPy, calibration
25. `intervals`      how sure a number is: bootstrap, seeds, McNemar's test
26. `optimization`   what decays, how the rate moves, in which precision
27. `recipe`         the decisions of a run, as frozen data
28. `history`        what happened during a run: records, progress bar, log
29. `checkpoints`    files from which a killed run continues
30. `distributed`    several processes train one model, under torchrun
31. `training`       `training_steps`, `evaluate`, `fit`
32. `tasks`          several corpora for one model, and how they are mixed
33. `cards`          what a kept model is, for the people who use it
34. `artefacts`      a trained model, kept with what made it
35. `movie_model`    lesson 05's model, found or trained again
36. `imbalance`      class weights, focal loss, sampling
37. `thresholds`     where to cut a probability, and what each cut costs
38. `regularization` early stopping, augmentation, adversarial steps, layer-wise rates
39. `adapters`       few weights to train beside many frozen ones: LoRA, adapters, soft prompts
40. `deltas`         what of a model was trained: counted, saved, loaded
41. `quantization`   weights in four bits: blocks of codes, and a layer that computes with them
42. `halves`         the encoder cut in two: below read once, above trained
43. `continual`      one task after another: forgetting, rehearsal, EWC
44. `contrastive`    few labels: pairs of sentences, pseudo-labels
45. `smoothing`      large inputs made smaller before a layer is put into eight bits
46. `pruning`        heads taken out of an encoder, the least important first
47. `distillation`   a small model taught by a large one's answers
48. `exporting`      a classifier as an ONNX file, compared with its source, and in int8
49. `inference`      answers sooner: sorted, small first, remembered; and honest clocks
50. `ratings`        who rated which film, and when: a pickle that may do little
51. `ranking`        how good a ranked list is: recall, discounted gain
52. `lexicon`        sentiment by looking words up
53. `monitoring`     have the texts changed? alarms with a known rate of false ones
54. `alarms`         a stream that goes down: CUSUM, EWMA, and how often they are wrong
55. `retrieval`      find the passage that answers: BM25, ranks, when to ask a person
56. `behaviour`      what a model does when asked on purpose: tests, attacks, groups
57. `explain`        which words did it: attributions, and whether they are true
58. `plotting`       records and arrays to matplotlib axes
59. `widgets`        dials to turn: ipywidgets over the plots
60. `doctor`         is this machine ready for the lessons?
61. `colab`          make a Google Colab runtime ready
62. `serving`        a trained model as a service (a subpackage)
63. `own_data`       people's own tables: from a file to a report (a subpackage)
64. `grading`        checks of the exercises, and the sandboxed grader (a subpackage)
65. `__main__`       the `course` command

What a lesson teaches appears in the lesson first, in full; later lessons import it from
here, and a test holds the two copies identical. Importing the package imports none of its
modules, so it costs milliseconds and does not load torch.
"""

__version__ = "0.1.0"
