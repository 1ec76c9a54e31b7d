# Tenor's build. `make help` lists what a person runs; everything else is a file rule.
#   BUILD=dir   where objects go (default build)        SAN=address|thread|undefined   a separate sanitizer build
#   T=name      with `make test`: only the tests whose name contains it

CC       = gcc
SAN     ?=
BUILD   ?= build$(if $(SAN),/$(SAN))
FOLDERS  = base tensor learn store queue gateway scheduler worker admin

WARN = -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla \
       -Wformat=2 -Wundef -Wwrite-strings -Wnull-dereference -Wduplicated-cond -Wlogical-op \
       -Wimplicit-fallthrough -Wdouble-promotion -Wcast-qual
OPT  = $(if $(SAN),-O1 -fsanitize=$(SAN) $(if $(filter address,$(SAN)),-fsanitize=undefined) -fno-sanitize-recover=all,-O2)
HARD = $(if $(SAN),,-D_FORTIFY_SOURCE=2) -fstack-protector-strong -fPIE
CFLAGS = -std=c17 -D_GNU_SOURCE -I. -I/usr/include/postgresql -g -fno-omit-frame-pointer -pthread $(OPT) $(HARD) $(WARN) $(EXTRA)
LDFLAGS = -pie -Wl,-z,relro,-z,now -pthread $(if $(SAN),-fsanitize=$(SAN) $(if $(filter address,$(SAN)),-fsanitize=undefined))

# ---- sources --------------------------------------------------------------------------------------------------
# A file named *_main.c holds a binary's main(); everything else in a folder goes into that folder's archive.
# learn/ is two archives: liblearn holds what needs the tensor core, and learn/spec and learn/data, which need
# neither the tensor core nor BLAS, go into libspec, all that a gateway links of it.
sources  = $(filter-out %_main.c,$(shell find $(1) -name '*.c' 2>/dev/null | sort))
SPEC_SRC = $(call sources,learn/spec learn/data)
src_of   = $(if $(filter spec,$(1)),$(SPEC_SRC),$(if $(filter learn,$(1)),$(filter-out $(SPEC_SRC),$(call sources,learn)),$(call sources,$(1))))
LIBS     = base tensor spec learn store queue gateway scheduler worker admin
lib      = $(BUILD)/lib$(1).a

define archive
$(BUILD)/lib$(1).a: $(patsubst %.c,$(BUILD)/%.o,$(call src_of,$(1)))
	@rm -f $$@; ar qcs $$@ $$^
endef
$(foreach l,$(LIBS),$(eval $(call archive,$(l))))

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  cc $<"
	@$(CC) $(CFLAGS) $(CFLAGS_$(firstword $(subst /, ,$<))) -MMD -MP -c -o $@ $<

# The tensor core's loops are arithmetic: they want -O3, and no errno or trapping semantics, but exact IEEE order.
CFLAGS_tensor = $(if $(SAN),,-O3) -fno-math-errno -fno-trapping-math
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# ---- binaries -------------------------------------------------------------------------------------------------
BINS = tenor-gateway tenor-scheduler tenor-worker tenor-runner tenor
main_tenor-gateway   = gateway/gateway_main
main_tenor-scheduler = scheduler/scheduler_main
main_tenor-worker    = worker/worker_main
main_tenor-runner    = worker/runner_main
main_tenor           = admin/tenor_main
libs_tenor-gateway   = gateway spec store queue base
libs_tenor-scheduler = scheduler store queue base
libs_tenor-worker    = worker learn spec tensor store queue base
libs_tenor-runner    = worker learn spec tensor base
libs_tenor           = admin store queue base
ext_tenor-gateway    = -lpq -lhiredis -levent_pthreads -levent -lssl -lcrypto -lcjson -lz -lm
ext_tenor-scheduler  = -lpq -lhiredis -lssl -lcrypto -lcjson -lm
ext_tenor-worker     = -lpq -lhiredis -levent -lcrypto -lcjson -lopenblas -lz -lm
ext_tenor-runner     = -lcrypto -lcjson -lopenblas -lseccomp -lz -lm
ext_tenor            = -lpq -lhiredis -lcurl -lcrypto -lcjson -lz -lm

