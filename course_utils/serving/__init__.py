"""A trained model as a service: what ``course serve`` runs.

One process, one model, one thread that computes. Requests of many clients wait in one queue and
are computed together, which is the point of it all: a batch costs little more than its longest
text. What the parts do, in reading order:

1. `limits`      how much of everything is taken, as frozen data
2. `problems`    what a client is told when it gets no answer (RFC 9457)
3. `rules`       outputs to what is said, as the model's record says
4. `predictor`   texts to answers, in sorted batches
5. `microbatch`  the queue, and the thread that holds the model
6. `messages`    a request's bytes to texts, checked; answers
7. `meters`      what is counted, for Prometheus
8. `front`       request ids, the log, the last net for errors
9. `connections` clients that connect and say nothing
10. `app`        the routes, readiness, starting and stopping
11. `arguments`  of the command line
12. `command`    finding the model, listening, signals

Left out on purpose: who may ask, encryption, and fair shares between clients. A proxy in front
does these for every service alike. Texts are never logged and never kept.

Needs the extra ``serve``: ``pip install "fine-tuning-from-scratch[serve]"``.
"""
