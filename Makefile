# Falconry's front door. It makes .venv once, again only when requirements.lock changes, and then
# calls the Invoke task of the same name (tasks.py).
#
#   make deploy                  every stage, until the endpoint is ACTIVE
#   make query PROMPT="..."      ask it
#   make help                    all targets
#
# PROFILE, RECIPE and CHECKPOINT select what is built; SET="section.key=value ..." overrides any
# other value of the profile; JSON=1 asks for results as JSON.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
STAMP  := .venv/.installed
TARGETS := help doctor plan engine repository artifact image deploy query shapes engines prune \
	check-image status logs activate deactivate prune-models down clean lint test \
	test-fast bench soak lock

# Handed on as typed: make must not expand a $ inside a prompt or a JSON body.
export FALCONRY_PROFILE    := $(value PROFILE)
export FALCONRY_RECIPE     := $(value RECIPE)
export FALCONRY_CHECKPOINT := $(value CHECKPOINT)
export FALCONRY_SET        := $(value SET)
export FALCONRY_PROMPT     := $(value PROMPT)
export FALCONRY_BODY       := $(value BODY)
export FALCONRY_COMPOSE    := $(value COMPOSE)
export FALCONRY_IMAGE      := $(value IMAGE)
export FALCONRY_ARTIFACT   := $(value ARTIFACT)
export FALCONRY_FILE       := $(value FILE)
export FALCONRY_COMMAND    := $(value CMD)
export FALCONRY_HEALTH     := $(value HEALTH)
export FALCONRY_TIMEOUT    := $(value TIMEOUT)
export FALCONRY_KEEP       := $(value KEEP)
export FALCONRY_DELETE     := $(value DELETE)
export FALCONRY_ROLLBACK   := $(value ROLLBACK)
export FALCONRY_FOLLOW     := $(value FOLLOW)
export FALCONRY_JSON       := $(value JSON)
export FALCONRY_STREAM     := $(value STREAM)
export FALCONRY_CONCURRENCY := $(value CONCURRENCY)
export FALCONRY_DURATION   := $(value DURATION)
export FALCONRY_PRICES     := $(value PRICES)
export FALCONRY_ONLY       := $(value ONLY)
export FALCONRY_QUICK      := $(value QUICK)

.DEFAULT_GOAL := help
.PHONY: $(TARGETS)

$(TARGETS): $(STAMP)
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python -m invoke $@

$(STAMP): requirements.lock pyproject.toml scripts/make_venv.sh
	@sh scripts/make_venv.sh "$(PYTHON)" requirements.lock