define binary
$(BUILD)/bin/$(1): $(BUILD)/$(main_$(1)).o $(foreach l,$(libs_$(1)),$(call lib,$(l)))
	@mkdir -p $$(@D)
	@echo "  ld $$@"
	@$(CC) $(LDFLAGS) -o $$@ $$< -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $(ext_$(1))
endef
$(foreach b,$(BINS),$(eval $(call binary,$(b))))

# ---- unit tests: tests/unit/<folder>/test_<noun>.c, each a cmocka program -----------------------------------------
UNIT_SRC = $(sort $(wildcard tests/unit/*/test_*.c))
UNIT_BIN = $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_SRC))
UNIT_AID = $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(UNIT_SRC),$(sort $(wildcard tests/unit/*.c tests/unit/*/*.c))))
unit_ext = -lcmocka -lpq -lhiredis -levent_pthreads -levent -lssl -lcrypto -lcjson -lopenblas -lseccomp -lz -lm

# A test of folder X links the archives that X may include, so a forbidden arrow fails at link time too.
unit_libs_base      = base
unit_libs_tensor    = tensor base
unit_libs_learn     = learn spec tensor base
unit_libs_store     = store base
unit_libs_queue     = queue base
unit_libs_gateway   = gateway spec store queue base
unit_libs_scheduler = scheduler store queue base
unit_libs_worker    = worker learn spec tensor store queue base
unit_libs_admin     = admin store queue base

# The folders that compute can be tested as on a lesser CPU (make test-kernels).
unit_aid_tensor = $(BUILD)/tests/unit/kernel_level.o
unit_aid_learn  = $(BUILD)/tests/unit/kernel_level.o

define unit_rule
$(BUILD)/unit/$(1)/%: $(BUILD)/tests/unit/$(1)/%.o $(filter $(BUILD)/tests/unit/$(1)/% $(unit_aid_$(1)),$(UNIT_AID)) $(foreach l,$(unit_libs_$(1)),$(call lib,$(l)))
	@mkdir -p $$(@D)
	@$(CC) $(LDFLAGS) -o $$@ $$(filter %.o,$$^) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $(unit_ext)
endef
$(foreach f,$(FOLDERS),$(eval $(call unit_rule,$(f))))

.DEFAULT_GOAL = all
.PHONY: all unit
.SECONDARY:
all: $(addprefix $(BUILD)/bin/,$(BINS))
unit: $(UNIT_BIN)
	@tests/run-unit $(BUILD)/unit $(T)

# ---- what a person runs -------------------------------------------------------------------------------------------
.PHONY: help setup setup-test demo up down status test test-kernels test-threads run-threads e2e lint format check-format tidy cppcheck arrows fuzz install clean
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | sort | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: ## install missing Debian packages, for building and running
	@deploy/setup.sh
setup-test: ## the same, for testing too
	@deploy/setup.sh test

JOBS = -j$(shell nproc)
demo: setup ## the whole road on real data; KEEP=1 leaves the platform up
	@$(MAKE) --no-print-directory $(JOBS) all
	@$(BUILD)/bin/tenor demo $(if $(KEEP),--keep)
up: setup ## start the platform in TENOR_HOME (default ./var)
	@$(MAKE) --no-print-directory $(JOBS) all
	@$(BUILD)/bin/tenor up
down: ## stop it
	@$(BUILD)/bin/tenor down
status: ## what runs
	@$(BUILD)/bin/tenor status

# With T=name: the unit programs and the end-to-end tests whose name contains it.
test: setup-test ## all tests, or T=name
	@$(MAKE) --no-print-directory $(JOBS) all
	@$(MAKE) --no-print-directory $(JOBS) $(UNIT_BIN)
	@tests/run-all $(BUILD) $(T)
test-kernels: $(filter $(BUILD)/unit/tensor/% $(BUILD)/unit/learn/%,$(UNIT_BIN)) ## tensor and learn as on a CPU without AVX-512, without AVX2
	@tests/run-levels $(BUILD) $(T)
