# Two commands: `make demo` shows it at work, `make test` runs the tests. Each makes the environment it needs.
PYTHON ?= python3
VENV := .venv
# The same SDK one major version back, on httpx instead of httpx2: tests run its scripts, too.
OLDER := .venv-openai2
# LiteLLM and all it brings, for the tests of its callback: too heavy for everybody's environment.
LITELLM := .venv-litellm
# Other instrumentations, whose spans the sink reads. openlit refuses the newest SDKs, so there are two.
DIALECTS := .venv-dialects
DIALECTS_NEWER := .venv-dialects-newer

ifneq ($(shell command -v uv 2>/dev/null),)
  make_venv = uv venv -q --allow-existing --python $(PYTHON) $(1)
  install = uv pip install -q --python $(1)/bin/python -c constraints.txt
else
  make_venv = $(PYTHON) -m venv $(1)
  install = $(1)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt
endif

.PHONY: demo test test-slow lint bench clean python-is-new-enough

demo: $(VENV)/.demo
	@$(VENV)/bin/llmlog demo

test: $(VENV)/.test $(OLDER)/.test
	$(VENV)/bin/python -m pytest -n 2

test-slow: $(VENV)/.test $(OLDER)/.test $(LITELLM)/.test $(DIALECTS)/.test $(DIALECTS_NEWER)/.test
	$(VENV)/bin/python -m pytest -m slow

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/.test
	@for script in benchmarks/*.py; do echo "== $$script"; $(VENV)/bin/python $$script || exit 1; done

clean:
	rm -rf $(VENV) $(OLDER) $(LITELLM) $(DIALECTS) $(DIALECTS_NEWER) .cache

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

$(DIALECTS)/.test: pyproject.toml tests/dialects/requirements.txt tests/dialects/constraints.txt | python-is-new-enough
	@$(call make_venv,$(DIALECTS))
	@$(subst -c constraints.txt,-c tests/dialects/constraints.txt,$(call install,$(DIALECTS))) -e . -r tests/dialects/requirements.txt
	@touch $@

$(DIALECTS_NEWER)/.test: pyproject.toml tests/dialects/requirements-newer.txt tests/dialects/constraints-newer.txt | python-is-new-enough
	@$(call make_venv,$(DIALECTS_NEWER))
	@$(subst -c constraints.txt,-c tests/dialects/constraints-newer.txt,$(call install,$(DIALECTS_NEWER))) -e . -r tests/dialects/requirements-newer.txt
	@touch $@
