# Two commands do everything on a fresh machine: `make speak TEXT="..."` and `make test`.
# `make help` lists the rest.

TEXT ?=
OUT ?= speech.wav
VOICE ?=
LANGUAGE ?=
DATA ?=
# Raw values, so that a text with $ or quotes in it reaches the program as it was typed.
export SPEAK_TEXT = $(value TEXT)
export SPEAK_OUT = $(value OUT)
export SPEAK_VOICE = $(value VOICE)
export SPEAK_LANGUAGE = $(value LANGUAGE)
export TRAIN_DATA = $(value DATA)

python := .venv/bin/python

.PHONY: help speak serve train test check containers bench bench-train settings lock format clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

.venv/.runtime: requirements.lock scripts/setup.sh
	@scripts/setup.sh runtime

.venv/.dev: requirements-dev.lock scripts/setup.sh
	@scripts/setup.sh dev && touch .venv/.runtime

speak: .venv/.runtime ## TEXT="..." [OUT=speech.wav VOICE= LANGUAGE=]: speak a text into a file
	@$(python) -m app speak --out "$$SPEAK_OUT" \
	  $${SPEAK_VOICE:+--voice "$$SPEAK_VOICE"} $${SPEAK_LANGUAGE:+--language "$$SPEAK_LANGUAGE"} \
	  -- "$$SPEAK_TEXT"

serve: .venv/.runtime ## answer clients on port 8005
	@exec $(python) -m app serve

train: .venv/.runtime ## DATA=folder: fine-tune a voice on clips; again: it goes on
	@exec $(python) -m train fit $${TRAIN_DATA:+"$$TRAIN_DATA"}

test: .venv/.dev ## all tests
	@$(python) -m pytest

check: .venv/.dev ## format, lint, types, lock, container files
	@$(python) -m ruff format --check .
	@$(python) -m ruff check .
	@$(python) -m mypy
	@scripts/lock.sh --check
	@scripts/check_containers.sh

containers: .venv/.dev ## build the image and try it on a Docker engine (as root: on one of its own)
	@tests/containers/engine.sh env CONTAINER_TESTS=1 $(python) -m pytest tests/containers

bench: .venv/.dev ## a server under load, beside stock coqui-tts: tables, and one JSON line last
	@$(python) -m benchmarks.load

bench-train: .venv/.dev ## DATA=folder: fine-tuning beside coqui's GPTTrainer, a table and JSON
	@$(python) -m benchmarks.training_beside_stock --data "$$TRAIN_DATA"

settings: .venv/.dev ## write .env.example and docs/settings.md anew
	@$(python) -m scripts.write_settings_docs

lock: .venv/.dev ## write the locks anew from pyproject.toml
	@scripts/lock.sh

format: .venv/.dev ## format and mend what ruff can mend
	@$(python) -m ruff format . && $(python) -m ruff check --fix .

clean: ## remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
