################################################################################
#
# ota-gateway
#
################################################################################

# Name your copy of the sources and a commit, for example in external.mk.
OTA_GATEWAY_VERSION ?= main
OTA_GATEWAY_SITE ?= /srv/git/ota-gateway.git
OTA_GATEWAY_SITE_METHOD = git
OTA_GATEWAY_LICENSE = MIT or Apache-2.0
OTA_GATEWAY_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE
OTA_GATEWAY_CARGO_BUILD_OPTS = -p ota-gatewayd -p ota-admin
OTA_GATEWAY_BUILT = $(@D)/target/$(RUSTC_TARGET_NAME)/$(if $(BR2_ENABLE_DEBUG),debug,release)
# Pages and manual pages are left out: Buildroot takes them from every target. Completions are made by the program itself.
OTA_GATEWAY_DEPENDENCIES = $(if $(BR2_PACKAGE_BASH),host-ota-gateway)
HOST_OTA_GATEWAY_CARGO_BUILD_OPTS = -p ota-admin
OTA_GATEWAY_CONFIG = $(call qstrip,$(BR2_PACKAGE_OTA_GATEWAY_CONFIG))

# The group may read the configuration. tmpfiles.d names it already when the image is built.
define OTA_GATEWAY_USERS
	- - ota-admin -1 * - - - OTA gateway
endef

ifneq ($(OTA_GATEWAY_CONFIG),)
define OTA_GATEWAY_INSTALL_CONFIG
	$(INSTALL) -D -m 0640 $(OTA_GATEWAY_CONFIG) $(TARGET_DIR)/etc/ota-gateway/gateway.toml
endef
define OTA_GATEWAY_PERMISSIONS
	/etc/ota-gateway/gateway.toml f 0640 0 ota-admin - - - - -
endef
endif

define OTA_GATEWAY_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(OTA_GATEWAY_BUILT)/ota-gatewayd $(TARGET_DIR)/usr/bin/ota-gatewayd
	$(INSTALL) -D -m 0755 $(OTA_GATEWAY_BUILT)/ota-admin $(TARGET_DIR)/usr/bin/ota-admin
	$(OTA_GATEWAY_INSTALL_CONFIG)
	$(INSTALL) -D -m 0644 $(@D)/dist/config/gateway.toml $(TARGET_DIR)/usr/share/ota-gateway/gateway.toml
	$(INSTALL) -D -m 0644 $(@D)/dist/keys/README $(TARGET_DIR)/usr/share/ota-gateway/keys/README
	$(INSTALL) -D -m 0644 $(@D)/dist/u-boot/ota-boot.cmd $(TARGET_DIR)/usr/share/ota-gateway/u-boot/ota-boot.cmd
	$(INSTALL) -D -m 0644 $(@D)/dist/tmpfiles.d/ota-gateway.conf $(TARGET_DIR)/usr/lib/tmpfiles.d/ota-gateway.conf
	$(INSTALL) -D -m 0644 $(@D)/dist/sysusers.d/ota-gateway.conf $(TARGET_DIR)/usr/lib/sysusers.d/ota-gateway.conf
	$(INSTALL) -D -m 0644 $(@D)/docs/reference/gateway.schema.json $(TARGET_DIR)/usr/share/ota-gateway/gateway.schema.json
	$(OTA_GATEWAY_INSTALL_COMPLETIONS)
endef

ifeq ($(BR2_PACKAGE_BASH),y)
define OTA_GATEWAY_INSTALL_COMPLETIONS
	mkdir -p $(TARGET_DIR)/usr/share/bash-completion/completions
	$(HOST_DIR)/bin/ota-admin completions bash > $(TARGET_DIR)/usr/share/bash-completion/completions/ota-admin
endef
endif

define OTA_GATEWAY_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/dist/systemd/ota-gatewayd.service $(TARGET_DIR)/usr/lib/systemd/system/ota-gatewayd.service
	$(INSTALL) -D -m 0644 $(@D)/dist/systemd/ota-factory-reset.service $(TARGET_DIR)/usr/lib/systemd/system/ota-factory-reset.service
endef

define HOST_OTA_GATEWAY_INSTALL_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/release/ota-admin $(HOST_DIR)/bin/ota-admin
endef

$(eval $(cargo-package))
$(eval $(host-cargo-package))
