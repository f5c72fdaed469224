# SPDX-License-Identifier: GPL-2.0-only
#
# Everything is built and run in the sandbox (scripts/sandbox), which is made
# on first use. With KDIR=, the module is built on this machine instead, for
# that kernel tree. All output goes to build/.

SANDBOX := scripts/sandbox
out     := $(CURDIR)/build
# Those for another kernel than the usual one are to be elsewhere.
MODULES := $(out)

# Verbs for which a sandbox is needed: outside of one, go there.
inside := extension examples check check-host fmt style demo bench vm-shell
ifdef XTSP_SANDBOX
KDIR ?= /kdir
endif
ifndef KDIR
inside += module install
endif

.PHONY: help module injector xdp_synproxy extension examples check check-host fmt style demo \
	bench vm-shell sandbox install clean distclean

module: ## build xt_SYNPROXY.ko (KDIR=: here, for that kernel tree)
extension: ## build libxt_SYNPROXY.so and libxt_spstate.so, the iptables extensions
examples: ## build the DPI examples
demo: ## show a connection held at the gate, and one let through
bench: ## measure it, into build/bench (FAMILY=6: with IPv6; WORKLOADS=flood: that only; COMPARE=DIR: with that)
check: ## run all tests; the last line counts them
check-host: ## run only the unit tests of the protocol core
style: ## check formatting, lints and scripts
fmt: ## format the Rust sources
vm-shell: ## a prompt in the virtual machine
install: ## install what is built (DESTDIR=)

help: ## list these verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

sandbox: ## make the sandbox, unless it is there
	@$(SANDBOX) build

clean: ## remove what was built
	rm -rf $(out)

distclean: clean ## ... and the sandbox, and what cargo downloaded
	$(SANDBOX) clean

ifndef XTSP_SANDBOX
$(inside):
	@# from wherever it is to where the sandbox has it, and what is measured now does not go
	@$(if $(COMPARE),rm -rf $(out)/before.new && mkdir -p $(out) && \
		cp -r '$(COMPARE)' $(out)/before.new && rm -rf $(out)/before && mv $(out)/before.new $(out)/before)
	@$(SANDBOX) run -- $(MAKE) --no-print-directory $@ $(foreach name,V FAMILY WORKLOADS,$(if $($(name)),$(name)='$($(name))')) \
		$(if $(COMPARE),COMPARE=build/before)
endif

ifdef KDIR
release  := $(shell cat $(KDIR)/include/config/kernel.release 2>/dev/null)
compiler := $(shell sed -n 's/^CONFIG_CC_VERSION_TEXT="\([^ ]*\).*/\1/p' $(KDIR)/.config 2>/dev/null)
# The compiler of the kernel itself; a clang brings its own linker along.
toolchain := $(if $(LLVM),LLVM=$(LLVM),$(if $(findstring clang,$(compiler)),LLVM=1,CC=$(compiler)))

user_mode := $(shell sed -n 's/^CONFIG_UML=y/ARCH=um/p' $(KDIR)/.config 2>/dev/null)
built_in  := $(abspath $(MODULES))

# $(call kbuild,FROM,TO): all modules of FROM/Kbuild, into MODULES/TO. Never mixes the
# objects of two kernels.
define kbuild
	$(if $(release),,$(error KDIR=$(KDIR) is not a prepared kernel tree))
	@mkdir -p $(built_in)/$(2)
	@id="$(KDIR) $$(stat -Lc '%Y %i' $(KDIR)/Module.symvers) $(toolchain)"; \
	if [ "$$id" != "$$(cat $(built_in)/$(2)/.kernel 2>/dev/null)" ]; then \
		rm -rf $(built_in)/$(2) && mkdir $(built_in)/$(2) && \
		echo "$$id" >$(built_in)/$(2)/.kernel; \
	fi
	+@$(MAKE) -C $(KDIR) M=$(1) MO=$(built_in)/$(2) $(toolchain) $(user_mode) \
		--no-print-directory -j$(shell nproc) modules
endef

module:
	$(call kbuild,$(CURDIR),module)

# For "make bench" only: it is never installed.
injector:
	$(call kbuild,$(CURDIR)/selftests/bench/inject,inject)

# Whatever of it has been built: scripts/vm installs with this, too.
modules_dir := $(DESTDIR)/usr/lib/modules/$(release)
xtables_dir := $(DESTDIR)$(shell pkg-config --variable=xtlibdir xtables 2>/dev/null || echo /usr/lib/xtables)
built        = $(wildcard $(out)/$(1))

