# A thin front for make.py, which holds everything; on Windows write `py make.py lab`.
#     make lab                     make lab ARGS="--no-browser --port 8890"
#     make test                    make test ARGS="-k gradients"
#     make lab PYTHON=python3.12   with a Python of your choice

# make splits what it knows of files at blanks, so where this file lies is left to the shell, as a
# variable of the environment: there no blank, quote, bracket or dollar sign means anything.
export COURSE_MAKEFILE := $(value MAKEFILE_LIST)
TARGETS := env lab test check data doctor notebooks site address bench old-laptop clean

.PHONY: help $(TARGETS)
.DEFAULT_GOAL := help

# The first that runs and is new enough: one that is merely found may be a stub that does not run.
help $(TARGETS):
	@file="$${COURSE_MAKEFILE# }"; \
	case "$$file" in */*) folder="$${file%/*}";; *) folder=.;; esac; \
	found=; \
	for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	  version=$$($$python -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) \
	    || continue; \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    exec $$python "$$folder/make.py" $@ $(ARGS); \
	  fi; \
	  found="$$found $$python is $$version;"; \
	done; \
	echo "make: Python 3.11 or newer is needed.$${found:- None was found.}" \
	  "Install one, or name it: make $@ PYTHON=/path/to/python" >&2; \
	exit 1
