# SPDX-License-Identifier: GPL-2.0-only
#
# Everything is built and run in the sandbox (scripts/sandbox), which is made
# on first use. With KDIR= or KERNEL=, the module is built on this machine instead,
# for that kernel tree or release; with HERE=1, the rest. All output goes to build/.

SANDBOX  := scripts/sandbox
out      := $(CURDIR)/build
# Those for another kernel than the usual one are to be elsewhere.
MODULES  := $(out)
built_in := $(abspath $(MODULES))

# What depends on kernel and iptables most.
forky_tests := rules.t extension.t immediate.t deferred.t

# Verbs for which a sandbox is needed: outside of one, go there.
inside := check check-debug check-host check-packages fuzz fmt style demo bench vm-shell deb
ifdef XTSP_SANDBOX
HERE := 1
KDIR ?= /kdir
endif
ifdef KERNEL
KDIR := $(or $(shell scripts/rust-metadata tree $(KERNEL)),$(error cannot build for kernel $(KERNEL)))
endif
ifndef HERE
inside += extension examples fuzzer
endif
ifndef KDIR
inside += module
endif

.PHONY: help module injector xdp_synproxy extension examples fuzzer check check-debug check-forky \
	check-host check-packages fuzz fmt style demo bench vm-shell deb sandbox install uninstall \
	clean distclean

module: ## build xt_SYNPROXY.ko (KDIR=, KERNEL=: here, for that kernel)
extension: ## build libxt_SYNPROXY.so and libxt_spstate.so, the iptables extensions, and xt-synproxy
examples: ## build the DPI examples
fuzzer: ## build what sends random packets in selftests/fuzz.t
demo: ## show a connection held at the gate, and one let through
bench: ## measure it, into build/bench (FAMILY=6: with IPv6; WORKLOADS=flood: that only; COMPARE=DIR: with that)
check: ## run all tests; the last line counts them
check-debug: ## run the selftests in User-mode Linux with KASAN, lockdep, kmemleak (TESTS=faults.t: that only)
check-forky: ## build for the kernel of Debian's next release, and run a few tests there
check-packages: ## run only what installs the packages on a machine of their own
check-host: ## run only the tests of the protocol core
fuzz: ## look for what breaks the protocol core (DURATION=60: seconds each; PROPERTIES=hold: that only)
style: ## check formatting, lints and scripts
fmt: ## format the Rust sources
vm-shell: ## a prompt in the virtual machine
deb: ## build the Debian packages, into build/deb, and have lintian look at them
install: ## install what is built (DESTDIR=, prefix=, and the like)
uninstall: ## remove what that installs

help: ## list these verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

sandbox: ## make the sandbox, unless it is there
	@$(SANDBOX) build

clean: ## remove what was built
	rm -rf $(out)

distclean: clean ## ... and the sandbox, and what cargo downloaded
	$(SANDBOX) clean

ifndef XTSP_SANDBOX
# In a sandbox of its own. All tests there: make check SUITE=forky.
check-forky:
	@$(SANDBOX) --suite forky run -- scripts/tap 'scripts/check build' -- \
		'scripts/vm --timeout 1800 --out build/vm-forky -- selftests/run --family 4 --backend nft $(forky_tests)'

$(inside):
	@# from wherever it is to where the sandbox has it, and what is measured now does not go
	@$(if $(COMPARE),rm -rf $(out)/before.new && mkdir -p $(out) && \
		cp -r '$(COMPARE)' $(out)/before.new && rm -rf $(out)/before && mv $(out)/before.new $(out)/before)
	@$(SANDBOX) run -- $(MAKE) --no-print-directory $@ $(foreach name,V FAMILY WORKLOADS DURATION PROPERTIES TESTS,$(if $($(name)),$(name)='$($(name))')) \
		$(if $(COMPARE),COMPARE=build/before)
endif

ifdef KDIR
release  := $(shell cat $(KDIR)/include/config/kernel.release 2>/dev/null)
compiler := $(shell sed -n 's/^CONFIG_CC_VERSION_TEXT="\(.*\)"/\1/p' $(KDIR)/.config 2>/dev/null)
# The compiler of the kernel itself; a clang brings its own linker along.
toolchain := $(if $(LLVM),LLVM=$(LLVM),$(if $(findstring clang,$(compiler)),LLVM=1,CC=$(firstword $(compiler))))

user_mode := $(shell sed -n 's/^CONFIG_UML=y/ARCH=um/p' $(KDIR)/.config 2>/dev/null)

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
endif