install:
	$(if $(wildcard $(built_in)/module/xt_SYNPROXY.ko), \
		install -D -m 644 -t $(modules_dir)/updates $(built_in)/module/xt_SYNPROXY.ko)
	$(if $(wildcard $(built_in)/module/xt_SYNPROXY.ko), \
		install -D -m 644 iptables-ext/xt_SYNPROXY.modprobe.conf $(DESTDIR)/etc/modprobe.d/xt_SYNPROXY.conf)
	@# the one of that name that comes with iptables stays, and does not come back
	$(if $(DESTDIR),,$(if $(call built,cargo/release/libxt_SYNPROXY.so), \
		! command -v dpkg-divert >/dev/null || \
		dpkg-divert --quiet --local --rename --add $(xtables_dir)/libxt_SYNPROXY.so))
	$(if $(call built,cargo/release/libxt_*.so), \
		install -D -m 644 -t $(xtables_dir) $(call built,cargo/release/libxt_*.so))
	$(if $(call built,cargo/release/dpi-http), \
		install -D -t $(DESTDIR)/usr/local/bin $(out)/cargo/release/dpi-http)
	$(if $(call built,cargo/release/dpi-ndpi), \
		install -D -t $(DESTDIR)/usr/local/bin $(out)/cargo/release/dpi-ndpi)
	$(if $(DESTDIR),,depmod $(release))
endif

ifdef XTSP_SANDBOX
export CARGO_TARGET_DIR := $(out)/cargo

extension:
	cargo build --release --locked --package libxt_SYNPROXY --package libxt_spstate

examples:
	cargo build --release --locked --package dpi-http --package dpi-ndpi

demo: module extension examples
	@scripts/vm -- selftests/demo.sh

# For "make bench" only: what it compares with, a SYN proxy in XDP, compiled from the
# selftests in the kernel's source.
selftests_bpf := /usr/src/linux-source/tools/testing/selftests/bpf
xdp           := $(out)/xdp/$(release)

xdp_synproxy: $(xdp)/xdp_synproxy $(xdp)/xdp_synproxy_kern.bpf.o

$(xdp)/xdp_synproxy: $(selftests_bpf)/xdp_synproxy.c
	@mkdir -p $(@D)
	gcc -O2 -Wall -o $@ $< -lbpf

$(xdp)/xdp_synproxy_kern.bpf.o: $(selftests_bpf)/progs/xdp_synproxy_kern.c $(xdp)/vmlinux.h
	clang --target=bpf -mcpu=v3 -O2 -g -std=gnu11 -fno-strict-aliasing -fms-extensions \
		-Wall -Wno-microsoft-anon-tag -Wno-compare-distinct-pointer-types -I$(@D) \
		-idirafter /usr/include/$$(gcc -print-multiarch) -c -o $@ $<

$(xdp)/vmlinux.h: /usr/lib/modules/$(release)/vmlinuz
	@mkdir -p $(@D)
	/usr/src/linux-source/scripts/extract-vmlinux $< >$(@D)/vmlinux
	bpftool btf dump file $(@D)/vmlinux format c >$@.new
	@rm $(@D)/vmlinux
	@mv $@.new $@

workloads := $(or $(WORKLOADS),flood connection bulk first-byte crowd flood-native connection-native smp)
results   := $(foreach workload,$(workloads),build/bench/$(workload)-ipv$(or $(FAMILY),4).json)

# None of these is from an earlier time.
bench: module extension examples injector xdp_synproxy $(if $(filter %-native smp,$(workloads)),modules-native)
	@rm -f $(results) build/bench/bench.svg
	@for workload in $(workloads); do \
		case $$workload in \
		*-native | smp) machine="scripts/uml native" ;; \
		*) machine="scripts/vm --icount" ;; \
		esac; \
		$$machine --timeout 3600 --out build/bench -- env FAMILY=$(or $(FAMILY),4) \
			selftests/bench/$${workload%-native} || exit; \
	done
	@selftests/bench/plot.py --svg build/bench/bench.svg $(results)
	@$(if $(COMPARE),selftests/bench/compare.py $(COMPARE) $(results))

# Those for User-mode Linux: scripts/uml wants them there.
modules-%:
	@kdir=$$(scripts/uml $* --kdir) && \
		$(MAKE) --no-print-directory module injector KDIR="$$kdir" MODULES=build/uml-$*

check:
	@scripts/tap scripts/check -- $(foreach family,4 6, \
		'scripts/vm --timeout 4800 --out build/vm-ipv$(family) -- selftests/run --family $(family)')

check-host:
	cargo test --locked --package synproxy-tcp

style:
	@scripts/tap 'scripts/check style'

fmt:
	cargo fmt --all
	rustfmt rust/main.rs selftests/bench/inject/main.rs

vm-shell:
	@scripts/vm --shell
endif
