# bulkhead: `make demo` shows it, `make test` proves it, `make help` lists the rest.

GO       ?= go
VERSION  ?= 0.1.0-dev
LDFLAGS  := -s -w -X main.version=$(VERSION)
# One set of flags for builds and tests: the Azure SDK that the Pulumi package needs takes
# minutes and 5.5 GB of memory to compile, once for each set. Releases alone strip paths
# (.goreleaser.yml, bundle).
export CGO_ENABLED := 0
FUZZTIME ?= 30s
# A directory with published service-tag files and threat feeds, for the tests that read them.
export BULKHEAD_DATA ?= $(abspath $(wildcard ../shared/data))
SOAKTIME ?= 20m
CLIENTS  := bin/clients
TWIN     := bin/twin

# What the lab's clients and comparisons need beside Go: Debian's package for each
# program. Nothing is installed that is already there.
NEEDS := curl:curl python3:python3 node:nodejs npm:npm java:openjdk-17-jdk-headless javac:openjdk-17-jdk-headless mvn:maven nft:nftables openssl:openssl

# The gateway's release archive: the same bytes from the same source.
BUNDLE := dist/bulkhead-gateway_$(VERSION)_linux_amd64.tar.gz

.PHONY: help build bundle image schema sdks demo test lint fuzz bench bench-go soak deps twin clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## static binaries in bin/
	@mkdir -p bin
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/ ./gateway/cmd/bulkhead ./components/cmd/pulumi-resource-bulkhead

schema: ## schema.json from the Go types of the Pulumi package
	$(GO) test -count=1 -run '^TestSchemaIsCommitted$$' ./components/provider -update

sdks: ## sdk/ for Go, TypeScript, Python, C# and Java from schema.json; sdk/nodejs/bin is what npm installs
	$(GO) run ./sdk/gen -version $(VERSION)
	cd sdk/gen/java && $(GO) run . -version $(VERSION)
	cd sdk/gen/dotnet && $(GO) run . -version $(VERSION)
	cd sdk/nodejs && npm install --silent --ignore-scripts --no-package-lock --no-audit --no-fund && npx tsc && cp package.json README.md bin/ && rm -rf node_modules

bundle: ## the gateway's release archive in dist/: what a gateway's machine fetches
	@rm -rf dist/bundle && mkdir -p dist/bundle/bin dist/bundle/systemd
	GOOS=linux GOARCH=amd64 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o dist/bundle/bin/bulkhead ./gateway/cmd/bulkhead
	@install -m 0644 gateway/image/bulkhead.service gateway/image/bulkhead-lockdown.service dist/bundle/systemd/ && install -m 0644 LICENSE dist/bundle/
	@tar --create --directory dist/bundle --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX LICENSE bin systemd | gzip -9 --no-name >$(BUNDLE)
	@rm -rf dist/bundle; sha256sum $(BUNDLE)

image: ## an image of the static binary in dist/, for the canary's job: push it into a registry of your own
	@mkdir -p dist/image
	GOOS=linux GOARCH=amd64 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o dist/image/bulkhead ./gateway/cmd/bulkhead
	cd gateway/image/oci && $(GO) run . -binary $(CURDIR)/dist/image/bulkhead -out $(CURDIR)/dist/bulkhead-image_$(VERSION)_linux_amd64.tar -tag bulkhead:$(VERSION)
	@rm -rf dist/image

demo: build ## the main job, end to end, in about a minute; after `make twin` from pulumi up to pulumi destroy
	@if [ -x $(TWIN)/demo ]; then \
		$(MAKE) --no-print-directory bundle >/dev/null && $(GO) build -o $(TWIN)/demo ./tests/twin/cmd/demo && $(TWIN)/demo -bundle $(BUNDLE); \
	else \
		bin/bulkhead lab demo && \
		printf '\nThat was the gateway alone. Once `make twin` has built the Pulumi engine (minutes, once), make demo\nbegins with pulumi up and ends with pulumi destroy.\n'; \
	fi

test: deps twin build ## every test: tables, golden files, properties, the lab with real clients
	$(GO) test -count=1 -timeout 20m ./...
	cd gateway/image/oci && $(GO) test -count=1 . # a module of its own

lint: ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt these files:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck $$($(GO) list ./... | grep -v /sdk/go/) # that is generated

fuzz: ## every fuzz test for FUZZTIME each (30s)
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

