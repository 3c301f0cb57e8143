"""From a table of one's own to a model that can be defended: ``course finetune``.

It is meant to be read, in this order; a module imports only from those above it:

1. `encodings`    which letters a file's bytes mean
2. `textfiles`    CSV, TSV, JSON lines; a broken line is named
3. `tables`       any file that holds a table, its columns as texts
4. `goals`        classes, tags or ratings: what labels are
5. `cleaning`     which rows can be used; what no model could learn from
6. `text_looks`   texts that the encoder cannot read, or only in part
7. `label_looks`  labels typed in two ways, answers given away, groups
8. `audit`        all that was found
9. `parts`        training, validation, a sealed test set
10. `decisions`   temperature, threshold, scores
11. `baselines`   always the same; counted words
12. `plans`       what a budget allows, and how long it takes
13. `probe`       where the head begins
14. `tuning`      the fine-tune, resumed when killed
15. `outcome`     what the test set says; what more labels would buy
16. `figures`     figures inside of pages
17. `reports`     audit, report and model card as pages
18. `folders`     the folder of a run, never overwritten
19. `requests`    what a person asks for; a first look at the table
20. `finetune`    all of it, in one function
21. `handed_in`   what can be seen of a run that somebody hands in
22. `strangers`   tables that nobody tuned it for
23. `command`     the words of a terminal

The model that comes out is an artefact: `serving.predictor` uses it, and so does ``course serve``.
"""
