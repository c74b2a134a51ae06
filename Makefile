# make build                              the binaries
# make install DESTDIR=... PREFIX=/usr    everything in place; touches no running system, needs no network
#
# PROFILE=dist (small, for packages), release or dev.

PROFILE ?= dist
PREFIX ?= /usr
DESTDIR ?=
SYSCONFDIR ?= /etc
CARGO ?= cargo
INSTALL ?= install

OUT = target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
BASE = $(DESTDIR)$(PREFIX)

.DEFAULT_GOAL = build

include lab.mk

.PHONY: build install

build:
	$(CARGO) build --locked --profile $(PROFILE) --bins

# Built beforehand, so that root needs no toolchain.
install:
	@test -x $(OUT)/ha-node -a -x $(OUT)/hactl || { echo "run 'make build PROFILE=$(PROFILE)' first" >&2; exit 1; }
	$(INSTALL) -D -m 755 $(OUT)/ha-node $(BASE)/sbin/ha-node
	$(INSTALL) -D -m 755 $(OUT)/hactl $(BASE)/bin/hactl
	$(INSTALL) -d -m 755 $(BASE)/lib/systemd/system
	for unit in ha-node.service ha-node-release.service; do \
		sed 's|/usr/sbin/|$(PREFIX)/sbin/|' systemd/$$unit > $(BASE)/lib/systemd/system/$$unit && \
		chmod 644 $(BASE)/lib/systemd/system/$$unit || exit 1; \
	done
	$(INSTALL) -D -m 644 systemd/ha-node.sysusers $(BASE)/lib/sysusers.d/ha-node.conf
	$(INSTALL) -D -m 644 systemd/ha-node.catalog $(BASE)/lib/systemd/catalog/ha-node.catalog
	$(INSTALL) -D -m 644 dbus-policy/org.linuxha.Cluster.conf $(BASE)/share/dbus-1/system.d/org.linuxha.Cluster.conf
	$(INSTALL) -D -m 644 dbus-policy/org.linuxha.cluster.policy $(BASE)/share/polkit-1/actions/org.linuxha.cluster.policy
	$(INSTALL) -d -m 755 $(DESTDIR)$(SYSCONFDIR)/ha-node/conf.d