# The usual variables, with the usual meanings.
DESTDIR        ?=
prefix         ?= /usr/local
bindir         ?= $(prefix)/bin
sbindir        ?= $(prefix)/sbin
mandir         ?= $(prefix)/share/man
# Without pkg-config or what it reads: where iptables has its own.
xtlibdir       ?= $(or $(shell pkg-config --variable=xtlibdir xtables 2>/dev/null),$(patsubst \
	%/libxt_tcp.so,%,$(firstword $(wildcard $(addsuffix /xtables/libxt_tcp.so,/usr/lib/* /usr/lib /usr/lib64)))))
modulesdir     ?= /usr/lib/modules
modprobedir    ?= /etc/modprobe.d
bashcompdir    ?= $(prefix)/share/bash-completion/completions
zshcompdir     ?= $(prefix)/share/zsh/site-functions
fishcompdir    ?= $(prefix)/share/fish/vendor_completions.d
modulesloaddir ?= $(if $(filter /etc/%,$(modprobedir)),/etc,/usr/lib)/modules-load.d

INSTALL         ?= install
INSTALL_PROGRAM ?= $(INSTALL)
INSTALL_DATA    ?= $(INSTALL) -m 644

libraries := libxt_SYNPROXY.so libxt_spstate.so
engines   := dpi-http dpi-ndpi
tool      := xt-synproxy
# What the tool writes about itself.
generated := $(out)/generated

# Whatever of it has been built: scripts/vm installs with this, too.
built      = $(wildcard $(addprefix $(out)/$(1)/,$(2)))
to         = $(DESTDIR)$(1)
ko         = $(wildcard $(built_in)/module/xt_SYNPROXY.ko)
# The kernel that it was built for. (modinfo is not everywhere, nor in every PATH.)
module_of  = $(or $(shell tr '\0' '\n' <$(ko) | sed -n 's/^vermagic=\([^ ]*\).*/\1/p'),$(error $(ko) is no module))
extensions = $(or $(xtlibdir),$(error where does iptables have its extensions? None of them is in \
	/usr/lib/*/xtables, /usr/lib/xtables or /usr/lib64/xtables: install iptables, or say xtlibdir=DIR))
stock      = $(extensions)/libxt_SYNPROXY.so
load_conf  = $(call to,$(modprobedir)/xt_SYNPROXY-load.conf) $(call to,$(modulesloaddir)/xt_SYNPROXY-load.conf)
# Only on the machine itself: a package has to do this when it is installed.
on_target  = $(if $(DESTDIR),@:,$(1))

# The library of that name that comes with iptables is set aside, and comes back. dpkg does that, and
# upgrades of iptables keep to it; without dpkg there is a copy. Ours is the one that knows --defer.
divert     = dpkg-divert --quiet --local --rename
is_ours    = grep -qs -e --defer $(stock)

# The package has a diversion of its own.
define no_package
	@if [ "$$(dpkg-divert --listpackage $(stock) 2>/dev/null)" = xt-synproxy ]; then \
		echo 'make $@: the package xt-synproxy is installed: apt remove it first' >&2; \
		exit 1; \
	fi
endef

define set_aside
	if command -v dpkg-divert >/dev/null; then \
		$(divert) --add $(stock); \
	elif [ -e $(stock) ] && ! $(is_ours); then \
		cp -p $(stock) $(stock).distrib; \
	fi
endef

define bring_back
	@case "$$(dpkg-divert --listpackage $(stock) 2>/dev/null)" in \
	LOCAL) rm -f $(stock) && $(divert) --remove $(stock) ;; \
	'') if [ -e $(stock) ] && ! $(is_ours); then rm -f $(stock).distrib; \
		elif [ -e $(stock).distrib ]; then mv $(stock).distrib $(stock); \
		else rm -f $(stock); fi ;; \
	esac
endef

install:
	$(if $(call built,cargo/release,$(libraries)),$(call on_target,$(no_package)))
	$(if $(ko),$(INSTALL_DATA) -D -t $(call to,$(modulesdir)/$(module_of)/updates) $(ko))
	$(if $(ko),$(call on_target,depmod $(module_of)))
	$(INSTALL_DATA) -D iptables-ext/xt_SYNPROXY.modprobe.conf $(word 1,$(load_conf))
	$(INSTALL_DATA) -D iptables-ext/xt_SYNPROXY.modules-load.conf $(word 2,$(load_conf))
	$(if $(call built,cargo/release,$(libraries)),$(call on_target,$(set_aside)))
	$(if $(call built,cargo/release,$(libraries)), \
		$(INSTALL_DATA) -D -t $(call to,$(extensions)) $(call built,cargo/release,$(libraries)))
	$(if $(call built,cargo/release,$(libraries)), \
		page=$$(soelim -r -I iptables-ext iptables-ext/xt_SYNPROXY.8) && printf '%s\n' "$$page" | \
		$(INSTALL_DATA) -D /dev/stdin $(call to,$(mandir)/man8/xt_SYNPROXY.8))
	$(foreach engine,$(notdir $(call built,cargo/release,$(engines))), \
		$(INSTALL_PROGRAM) -D -t $(call to,$(bindir)) $(out)/cargo/release/$(engine) && \
		$(INSTALL_DATA) -D -t $(call to,$(mandir)/man8) examples/$(engine)/$(engine).8 &&) :
	$(if $(call built,cargo/release,$(tool)), \
		$(INSTALL_PROGRAM) -D -t $(call to,$(sbindir)) $(out)/cargo/release/$(tool) && \
		$(INSTALL_DATA) -D -t $(call to,$(mandir)/man8) $(generated)/$(tool).8 && \
		$(INSTALL_DATA) -D $(generated)/$(tool).bash $(call to,$(bashcompdir)/$(tool)) && \
		$(INSTALL_DATA) -D -t $(call to,$(zshcompdir)) $(generated)/_$(tool) && \
		$(INSTALL_DATA) -D -t $(call to,$(fishcompdir)) $(generated)/$(tool).fish)

# A module that is loaded stays, until the next boot or rmmod.
uninstall:
	$(call on_target,$(no_package))
	rm -f $(call to,$(modulesdir)/*/updates/xt_SYNPROXY.ko)
	$(call on_target,for kernel in $(modulesdir)/*/modules.dep; do \
		depmod "$$(basename "$$(dirname "$$kernel")")"; done)
	rm -f $(load_conf)
	rm -f $(call to,$(extensions)/libxt_spstate.so) $(addprefix $(call to,$(bindir)/),$(engines))
	$(if $(DESTDIR),rm -f $(call to,$(stock)),$(bring_back))
	rm -f $(addprefix $(call to,$(mandir)/man8/),xt_SYNPROXY.8 $(addsuffix .8,$(engines) $(tool)))
	rm -f $(call to,$(sbindir)/$(tool)) $(call to,$(bashcompdir)/$(tool)) \
		$(call to,$(zshcompdir)/_$(tool)) $(call to,$(fishcompdir)/$(tool).fish)

ifdef HERE
export CARGO_TARGET_DIR := $(out)/cargo

extension:
	cargo build --release --locked --package libxt_SYNPROXY --package libxt_spstate --package $(tool)
	$(out)/cargo/release/$(tool) generate $(generated)

examples:
	cargo build --release --locked --package dpi-http --package dpi-ndpi --package transparent-proxy

fuzzer:
	cargo build --release --locked --package synproxy-fuzz
endif

ifdef XTSP_SANDBOX
# From a copy: dpkg-buildpackage leaves its files beside the source. The sandbox has what
# is needed, but not the package build-essential.
deb:
	rm -rf $(out)/deb
	mkdir -p $(out)/deb/source/build $(out)/cargo
	tar -c --exclude=./build --exclude=./target --exclude=./.git . | tar -x -C $(out)/deb/source
	@# crates need not be built twice
	ln -s $(out)/cargo $(out)/deb/source/build/cargo
	cd $(out)/deb/source && dpkg-buildpackage --no-check-builddeps --build=binary --no-sign
	rm -rf $(out)/deb/source
	@# the lines "install" in modprobe.d: a softdep cannot take the place of a module
	lintian --suppress-tags obsolete-command-in-modprobe.d-file --fail-on error,warning,info --info --display-info --tag-display-limit 0 $(out)/deb/*.changes

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

# $(call debug,SECONDS,NAME,ENVIRONMENT,TESTS): in a kernel that looks for bugs, with build/debug/NAME for its logs.
debug = scripts/uml debug --timeout $(1) --out build/debug/$(2) -- env $(3) selftests/run --backend nft $(4)
# With "make check" those of which nothing else is like them, with less of each.
debug_little := RULES=5 NAMESPACES=30 RELOADS=3 \
	SCENARIOS="^(close_by_client|data_while_opening|fragments_client|second_segment_before_first)\$$"
debug_much   := RULES=50 NAMESPACES=1000 RELOADS=200 BLOBS=5000 PACKETS=200000
modules_debug := $(MAKE) --no-print-directory -s modules-debug >&2

check:
	@scripts/tap scripts/check -- selftests/packages \
		'$(modules_debug) && $(call debug,1800,little,$(debug_little),--family 4 faults.t churn.t)' -- $(foreach family,4 6, \
		'scripts/vm --timeout 4800 --out build/vm-ipv$(family) -- selftests/run --family $(family)')

check-packages:
	@scripts/tap selftests/packages

# A machine for each file and version of IP: what one finds hides nothing of the next.
check-debug: extension examples fuzzer
	@$(modules_debug)
	@scripts/tap $(foreach file,$(or $(TESTS),$(notdir $(sort $(wildcard selftests/*.t)))), -- \
		$(foreach family,4 6,'$(call debug,3600,$(basename $(file))-$(family),$(debug_much),--family $(family) $(file))'))

check-host:
	cargo test --locked --package synproxy-tcp --package synproxy-tcp-fuzz

fuzz:
	@scripts/fuzz --seconds $(or $(DURATION),60) $(PROPERTIES)

style:
	@scripts/tap 'scripts/check style'

fmt:
	cargo fmt --all
	rustfmt rust/main.rs selftests/bench/inject/main.rs

vm-shell:
	@scripts/vm --shell
endif
