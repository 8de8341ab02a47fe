GO ?= go
LINT ?= golangci-lint
FUZZTIME ?= 5s
SOAKTIME ?= 10m
# More arguments for go test, for example TESTFLAGS=-count=1.
TESTFLAGS ?=

# The directories of the nested modules.
NESTED = $$(find . -name go.mod ! -path ./go.mod ! -path '*/.*/*' ! -path '*/testdata/*' ! -path '*/node_modules/*' -exec dirname {} \; | sort)

.PHONY: test race lint fuzz bench soak powerloss nested cross

test:
	$(GO) vet ./...
	$(GO) test $(TESTFLAGS) ./...

race:
	$(GO) test -race $(TESTFLAGS) ./...

lint:
	$(LINT) run ./...

# go test fuzzes one target of one package at a time; three of them go on at once.
fuzz:
	@list=$$($(GO) test -list '^Fuzz' ./...) || { printf '%s\n' "$$list"; exit 1; }; \
	printf '%s\n' "$$list" | \
	awk '/^Fuzz/ { t[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, t[i]; n = 0 }' | \
	GO=$(GO) FUZZTIME=$(FUZZTIME) xargs -n 2 -P 3 .ci/fuzz

bench:
	cd bench && $(GO) run .

soak:
	$(GO) run ./internal/soak -for $(SOAKTIME)

# For root on Linux.
powerloss:
	$(GO) run ./internal/powerloss

nested:
	@for dir in $(NESTED); do \
		echo "test $$dir"; \
		(cd "$$dir" && $(GO) vet ./... && $(GO) test $(TESTFLAGS) ./...) || exit 1; \
	done

# go vet also compiles the tests.
cross:
	@for os in windows darwin; do for dir in . $(NESTED); do \
		echo "$$os $$dir"; \
		(cd "$$dir" && GOOS=$$os $(GO) build -o /dev/null ./... && GOOS=$$os $(GO) vet ./...) || exit 1; \
	done; done
