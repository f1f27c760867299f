# Falconry's front door. It makes .venv once, again only when requirements.lock changes, and then
# calls the Invoke task of the same name (tasks.py).
#
#   make deploy                  every stage, until the endpoint is ACTIVE
#   make query PROMPT="..."      ask it
#   make help                    all targets
#
# PROFILE, RECIPE and CHECKPOINT select what is built, ENGINE_RUN=job where; SET="section.key=value
# ..." overrides any other value of the profile; JSON=1 asks for results as JSON.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
STAMP  := .venv/.installed
TARGETS := help doctor policies plan engine repository artifact image deploy query proxy shapes \
	engines prune check-image status logs activate deactivate reap prove prune-models down clean \
	lint test test-fast docs bench check-clients soak fuzz torture lock

# Passed on as typed: make must not expand a $ inside a prompt or a JSON body.
OPTIONS := PROFILE RECIPE CHECKPOINT ENGINE_RUN SET PROMPT BODY COMPOSE IMAGE ARTIFACT FILE HEALTH \
	TIMEOUT CANCEL KEEP DELETE ROLLBACK FOLLOW JSON STREAM CONCURRENCY DURATION PRICES PORT EXPIRES \
	MINUTES COST ONLY NVIDIA QUICK SEED EXAMPLES KILLS ROUNDS ARGUMENTS EVERYTHING LINES MAX_TOKENS
$(foreach option,$(OPTIONS),$(eval export FALCONRY_$(option) := $$(value $(option))))
export FALCONRY_COMMAND := $(value CMD)
# Without this make expands a variable of its command line to export it: PROMPT='$(shell ...)' would
# run the command.
unexport $(OPTIONS) CMD

# Files and their names are in UTF-8, whatever the locale is.
export PYTHONUTF8 := 1

.DEFAULT_GOAL := help
.PHONY: $(TARGETS)

$(TARGETS): $(STAMP)
	@PATH="$$PWD/.venv/bin:$$PATH" exec .venv/bin/python -m falconry $@

$(STAMP): requirements.lock pyproject.toml scripts/make_venv.sh
	@sh scripts/make_venv.sh "$(PYTHON)" requirements.lock