# The folders with threads, in a build of their own. The scheduler's simulator has one thread and takes minutes there;
# so do training runs, so that the runner is the plain one.
THREAD_UNIT = $(filter-out %/test_policy_sim,$(foreach f,base queue gateway scheduler worker,$(filter $(BUILD)/unit/$(f)/%,$(UNIT_BIN))))
test-threads: setup-test ## gateway, worker, scheduler under the thread sanitizer, or T=name
	@$(MAKE) --no-print-directory $(JOBS) $(BUILD)/bin/tenor-runner
	@TENOR_RUNNER=$(abspath $(BUILD)/bin/tenor-runner) $(MAKE) --no-print-directory $(JOBS) SAN=thread BUILD=$(BUILD)/thread run-threads
run-threads: all $(THREAD_UNIT)
	@tests/run-threads $(BUILD) $(T)
e2e: all ## the end-to-end tests alone
	@TENOR_BIN=$(abspath $(BUILD)/bin) /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/e2e $(if $(T),-k $(T))

C_FILES = $(shell find $(FOLDERS) -name "*.c" | sort)
CH_FILES = $(shell find $(FOLDERS) tests bench -name '*.[ch]' | sort)
lint: setup-test ## clang-format, clang-tidy, cppcheck and the include arrows
	@$(MAKE) --no-print-directory check-format arrows cppcheck
	@$(MAKE) --no-print-directory $(JOBS) tidy
check-format:
	@clang-format --dry-run -Werror $(CH_FILES) && echo "clang-format: clean"
format: ## rewrite the sources as .clang-format says
	@clang-format -i $(CH_FILES)
arrows:
	@/usr/bin/python3 tests/include_arrows.py
cppcheck:
	@mkdir -p build/cppcheck
	@cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 -j $(shell nproc) \
	    --cppcheck-build-dir=build/cppcheck --suppressions-list=.cppcheck -D_GNU_SOURCE -I. $(FOLDERS) && echo "cppcheck: clean"
tidy: $(patsubst %.c,build/tidy/%.ok,$(C_FILES))
	@echo "clang-tidy: clean"
build/tidy/%.ok: %.c .clang-tidy
	@mkdir -p $(@D)
	@echo "  tidy $<"
	@clang-tidy --quiet $< -- -std=c17 -D_GNU_SOURCE -I. -I/usr/include/postgresql 2>/dev/null
	@touch $@

