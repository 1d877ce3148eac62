# mk: `make up` starts a node, `make test` runs every test that CI runs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

OUT        := $(CURDIR)/out
VERSION    ?= 0.1.0
KUBERNETES := v1.36.3
# One set of flags for everything: other flags compile the world again. What debuggers read is not made: it takes a tenth
# of the compiler's time, and programs are stripped of it.
export GOFLAGS     := -trimpath -gcflags=all=-dwarf=false
export GOTOOLCHAIN := local
export CGO_ENABLED ?= 0
export PATH        := $(OUT)/tools:$(PATH)

PLUGINS := $(notdir $(wildcard plugins/*-*))
LDFLAGS := -s -w -X mk8s.io/mk/core/version.Version=$(VERSION) -X mk8s.io/mk/core/version.Built=$(shell git log -1 --format=%ct 2>/dev/null || echo 0)

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

## ---- the README's two commands

up: deps build ## install what is missing, build everything, start a node
	@$(OUT)/bin/mk start
	@$(OUT)/bin/mk enable dns
	@$(OUT)/bin/mk status

test: dist testtools check test-kills test-systemd test-api test-cluster bench-smoke ## every test that CI runs

## ---- build

# The compiler collects garbage less often: mk alone takes a twentieth less processor time; the whole build stays within 8 GB.
GO_BUILD := GOGC=400 go
# What a long build is at. Lines that are not a package's name, errors among them, stay.
progress = 2>&1 | awk '/^go: downloading /{next} /^[[:alnum:]_.~\/-]+$$/{if (++n % 100 == 0) {print "$(1): " n " packages compiled"; fflush()}; next} {print; fflush()}' >&2

DEBS := gcc libc6-dev libseccomp-dev pkg-config make git iptables nftables conntrack ipset ethtool socat iproute2 mount util-linux openssl python3 python3-yaml python3-grpcio python3-protobuf python3-cryptography curl procps debootstrap
deps: ## install the Debian packages that are missing
	@missing=$$(for p in $(DEBS); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q '^install ok' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" != 0 ]; then echo "mk: these Debian packages are missing: "$$missing; echo "next  sudo apt-get install "$$missing; exit 50; fi; \
		echo "installing" $$missing; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

build: mk plugins ## build programs, plugins and images into out/
	@# side by side: while one is linked or waits for the network, the other compiles
	@$(MAKE) --no-print-directory -j2 kubelite parts

mk: ## build the command line
	@mkdir -p $(OUT)/bin
	@# without the tag, the command line's library brings a writer of manuals, which every start prepares
	$(GO_BUILD) build -v -buildvcs=false -tags urfave_cli_no_docs -ldflags '$(LDFLAGS)' -o $(OUT)/bin/mk ./cmd/mk $(call progress,mk)

plugins: ## build the plugins that ship, with their manifests
	@for p in $(PLUGINS); do \
		mkdir -p $(OUT)/plugins/$$p/bin; \
		go build -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o $(OUT)/plugins/$$p/bin/$${p#*-} ./plugins/$$p; \
		$(OUT)/plugins/$$p/bin/$${p#*-} --manifest > $(OUT)/plugins/$$p/plugin.yaml; \
	done
	@cp plugins/defaults $(OUT)/plugins/defaults

# Both packages hold a version; without these, kubectl says v0.0.0-master.
kubeversion = $(foreach p,k8s.io/component-base/version k8s.io/client-go/pkg/version,\
	-X $(p).gitVersion=$(KUBERNETES) -X $(p).gitMajor=1 -X $(p).gitMinor=36 -X $(p).gitTreeState=clean)

kubelite: ## build Kubernetes, etcd and kubectl as one program (minutes the first time)
	@mkdir -p $(OUT)/bin
	$(GO_BUILD) -C cmd/kubelite build -v -buildvcs=false -ldflags '-s -w $(kubeversion)' -o $(OUT)/bin/kubelite . $(call progress,kubelite)

testtools: ## build the third-party judges that tests use: kubeadm, zlint
	@mkdir -p $(OUT)/testbin
	go -C cmd/kubelite build -buildvcs=false -ldflags '-s -w $(kubeversion)' -o $(OUT)/testbin/kubeadm ./kubeadm
	@cmd/parts/build.sh $(OUT) testtools

parts: ## build containerd, runc, the CNI plugins, flanneld and the images
	@cmd/parts/build.sh $(OUT)

## ---- the distribution

DIST := mk-$(VERSION)-linux-amd64
# The same sources and Go make the same bytes: names sorted, times those of the commit, modes nobody's umask.
dist: build archive ## write the reproducible archive that ./install installs, into out/

archive:
	@rm -rf $(OUT)/$(DIST) && mkdir -p $(OUT)/$(DIST)/completions
	@cp -a $(OUT)/bin $(OUT)/plugins $(OUT)/images $(OUT)/$(DIST)/
	@cp -R install README.md CHANGELOG.md CONTRIBUTING.md SCOPE.md docs $(OUT)/$(DIST)/
	@for s in bash zsh fish; do $(OUT)/bin/mk completion $$s > $(OUT)/$(DIST)/completions/mk.$$s; done
	@cp $(OUT)/parts.txt $(OUT)/$(DIST)/parts.txt
	@go run -buildvcs=false -ldflags '$(LDFLAGS)' ./cmd/units $(OUT) $(OUT)/$(DIST)/units
	@cd $(OUT)/$(DIST) && find . -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort | xargs sha256sum > SHA256SUMS
	@tar -C $(OUT) --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime=@$$(git log -1 --format=%ct) -cf - $(DIST) | gzip -n > $(OUT)/$(DIST).tar.gz
	@rm -rf $(OUT)/$(DIST); cd $(OUT) && sha256sum $(DIST).tar.gz | tee $(DIST).tar.gz.sha256

## ---- tests

TOOLS := $(OUT)/tools
tools: ## build the programs that check and generate
	@mkdir -p $(TOOLS)
	@go -C tests/tools build -o $(TOOLS)/ github.com/bufbuild/buf/cmd/buf google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc honnef.co/go/tools/cmd/staticcheck

check: tools testtools generate-check ## format, vet, staticcheck and the unit tests with the race detector
	@unformatted=$$(gofmt -l core cmd/mk plugins pluginsdir sdk tests | grep -v '\.pb\.go$$' || true); \
	if [ -n "$$unformatted" ]; then echo "gofmt these:" $$unformatted; exit 1; fi
	go vet ./...
	go vet -tags cluster ./tests/cluster
	go vet -tags crashpoint ./cmd/mk
	$(TOOLS)/staticcheck ./core/... ./cmd/mk/... ./plugins/... ./pluginsdir/... ./sdk/... ./tests/...
	CGO_ENABLED=1 go test -race -timeout 20m ./...
	@go test -count=1 -v -run TestSizeOfCore ./tests/house | sed -n 's/^ *size_test.go:[0-9]*: *//p'
	cd tests/vendors && go vet ./... && $(TOOLS)/staticcheck ./... && go test -timeout 5m ./...

generate: tools ## regenerate the protobuf code
	cd sdk/proto && buf generate

generate-check: tools ## lint the contracts, compare them with the released ones, see that the code is current
	cd sdk/proto && buf lint && buf breaking --against testdata/released.binpb && buf generate && git diff --exit-code .

test-kills: ## kill mk before every single write of start, refresh-certs and plugin use, with stub services
	MK_CHAOS=1 go test -count=1 -run TestKilledAnywhere -timeout 30m ./core/operation

test-cluster: dist testtools ## the tests with real Kubernetes (root)
	go test -tags cluster -count=1 -timeout 60m ./tests/cluster/...

test-systemd: dist ## the service tests, and a node, under a real systemd (root)
	@$(MAKE) --no-print-directory -C tests/systemd

test-api: kubelite ## the tests of core/kube and core/datastore against a real API server and a real etcd, and of the work on a datastore's files (root)
	MK_OUT=$(OUT) go test -tags realapi -count=1 -timeout 10m ./core/kube ./core/datastore
	go -C cmd/kubelite test -count=1 -timeout 5m ./await ./offline ./drain ./multicall ./lifecycle ./removed


BENCH = go build -buildvcs=false -o $(OUT)/testbin/bench ./tests/bench && $(OUT)/testbin/bench
bench: build testtools ## measure mk beside what can be had without it, and print a table (root, about 10 minutes)
	@$(BENCH)

bench-smoke: build testtools ## the same, briefly: it fails where a row cannot be measured or is far from its aim (root)
	@$(BENCH) -smoke

FUZZTIME ?= 10s
fuzz: ## feed each parser what nobody would write, FUZZTIME each (10s: about 10 minutes)
	@grep -rl --include='*_test.go' '^func Fuzz' core cmd/mk plugins pluginsdir sdk | while read -r file; do \
		sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file | while read -r name; do \
			echo "$$(dirname $$file) $$name"; \
			go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) > $(OUT)/fuzz.log < /dev/null 2>&1 || { cat $(OUT)/fuzz.log; exit 1; }; \
		done || exit 1; \
	done

chaos: build ## kill mk on both sides of a join and a leave at every record; with real Kubernetes, before and behind every record of the journal; wait until every program asks with its renewed certificate (root)
	MK_CHAOS=1 go test -tags cluster -count=1 -run TestKilledStandIns -timeout 120m ./tests/cluster
	MK_CHAOS=1 go test -tags cluster -count=1 -run 'TestKilled$$' -timeout 60m ./tests/cluster
	MK_CHAOS=1 go test -tags cluster -count=1 -run TestTime -timeout 20m ./tests/cluster

.PHONY: bench bench-smoke chaos fuzz help up test dist archive deps build mk plugins kubelite testtools parts tools check test-kills generate generate-check test-cluster test-systemd test-api