bench: ## the gateway beside its peers, as root, 13 minutes; writes docs/benchmarks.md (QUICK=1: a rough look, in four)
	$(GO) run ./tests/bench $(if $(QUICK),-quick)

bench-go: ## Go benchmarks of the evaluator, the peek, the pins and the audit, with their spread
	@mkdir -p dist
	$(GO) test -run '^$$' -bench . -benchmem -count 6 ./gateway/... ./corednsplugin/... >dist/bench.txt || { cat dist/bench.txt; exit 1; }
	$(GO) tool benchstat dist/bench.txt

soak: ## traffic, reloads and kills for SOAKTIME (20m) in the background, log in bin/soak.log (FG=1: wait for it)
	@mkdir -p bin
	$(GO) build -o bin/soak ./tests/soak
ifdef FG
	bin/soak -for $(SOAKTIME)
else
	@nohup bin/soak -for $(SOAKTIME) >bin/soak.log 2>&1 </dev/null & \
	echo "soaking for $(SOAKTIME) as process $$!; progress and the table at the end: $(CURDIR)/bin/soak.log"
endif

deps: ## install the clients that the lab's tests use
	@missing=; python3 -c 'import ensurepip' 2>/dev/null || missing=" python3-venv"; PATH=/usr/bin:/bin python3 -c 'import yaml' 2>/dev/null || missing="$$missing python3-yaml"; for need in $(NEEDS); do command -v $${need%%:*} >/dev/null 2>&1 || missing="$$missing $${need##*:}"; done; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing"; \
		if [ "$$(id -u)" != 0 ]; then echo "install these packages as root:$$missing" >&2; exit 1; fi; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
	@$(MAKE) --no-print-directory $(CLIENTS)/python $(CLIENTS)/node

twin: ## what the Pulumi package is tested with: the engine (minutes, once), a storage emulator, compilers' libraries
	@$(MAKE) --no-print-directory $(TWIN)/azurite $(TWIN)/node $(TWIN)/python $(TWIN)/m2
	$(GO) run ./tests/twin/engine/cmd/engine
	$(GO) build -o $(TWIN)/demo ./tests/twin/cmd/demo && $(TWIN)/demo -prepare

# Libraries that agents are written with, for tests/decrypt, in the versions named there.
$(CLIENTS)/python: tests/decrypt/clients/python/requirements.txt
	@echo "installing $<"
	@rm -rf $@ && python3 -m venv $@.new && $@.new/bin/pip install -q --disable-pip-version-check -r $< && mv $@.new $@ && touch $@

$(CLIENTS)/node: tests/decrypt/clients/node/package.json
	@echo "installing $<"
	@rm -rf $@ $@.new && mkdir -p $@.new && cp $< $@.new && cd $@.new && npm install --silent --no-package-lock --no-audit --no-fund && mv ../node.new ../node && touch ../node

# Microsoft's emulator of blob storage, behind tests/twin/blobs. Its optional parts are a
# database and telemetry.
$(TWIN)/azurite: tests/twin/blobs/package.json
	@echo "installing $<"
	@rm -rf $@ $@.new && mkdir -p $@.new && cp $< $@.new && cd $@.new && npm install --silent --ignore-scripts --omit=optional --no-package-lock --no-audit --no-fund && mv ../azurite.new ../azurite && touch ../azurite

# What the generated SDKs and the examples are compiled and run with.
$(TWIN)/node: tests/sdk/package.json
	@echo "installing $<"
	@rm -rf $@ $@.new && mkdir -p $@.new && cp $< $@.new && cd $@.new && npm install --silent --ignore-scripts --no-package-lock --no-audit --no-fund && mv ../node.new ../node && touch ../node

$(TWIN)/python: tests/sdk/requirements.txt
	@echo "installing $<"
	@rm -rf $@ && python3 -m venv $@.new && $@.new/bin/pip install -q --disable-pip-version-check -r $< && mv $@.new $@ && touch $@

$(TWIN)/m2: sdk/java/pom.xml examples/java/pom.xml
	@echo "installing $^"
	@MAVEN_OPTS=-Dmaven.repo.local=$(abspath $@) && export MAVEN_OPTS && mvn -q --batch-mode -f sdk/java install && \
		mvn -q --batch-mode -f examples/java compile exec:help >/dev/null && rm -rf sdk/java/target examples/java/target && touch $@

clean: ## remove what was built
	rm -rf bin dist
