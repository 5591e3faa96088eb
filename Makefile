# Every target first runs `setup`, which does nothing when there is nothing to do.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
# Where images of Python set it, every process that a target starts would compile all it imports, each time.
unexport PYTHONDONTWRITEBYTECODE
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

# Three lanes on two cores. What is judged by the clock, as a person's camera is, goes before the rest, which is nice; and the
# browser's people have the machine for themselves.
LANES := lane-clock lane-rooms lane-rest
.PHONY: test $(LANES)
test: setup ## Lint, then unit, integration, e2e and browser tests
	@failed=0; $(MAKE) --jobs=3 --keep-going $(LANES) || failed=1; $(MAKE) pytest-browser || failed=1; exit $$failed
lane-clock:
	@failed=0; for tests in pytest-page pytest-mesh; do $(MAKE) $$tests || failed=1; done; exit $$failed
lane-rooms:
	@nice -n 15 $(MAKE) pytest-rooms
lane-rest:
	@failed=0; for tests in lint pytest-rest; do nice -n 15 $(MAKE) $$tests || failed=1; done; exit $$failed

ROOMS := auth_gateway ca facematch liveness otp portal registry signer
PYTEST = set -o pipefail; PYTHONUNBUFFERED=1 $(BIN)/pytest
.PHONY: pytest-page pytest-rooms pytest-rest pytest-mesh pytest-browser
pytest-page pytest-rooms pytest-rest pytest-mesh pytest-browser: SHELL := /bin/bash
pytest-page:
	@$(PYTEST) tests/browser -m "not mesh" | sed --unbuffered 's/^/page  | /'
pytest-rooms:
	@$(PYTEST) $(ROOMS:%=tests/%) | sed --unbuffered 's/^/rooms | /'
pytest-rest:
	@$(PYTEST) $(patsubst %,--ignore=tests/%,browser e2e $(ROOMS)) | sed --unbuffered 's/^/rest  | /'
pytest-mesh:
	@$(PYTEST) tests/e2e | sed --unbuffered 's/^/mesh  | /'
pytest-browser:
	@$(PYTEST) tests/browser -m mesh | sed --unbuffered 's/^/clock | /'

.PHONY: images-check
images-check: setup ## Build every image by its Dockerfile without Docker (root, debootstrap), judge it, run the mesh from them
	$(BIN)/python -m deploy.images check

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

.PHONY: k8s
k8s: setup ## Check deploy/k8s without a cluster: builds, schemas of two Kubernetes versions, what the code reads
	$(BIN)/pytest -q tests/k8s

.PHONY: gen
gen: setup ## Generate gen/ from proto/
	$(BIN)/python proto/generate.py

.PHONY: proto-release
proto-release: gen ## Accept the protos of now as what later ones may not break
	$(BIN)/python proto/generate.py --image proto/released.binpb

# What promtool and the tests of rules, runbooks and dashboards say; `test` runs them as well.
.PHONY: rules
rules: setup ## Write alert rules and dashboards from deploy/observability, and check them with promtool
	$(BIN)/python -m deploy.observability
	$(BIN)/pytest tests/observability

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
