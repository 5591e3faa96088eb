# Every target first runs `setup`, which does nothing when there is nothing to do.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
SOURCES := mesh services deploy client/finid_client tests proto bench

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what is missing: Debian packages, the locked .venv, models and sample people
	@$(PYTHON) deploy/local/bootstrap.py

.PHONY: demo
demo: setup ## Authentication, certificate, signatures and four refusals, on the whole mesh; files in var/demo/
	@exec $(BIN)/python -m deploy.demo

.PHONY: run
run: setup ## Run the whole mesh until Ctrl-C; prints addresses, credentials, and calls to paste
	@exec $(BIN)/python -m deploy.local run

# Side by side: tests of the whole mesh wait most of the time; documents' beside them, so that both take as long. The
# browser's have the machine for themselves: what they film is judged by the clock, as a person's camera is.
.PHONY: test
test: lint ## Lint, then unit, integration, e2e and browser tests
	@$(MAKE) --jobs=2 --keep-going pytest-rooms pytest-mesh; lanes=$$?; $(MAKE) pytest-browser && exit $$lanes

.PHONY: pytest-rooms pytest-mesh pytest-browser
pytest-rooms pytest-mesh: SHELL := /bin/bash
pytest-rooms:
	@set -o pipefail; PYTHONUNBUFFERED=1 $(BIN)/pytest --ignore=tests/browser --ignore=tests/e2e --ignore=tests/documents | sed --unbuffered 's/^/rooms | /'
pytest-mesh:
	@set -o pipefail; PYTHONUNBUFFERED=1 $(BIN)/pytest tests/e2e tests/documents | sed --unbuffered 's/^/mesh  | /'
pytest-browser:
	@$(BIN)/pytest tests/browser

.PHONY: pictures
pictures: setup ## Make the hosted page's pictures in docs/images again
	$(BIN)/python -m tests.browser.pictures

.PHONY: kills
kills: setup ## Kill signer, CA and PostgreSQL at random moments, 200 rounds, and judge what is left; prints its counts
	$(BIN)/python -m tests.kills $(KILLS)

.PHONY: lint
lint: setup lint-python lint-proto lint-web ## Everything that is checked without running it

.PHONY: lint-python
lint-python: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports

# The hosted page's types; its JavaScript is served as it is checked.
.PHONY: lint-web
lint-web: setup
	web/node_modules/.bin/tsc --project web/capture

# The protos' style; no breaking change against the released image; stubs that say what the protos say.
.PHONY: lint-proto
lint-proto: setup
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && set -x && \
	$(BIN)/python proto/generate.py --out "$$scratch/gen" --image "$$scratch/image.binpb" && \
	$(BIN)/buf lint "$$scratch/image.binpb" && \
	$(BIN)/buf breaking "$$scratch/image.binpb" --against proto/released.binpb && \
	diff --recursive --exclude=__pycache__ gen "$$scratch/gen"

.PHONY: gen
gen: setup ## Generate gen/ from proto/
	$(BIN)/python proto/generate.py

.PHONY: proto-release
proto-release: gen ## Accept the protos of now as what later ones may not break
	$(BIN)/python proto/generate.py --image proto/released.binpb

.PHONY: bench
bench: setup ## Measure each claim against its peer and its limit, in one run each
	$(BIN)/python -m bench.sign_digests
	$(BIN)/python -m bench.stored_keys
	$(BIN)/python -m bench.issue_certificate
	$(BIN)/python -m bench.certificate_status
	$(BIN)/python -m bench.time_stamps
	$(BIN)/python -m bench.document_signatures
	$(BIN)/python -m bench.get_authentication
	$(BIN)/python -m bench.one_authentication
	$(BIN)/python -m bench.liveness_frames
	$(BIN)/python -m bench.facematch

.PHONY: eval
eval: setup ## Evaluate liveness and face match on the sample people and generated attacks; writes docs/evaluation.md
	$(BIN)/python -m bench.evaluation $(EVAL)

.PHONY: fuzz
fuzz: setup ## Send every REST operation of the running mesh much more of what it allows and does not (FINID_FUZZ_SEED)
	FINID_FUZZ_EXAMPLES=$${FINID_FUZZ_EXAMPLES:-300} $(BIN)/pytest tests/e2e/test_openapi.py

.PHONY: clean
clean: ## Remove the mesh's state and var/ (not .venv)
	@$(PYTHON) -m deploy.local.clean
