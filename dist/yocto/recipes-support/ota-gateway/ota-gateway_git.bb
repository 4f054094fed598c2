SUMMARY = "Over-the-air update gateway with A/B slots and U-Boot"
HOMEPAGE = "https://example.invalid/ota-gateway"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE-MIT;md5=0a43741a18457b98922f3b862508d7ff \
                    file://LICENSE-APACHE;md5=22a53954e4e0ec258dfce4391e905dac"

# Where your copy of the sources is; SRCREV pins the commit.
OTA_GATEWAY_SRC ?= "git:///srv/git/ota-gateway.git;protocol=file;branch=main"
SRC_URI = "${OTA_GATEWAY_SRC}"
SRCREV ?= "${AUTOREV}"
S = "${WORKDIR}/git"

# Crates come from crates.io at build time, pinned by Cargo.lock. For builds without a network run
# `bitbake -c update_crates ota-gateway` (cargo-update-recipe-crates) and include the file it makes.
inherit cargo systemd pkgconfig
do_compile[network] = "1"
CARGO_BUILD_FLAGS += "-p ota-gatewayd -p ota-admin --locked"
# ring and SQLite compile C with the target's compiler, nothing is linked from the sysroot but libc.

SYSTEMD_SERVICE:${PN} = "ota-gatewayd.service"
# The first start needs this board's slots in the configuration.
SYSTEMD_AUTO_ENABLE = "${@'enable' if d.getVar('OTA_GATEWAY_CONFIG') else 'disable'}"

do_install() {
    install -Dm0755 ${B}/target/${CARGO_TARGET_SUBDIR}/ota-gatewayd ${D}${bindir}/ota-gatewayd
    install -Dm0755 ${B}/target/${CARGO_TARGET_SUBDIR}/ota-admin ${D}${bindir}/ota-admin
    install -Dm0644 ${S}/dist/systemd/ota-gatewayd.service ${D}${systemd_system_unitdir}/ota-gatewayd.service
    install -Dm0644 ${S}/dist/sysusers.d/ota-gateway.conf ${D}${nonarch_libdir}/sysusers.d/ota-gateway.conf
    install -Dm0644 ${S}/dist/tmpfiles.d/ota-gateway.conf ${D}${nonarch_libdir}/tmpfiles.d/ota-gateway.conf
    install -Dm0640 ${@d.getVar('OTA_GATEWAY_CONFIG') or '${S}/dist/config/gateway.toml'} ${D}${sysconfdir}/ota-gateway/gateway.toml
    install -Dm0644 ${S}/dist/u-boot/ota-boot.cmd ${D}${datadir}/ota-gateway/u-boot/ota-boot.cmd
}

CONFFILES:${PN} = "${sysconfdir}/ota-gateway/gateway.toml"
FILES:${PN} += "${nonarch_libdir}/sysusers.d ${nonarch_libdir}/tmpfiles.d ${datadir}/ota-gateway"
RDEPENDS:${PN} += "e2fsprogs-mke2fs"