PREFIX = /usr/local
install: all ## into PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/tenor/migrations
	install -m 755 $(addprefix $(BUILD)/bin/,$(BINS)) $(DESTDIR)$(PREFIX)/bin
	install -m 644 migrations/*.sql $(DESTDIR)$(PREFIX)/share/tenor/migrations
clean: ## remove what was built
	rm -rf build

# ---- fuzzing: clang's libFuzzer over the parsers of what comes from outside -----------------------------------------
FUZZ_SECONDS = 30
FUZZ_BIN = $(patsubst tests/fuzz/%.c,build/fuzz/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
fuzz: setup-test ## run each fuzz target for FUZZ_SECONDS (30)
	@$(MAKE) --no-print-directory $(JOBS) BUILD=build/fuzz CC=clang WARN=-w HARD= \
	    OPT="-O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all" $(FUZZ_BIN)
	@for f in $(FUZZ_BIN); do mkdir -p $$f.corpus; echo "== $$f"; \
	    $$f -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 -print_final_stats=0 -artifact_prefix=$$f. $$f.corpus >$$f.log 2>&1 \
	        || { tail -40 $$f.log; exit 1; }; tail -1 $$f.log; done
build/fuzz/fuzz_%: build/fuzz/tests/fuzz/fuzz_%.o $(foreach l,gateway learn spec tensor store queue base,build/fuzz/lib$(l).a)
	@clang -fsanitize=fuzzer,address,undefined -pthread -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
	    -lpq -lhiredis -levent_pthreads -levent -lssl -lcrypto -lcjson -lopenblas -lz -lm
# gcc takes these from a pragma that clang does not know.
build/fuzz/tensor/kernel/avx2.o: EXTRA += -mavx2 -mfma
build/fuzz/tensor/kernel/avx512.o: EXTRA += -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma

# ---- benchmarks: bench/README.md says what each measures ------------------------------------------------------
BENCH_HELPERS = $(addprefix $(BUILD)/bench/,export ceiling poisson zipf_fill)
ext_bench     = -lpq -lhiredis -levent_openssl -levent -lssl -lcrypto -lcjson -lopenblas -lz -lm
$(BUILD)/bench/export $(BUILD)/bench/zipf_fill: $(foreach l,$(libs_tenor-worker),$(call lib,$(l)))
$(BENCH_HELPERS): $(BUILD)/bench/%: $(BUILD)/bench/predict/%.o
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(ext_bench)
.PHONY: bench-predict
bench-predict: ## the predict road against Flask + PyTorch; QUICK=1 for two minutes
	@deploy/setup.sh bench
	@$(MAKE) --no-print-directory $(JOBS) all $(BENCH_HELPERS)
	@/usr/bin/python3 bench/predict/bench.py --bin $(BUILD)/bin --helpers $(BUILD)/bench --out $(BUILD)/bench/predict.json $(if $(QUICK),--quick)

# What many models on one worker do to each other: no peer, so apart from bench-predict.
bench_own = @/usr/bin/python3 bench/predict/$(1).py --bin $(BUILD)/bin --helpers $(BUILD)/bench --out $(BUILD)/bench/predict.json $(if $(QUICK),--quick)
.PHONY: bench-neighbour bench-zipf
bench-neighbour: ## a small model's tail while large ones load; QUICK=1
	@deploy/setup.sh bench
	@$(MAKE) --no-print-directory $(JOBS) all $(BENCH_HELPERS)
	$(call bench_own,neighbour)
bench-zipf: ## 5,000 models, 1,000 of them resident, a Zipf mix; QUICK=1
	@deploy/setup.sh bench
	@$(MAKE) --no-print-directory $(JOBS) all $(BENCH_HELPERS)
	$(call bench_own,zipf)

.PHONY: bench-overload
bench-overload: ## three times the load that can be served, and a greedy neighbour; QUICK=1
	@deploy/setup.sh bench
	@$(MAKE) --no-print-directory $(JOBS) all $(BUILD)/bench/poisson
	@/usr/bin/python3 bench/predict/overload.py --bin $(BUILD)/bin --helpers $(BUILD)/bench --out $(BUILD)/bench/overload.json $(if $(QUICK),--quick)

# Training and inference: our side of each is a program of the tensor core alone (and learn's safetensors writer).
#   ROWS=cnn,lstm-bf16   only these networks, or one precision of them      THREADS=1   bench-train without 2 threads
#   QUICK=1              three short rounds                                 ROUNDS=9
define bench_side
$(BUILD)/bench/$(1)-side: $(BUILD)/bench/$(1)/$(1).o $(BUILD)/bench/nets.o $(foreach l,learn spec tensor base,$(call lib,$(l)))
	@mkdir -p $$(@D)
	@$(CC) $(LDFLAGS) -o $$@ $$(filter %.o,$$^) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $(ext_bench)
endef
$(foreach s,train infer,$(eval $(call bench_side,$(s))))
bench_flags = $(if $(QUICK),--quick) $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS))
.PHONY: bench-train bench-infer
bench-train: ## training steps against PyTorch; QUICK=1, ROWS=cnn,lstm-bf16, THREADS=1
	@deploy/setup.sh bench
	@$(MAKE) --no-print-directory $(JOBS) $(BUILD)/bench/train-side
	@/usr/bin/python3 bench/train/bench.py --helper $(BUILD)/bench/train-side --out $(BUILD)/bench/train.json $(bench_flags) $(if $(THREADS),--threads $(THREADS))
bench-infer: ## answers against ONNX Runtime; QUICK=1, ROWS=mlp
	@deploy/setup.sh bench infer
	@$(MAKE) --no-print-directory $(JOBS) $(BUILD)/bench/infer-side
	@/usr/bin/python3 bench/infer/bench.py --helper $(BUILD)/bench/infer-side --out $(BUILD)/bench/infer.json $(bench_flags)
